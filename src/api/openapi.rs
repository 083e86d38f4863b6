//! The OpenAPI 3.1 document, the pages that show it, and the pages that explain problems.
//!
//! The document is made from the handlers' own attributes, so it cannot describe what is not
//! there; [`document`] adds what holds everywhere (bearer tokens, problems, request ids).
//! Nothing here needs a network: the viewer comes with the program.
//!
//! To add a route: `#[utoipa::path]` on its handler, and `routes!(handler)` in its
//! resource's `routes()`, merged in [`super::routes`].

use axum::{
    Extension, Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{Html, IntoResponse},
};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, Header, Ref, RefOr, Response,
        path::{Operation, PathItem},
        schema::{ObjectBuilder, Schema, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{
    problem::{PROBLEM_JSON, Problem, ProblemBody, ProblemCode},
    query::Path,
    values::Position,
};

const DOCUMENT_PATH: &str = "/openapi.json";
const PROBLEM: &str = "Problem";
const REQUEST_ID: &str = "X-Request-Id";
const POSITION: &str = "Crewlog-Position";
const REPLAYED: &str = "Idempotent-Replayed";
const LOCATION: &str = "Location";
const ETAG: &str = "ETag";
const RATE_LIMIT_POLICY: &str = "RateLimit-Policy";
const RATE_LIMIT: &str = "RateLimit";

/// The headers that answers share.
const HEADERS: [(&str, &str); 7] = [
    (
        REQUEST_ID,
        "The id of the request: taken over, or made; at most 128 characters.",
    ),
    (
        POSITION,
        "The position in the log that a write has, or that a read was made at.",
    ),
    (
        REPLAYED,
        "`true` when this answer was given before, under the same `Idempotency-Key`.",
    ),
    (LOCATION, "The path of what was made."),
    (ETAG, "The version in quotes, for `If-Match`."),
    (
        RATE_LIMIT_POLICY,
        "How many requests a minute the workspace may be sent: `\"workspace\";q=600;w=60`.",
    ),
    (
        RATE_LIMIT,
        "How many more would be admitted now, and in how many seconds as many as can be would be \
         again: `\"workspace\";r=36;t=1`.",
    ),
];

/// Swagger UI sets styles from its script and shows pictures from data URIs.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the document says before any route is in it.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Crewlog",
        description = "An event-sourced, audit-first control plane. Every write answers with its position in the log."
    ),
    servers((url = "/", description = "this server")),
    security(("bearer" = [])),
    components(schemas(ProblemBody, Position)),
)]
struct Skeleton;

/// Completes the document that a router's handlers made.
pub fn document(of_routes: openapi::OpenApi) -> openapi::OpenApi {
    let mut document = Skeleton::openapi();
    document.merge(of_routes);
    let components = document.components.get_or_insert_default();
    components
        .security_schemes
        .insert("bearer".to_owned(), RefOr::T(bearer()));
    components
        .responses
        .insert(PROBLEM.to_owned(), RefOr::T(problem()));
    let headers = HEADERS.map(|(name, about)| (name.to_owned(), RefOr::T(text_header(about))));
    components.headers.extend(headers);
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    // What takes the rest of a path is marked for the router alone.
    document.paths.paths = paths
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    for (path, item) in &mut document.paths.paths {
        let versioned = path.starts_with("/v1/");
        let paced = path.starts_with("/v1/workspaces/{ws}");
        let PathItem {
            get,
            put,
            post,
            delete,
            patch,
            ..
        } = item;
        get.iter_mut()
            .for_each(|operation| complete(operation, versioned, false, paced));
        let writing = [put, post, delete, patch].into_iter().flatten();
        writing.for_each(|operation| complete(operation, versioned, true, paced));
    }
    document
}

/// What every operation can answer. `ETag` on `200` is for the handler to declare: not every
/// answer has a version.
fn complete(operation: &mut Operation, versioned: bool, writes: bool, paced: bool) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.content.values_mut().for_each(without_null);
    }
    let responses = &mut operation.responses.responses;
    let problem = RefOr::Ref(Ref::from_response_name(PROBLEM));
    responses.entry("default".to_owned()).or_insert(problem);
    for (status, response) in responses {
        let RefOr::T(response) = response else {
            continue;
        };
        let good = versioned && status.starts_with('2');
        let created = status == "201";
        for (name, there) in [
            (REQUEST_ID, true),
            (POSITION, good),
            (REPLAYED, good && writes),
            (LOCATION, created),
            (ETAG, created),
            (RATE_LIMIT_POLICY, paced && good),
            (RATE_LIMIT, paced && good),
        ] {
            if there {
                let header = RefOr::Ref(Ref::new(format!("#/components/headers/{name}")));
                response.headers.entry(name.to_owned()).or_insert(header);
            }
        }
    }
}

/// A body that may be left out is not one that may be `null`.
fn without_null(content: &mut RefOr<Content>) {
    if let RefOr::T(content) = content
        && let Some(RefOr::T(Schema::OneOf(choice))) = &content.schema
        && let [body @ RefOr::Ref(_), RefOr::T(Schema::Object(_))] = choice.items.as_slice()
    {
        content.schema = Some(body.clone());
    }
}

fn bearer() -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some("A session token or an API key.".to_owned());
    SecurityScheme::Http(scheme)
}

fn problem() -> Response {
    let schema = Ref::from_schema_name(PROBLEM);
    let mut response = Response::new("What went wrong (RFC 9457); `code` says it for programs.");
    let content = Content::new(Some(schema));
    response
        .content
        .insert(PROBLEM_JSON.to_owned(), content.into());
    let header = Ref::new(format!("#/components/headers/{REQUEST_ID}"));
    response
        .headers
        .insert(REQUEST_ID.to_owned(), RefOr::Ref(header));
    response
}

fn text_header(about: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    let mut header = Header::new(schema.build());
    header.description = Some(about.to_owned());
    header
}

/// The routes of this file that the document itself describes.
pub(super) fn described<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    OpenApiRouter::new()
        .routes(routes!(openapi_json))
        .routes(routes!(problem_page))
}

/// `/docs`, and the document behind `GET /openapi.json`, written out once.
///
/// # Errors
/// Where the document cannot be written as JSON.
pub(super) fn served<S>(
    router: Router<S>,
    document: &openapi::OpenApi,
) -> Result<Router<S>, serde_json::Error>
where
    S: Clone + Send + Sync + 'static,
{
    let json = Document(Bytes::from(document.to_pretty_json()?));
    let policy = HeaderValue::from_static(DOCS_POLICY);
    let policy = SetResponseHeaderLayer::if_not_present(header::CONTENT_SECURITY_POLICY, policy);
    let viewer = SwaggerUi::new("/docs").config(Config::from(DOCUMENT_PATH));
    let viewer = Router::from(viewer).layer(policy);
    Ok(router.layer(Extension(json)).merge(viewer))
}

#[derive(Clone)]
struct Document(Bytes);

/// This document.
#[utoipa::path(
    get, path = DOCUMENT_PATH, tag = "meta", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
async fn openapi_json(Extension(Document(json)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json)
}

/// What a problem means and what to do about it: the page behind its `type`.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "meta", security(()),
    params(("code" = String, Path, description = "`code` of a problem")),
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html")),
)]
async fn problem_page(Path(code): Path<String>) -> Result<Html<String>, Problem> {
    let kind = ProblemCode::named(&code)
        .ok_or_else(Problem::not_found)?
        .kind();
    Ok(Html(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{code}</title>\n\
         <style>body{{font:1rem/1.5 system-ui;max-width:40rem;margin:3rem auto;padding:0 1rem}}</style>\n\
         <h1>{title}</h1>\n<p><code>{code}</code>, status {status}</p>\n<p>{advice}</p>\n</html>\n",
        code = kind.code,
        title = escaped(kind.title),
        status = kind.status.as_u16(),
        advice = escaped(kind.advice),
    )))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, http::StatusCode};
    use tower::ServiceExt;

    use utoipa_axum::{router::OpenApiRouter, routes};

    use crate::api::{
        EdgeSettings,
        headers::{IdempotencyKey, IfMatch},
        middleware::layers,
        paging::PageQuery,
        testing::{json_of, text_of},
    };

    async fn ask(uri: &str) -> axum::response::Response {
        let (router, described) = super::described::<()>().split_for_parts();
        let router = super::served(router, &super::document(described)).expect("a document");
        let router = layers(router, &EdgeSettings::default());
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("infallible")
    }

    #[tokio::test]
    async fn the_document_is_openapi_3_1_and_says_what_holds_everywhere() {
        let document = json_of(ask("/openapi.json").await).await;
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["title"], "Crewlog");
        assert_eq!(document["security"][0]["bearer"], serde_json::json!([]));
        let components = &document["components"];
        assert_eq!(components["securitySchemes"]["bearer"]["scheme"], "bearer");
        let problem = &components["responses"]["Problem"]["content"]["application/problem+json"];
        assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem");
        let schema = &components["schemas"]["Problem"]["properties"];
        assert_eq!(
            schema["errors"]["items"]["$ref"],
            "#/components/schemas/FieldError"
        );
        assert!(components["schemas"]["FieldError"].is_object());
        let operation = &document["paths"]["/problems/{code}"]["get"];
        let default = &operation["responses"]["default"]["$ref"];
        assert_eq!(default, "#/components/responses/Problem");
        let header = &operation["responses"]["200"]["headers"]["X-Request-Id"]["$ref"];
        assert_eq!(header, "#/components/headers/X-Request-Id");
    }

    #[utoipa::path(
        post, path = "/v1/things", params(IfMatch, IdempotencyKey, PageQuery<u64>),
        responses((status = 201, description = "made")),
    )]
    async fn create_thing() {}

    #[test]
    fn a_write_has_its_headers_and_parameters() {
        let router = OpenApiRouter::<()>::new().routes(routes!(create_thing));
        let document = super::document(router.into_openapi());
        let document = serde_json::to_value(&document).expect("JSON");
        let operation = &document["paths"]["/v1/things"]["post"];
        let headers = operation["responses"]["201"]["headers"].as_object();
        let headers: Vec<_> = headers
            .into_iter()
            .flat_map(|headers| headers.keys())
            .collect();
        let all = [
            "Crewlog-Position",
            "ETag",
            "Idempotent-Replayed",
            "Location",
            "X-Request-Id",
        ];
        assert_eq!(headers, all);
        let parameters = operation["parameters"].as_array();
        let names = parameters
            .into_iter()
            .flatten()
            .filter_map(|one| one["name"].as_str());
        let names: Vec<_> = names.collect();
        assert_eq!(
            names,
            ["If-Match", "Idempotency-Key", "limit", "cursor", "as_of"]
        );
        assert_eq!(operation["parameters"][2]["schema"]["maximum"], 200);
    }

    #[tokio::test]
    async fn the_viewer_is_at_docs_and_needs_no_network() {
        let response = ask("/docs").await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.headers()["location"], "/docs/");
        let response = ask("/docs/").await;
        let policy = response.headers()["content-security-policy"]
            .to_str()
            .unwrap_or_default();
        assert!(policy.starts_with("default-src 'self'"), "{policy}");
        let page = text_of(response).await;
        assert!(
            page.contains("swagger-ui") && !page.contains("https://"),
            "{page}"
        );
        let script = text_of(ask("/docs/swagger-initializer.js").await).await;
        assert!(
            script.contains("/openapi.json") && !script.contains("petstore"),
            "{script}"
        );
        for asset in ["swagger-ui.css", "swagger-ui-bundle.js", "index.css"] {
            assert_eq!(
                ask(&format!("/docs/{asset}")).await.status(),
                StatusCode::OK
            );
        }
        let response = ask("/docs/nothing").await;
        assert_eq!(json_of(response).await["code"], "not_found");
    }

    #[tokio::test]
    async fn every_problem_has_its_page() {
        for code in crate::api::problem::ProblemCode::ALL {
            let response = ask(&format!("/problems/{}", code.kind().code)).await;
            assert_eq!(
                response.headers()["content-type"],
                "text/html; charset=utf-8"
            );
            assert!(text_of(response).await.contains(code.kind().code));
        }
        let answer = json_of(ask("/problems/%3Cscript%3E").await).await;
        assert_eq!(answer["code"], "not_found");
        assert_eq!(answer["type"], "/problems/not_found");
    }
}
