//! Routes of generic handlers, described as `#[utoipa::path]` describes those of one type.
//!
//! That macro names schemas as it reads the source, so it cannot describe a handler that serves
//! several kinds of resource. Here the same is said with types: what an operation takes and
//! answers is given as a type parameter, and its schema comes with it.

use axum::{handler::Handler, routing::MethodRouter};
use serde::Serialize;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        HttpMethod, Ref, RefOr, Required,
        content::ContentBuilder,
        header::HeaderBuilder,
        path::{OperationBuilder, ParameterBuilder, ParameterIn, Paths},
        request_body::RequestBodyBuilder,
        response::ResponseBuilder,
        schema::{ObjectBuilder, Schema, Type},
    },
};
use utoipa_axum::{PathItemExt, router::UtoipaMethodRouter};

use super::{app::Edge, respond::Page};

type Schemas = Vec<(String, RefOr<Schema>)>;

const JSON: &str = "application/json";

/// What an operation takes and answers.
pub struct Described {
    operation: OperationBuilder,
    schemas: Schemas,
}

impl Described {
    /// `id` is unique in the document; `summary` says what it does.
    pub fn new(tag: &str, id: impl Into<String>, summary: &str) -> Self {
        let operation = OperationBuilder::new().tag(tag);
        let operation = operation.operation_id(Some(id)).summary(Some(summary));
        Self {
            operation,
            schemas: Schemas::new(),
        }
    }

    fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name()).into()
    }

    /// An id in the path, described where it stands.
    pub fn id<T: PartialSchema>(self, name: &str) -> Self {
        self.in_path(name, T::schema())
    }

    /// An id in the path that many routes have.
    pub fn shared_id<T: ToSchema>(mut self, name: &str) -> Self {
        let schema = self.reference::<T>();
        self.in_path(name, schema)
    }

    fn in_path(mut self, name: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// Headers or a query.
    pub fn parameters<P: IntoParams>(mut self) -> Self {
        for parameter in P::into_params(|| None) {
            self.operation = self.operation.parameter(parameter);
        }
        self
    }

    /// A body that must be there.
    pub fn takes<T: ToSchema>(self) -> Self {
        self.body::<T>(Some(Required::True))
    }

    /// A body that may be left out.
    pub fn may_take<T: ToSchema>(self) -> Self {
        self.body::<T>(None)
    }

    fn body<T: ToSchema>(mut self, required: Option<Required>) -> Self {
        let content = ContentBuilder::new().schema(Some(self.reference::<T>()));
        let body = RequestBodyBuilder::new().content(JSON, content.build());
        let body = body.required(required).build();
        self.operation = self.operation.request_body(Some(body));
        self
    }

    /// `201` with what is new.
    pub fn creates<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = self.reference::<T>();
        self.answers("201", description, Some(schema), false)
    }

    /// `200` with something that has a version.
    pub fn shows<T: ToSchema>(mut self, description: &str) -> Self {
        let schema = self.reference::<T>();
        self.answers("200", description, Some(schema), true)
    }

    /// `200` with a page.
    pub fn lists<T: ToSchema + Serialize>(mut self, description: &str) -> Self {
        let name = format!("{}_{}", Page::<T>::name(), T::name());
        self.schemas.push((name.clone(), Page::<T>::schema()));
        self.reference::<T>();
        let schema = Ref::from_schema_name(name).into();
        self.answers("200", description, Some(schema), false)
    }

    /// `204`.
    pub fn ends(self, description: &str) -> Self {
        self.answers("204", description, None, false)
    }

    fn answers(
        mut self,
        status: &str,
        description: &str,
        schema: Option<RefOr<Schema>>,
        has_version: bool,
    ) -> Self {
        let mut response = ResponseBuilder::new().description(description);
        if let Some(schema) = schema {
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response = response.content(JSON, content);
        }
        if has_version {
            let text = ObjectBuilder::new().schema_type(Type::String).build();
            let header = HeaderBuilder::new()
                .schema(Some(text))
                .description(Some("The version in quotes."));
            response = response.header("ETag", header.build());
        }
        self.operation = self.operation.response(status, response.build());
        self
    }
}

/// The handlers of one path.
pub struct Routes {
    path: String,
    schemas: Schemas,
    paths: Paths,
    handlers: MethodRouter<Edge>,
}

impl Routes {
    /// None yet.
    pub fn at(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            schemas: Schemas::new(),
            paths: Paths::new(),
            handlers: MethodRouter::new(),
        }
    }

    /// One more, with what it takes and answers.
    pub fn on<H, T>(mut self, method: HttpMethod, handler: H, described: Described) -> Self
    where
        H: Handler<T, Edge>,
        T: 'static,
    {
        self.handlers = self.handlers.on(method.to_method_filter(), handler);
        let operation = described.operation.build();
        self.paths
            .add_path_operation(&self.path, vec![method], operation);
        self.schemas.extend(described.schemas);
        self
    }

    /// All of them, for a router.
    pub fn done(self) -> UtoipaMethodRouter<Edge> {
        (self.schemas, self.paths, self.handlers)
    }
}
