//! The body of a request: JSON, strictly, into a type.
//!
//! [`Json`] answers `415` without `application/json`, `413` above its limit, `400` for what
//! is not JSON, and `422` with pointers for what is JSON and wrong. It never repeats a value
//! that was sent. Types use `#[serde(deny_unknown_fields)]` and implement
//! [`Validate`].
//!
//! To take a larger body, name its limit: `Json<ImportBundle, { 1024 * 1024 }>`.

use std::fmt;

use axum::{
    body::{Bytes, HttpBody},
    extract::{DefaultBodyLimit, FromRequest, OptionalFromRequest, Request},
    http::{HeaderMap, header},
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, Visitor},
};
use serde_path_to_error::{Path, Segment};

use super::{
    fields::{FieldCode, FieldError, Validate, escaped},
    problem::{Problem, ProblemCode},
    serde_words::Complaint,
    strict_json,
};

/// The largest body that a route takes which does not say otherwise.
pub const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// A checked JSON body of at most `LIMIT` bytes.
///
/// `Option<Json<T>>` is `None` when there is neither a body nor a `Content-Type`. Its bytes do
/// not print, as there may be a secret in them.
#[derive(Clone)]
pub struct Json<T, const LIMIT: usize = BODY_LIMIT_BYTES> {
    /// What was sent, as the handler's type.
    pub value: T,
    /// What was sent, byte for byte: what an idempotency key is bound to.
    pub bytes: Bytes,
}

impl<T: fmt::Debug, const LIMIT: usize> fmt::Debug for Json<T, LIMIT> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Json")
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

impl<T, const LIMIT: usize> Json<T, LIMIT> {
    /// The RFC 8785 form of what was sent: the same for two bodies that differ only in
    /// white space, order of members or spelling of numbers.
    ///
    /// # Errors
    /// Never for a body that was extracted; the crate's own error otherwise.
    pub fn canonical(&self) -> Result<String, Problem> {
        let text = String::from_utf8_lossy(&self.bytes);
        serde_json_canonicalizer::pipe(&text).map_err(|error| Problem::internal(&error))
    }
}

impl<S, T, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate,
{
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Err(Problem::new(
                ProblemCode::MalformedJson,
                "a JSON body is required",
            ));
        }
        require_json(request.headers())?;
        require_length(request.headers(), LIMIT)?;
        DefaultBodyLimit::max(LIMIT).apply(&mut request);
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(
                |rejection| match ProblemCode::of_status(rejection.status()) {
                    ProblemCode::BodyTooLarge => too_large(LIMIT),
                    _ => Problem::new(ProblemCode::MalformedJson, "the body ended before its time"),
                },
            )?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

impl<S, T, const LIMIT: usize> OptionalFromRequest<S> for Json<T, LIMIT>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        if request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state)
            .await
            .map(Some)
    }
}

/// Checks and reads one JSON text: what [`Json`] does with a body.
///
/// # Errors
/// `400 malformed_json`, or `422 invalid_body` with every place that was found.
pub fn parse<T: DeserializeOwned + Validate>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(
            ProblemCode::MalformedJson,
            "a JSON body is required",
        ));
    }
    let malformed =
        |error: strict_json::Malformed| Problem::new(ProblemCode::MalformedJson, error.to_string());
    if let Some((value, text)) = read_whole::<T>(bytes) {
        let mut errors = strict_json::refused(text).map_err(malformed)?;
        errors.extend(value.validate());
        return match errors.is_empty() {
            true => Ok(value),
            false => Err(Problem::invalid_body(errors)),
        };
    }
    // What is wrong is looked for with more care.
    let (text, mut errors) = strict_json::check(bytes).map_err(malformed)?;
    match typed::<T>(text) {
        Ok(value) => {
            errors.extend(value.validate());
            if errors.is_empty() {
                return Ok(value);
            }
        }
        Err(more) => {
            // Where the scanner has told of a number or a name, the type has nothing to add.
            let told = |error: &FieldError| {
                errors
                    .iter()
                    .any(|known| known.pointer() == error.pointer())
            };
            let more: Vec<_> = more.into_iter().filter(|error| !told(error)).collect();
            errors.extend(more);
        }
    }
    Err(Problem::invalid_body(errors))
}

/// Reads a body that fits its type; whoever asks has yet to look for what Crewlog refuses. Fast,
/// and without words for what is wrong.
fn read_whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &str)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Whole(&mut deserializer)).ok()?;
    deserializer.end().ok()?;
    Some((value, text))
}

fn typed<T: DeserializeOwned>(text: &str) -> Result<T, Vec<FieldError>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(Whole(&mut deserializer)).map_err(|error| {
        let message = error.inner().to_string();
        let message = message
            .rsplit_once(" at line ")
            .map_or(&*message, |(message, _)| message);
        explained(error.path(), Complaint::of(message), text)
    })
}

/// The body as a whole. serde's derive would take an array for a struct, its fields in
/// order; a body that should be an object must be one.
struct Whole<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Whole<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// An object inside of a body; an array is none, as for the body as a whole.
#[derive(Debug, Clone)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(Whole(deserializer)).map(Self)
    }
}

/// Turns the first complaint of serde into errors: all unknown fields of that object at
/// once, otherwise the one.
fn explained(path: &Path, complaint: Complaint, text: &str) -> Vec<FieldError> {
    let pointer = pointer_of(path, matches!(complaint, Complaint::UnknownVariant { .. }));
    match complaint {
        Complaint::UnknownField { allowed } => unknown_fields(&pointer, &allowed, text),
        Complaint::MissingField { name } => {
            vec![FieldError::missing(format!("{pointer}/{}", escaped(&name)))]
        }
        Complaint::DuplicateField { name } => {
            let pointer = format!("{pointer}/{}", escaped(&name));
            let detail = "this name is there twice in one object";
            vec![FieldError::new(FieldCode::DuplicateName, pointer, detail)]
        }
        Complaint::WrongType { expected } => {
            vec![FieldError::new(FieldCode::WrongType, pointer, expected)]
        }
        Complaint::UnknownVariant { expected } | Complaint::Other { detail: expected } => {
            vec![FieldError::invalid(pointer, expected)]
        }
    }
}

fn unknown_fields(pointer: &str, allowed: &[String], text: &str) -> Vec<FieldError> {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let object = document
        .pointer(parent)
        .and_then(serde_json::Value::as_object);
    let names = object.into_iter().flat_map(|object| object.keys());
    let unknown: Vec<_> = names
        .filter(|name| !allowed.contains(name))
        .map(|name| FieldError::unknown(format!("{parent}/{}", escaped(name)), allowed))
        .collect();
    if unknown.is_empty() {
        return vec![FieldError::unknown(pointer, allowed)];
    }
    unknown
}

/// An RFC 6901 pointer. A variant that is a string's contents, not a member's name, is no
/// part of it.
fn pointer_of(path: &Path, without_variant: bool) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Enum { .. } if without_variant => {}
            Segment::Map { key: name } | Segment::Enum { variant: name } => {
                pointer.push('/');
                pointer.push_str(&escaped(name));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !encoded && content_type.is_some_and(is_json) {
        Ok(())
    } else {
        Err(Problem::of(ProblemCode::UnsupportedMediaType))
    }
}

/// `application/json`, with no other charset than UTF-8.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts
        .next()
        .is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    json && parts.all(utf_8)
}

/// Refuses by `Content-Length` before anything is read.
fn require_length(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    match length.and_then(|text| text.parse::<u64>().ok()) {
        Some(length) if length > limit as u64 => Err(too_large(limit)),
        _ => Ok(()),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        ProblemCode::BodyTooLarge,
        format!("the body may have at most {limit} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::StatusCode, response::Response, routing::post};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        api::testing::{json_of, text_of},
        domain::{authority::Role, ids::UserId, plans::PlanName},
    };

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Invite {
        name: String,
        role: Role,
        #[serde(default)]
        seats: u8,
        #[serde(default)]
        nested: Vec<Nested>,
        plan: Option<PlanName>,
        user: Option<UserId>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nested {
        at: u64,
    }

    impl Validate for Invite {
        fn validate(&self) -> Vec<FieldError> {
            let _ = (&self.role, self.seats, &self.plan, &self.user);
            let places = self.nested.iter().map(|nested| nested.at);
            assert!(places.sum::<u64>() < 1_000);
            FieldError::check_text("/name", &self.name, 1..=5)
                .into_iter()
                .collect()
        }
    }

    async fn send(content_type: Option<&str>, body: impl Into<Body>) -> Response {
        let router = Router::new()
            .route("/", post(async |body: Json<Invite, 256>| body.value.name))
            .route(
                "/maybe",
                post(async |body: Option<Json<Invite, 256>>| body.is_some().to_string()),
            );
        let mut request = Request::post("/");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body.into()).expect("a request");
        router.oneshot(request).await.expect("infallible")
    }

    async fn errors_of(body: &str) -> Vec<(String, String, String)> {
        let response = send(Some("application/json"), body.to_owned()).await;
        assert_eq!(
            response.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{body}"
        );
        let answer = json_of(response).await;
        assert_eq!(answer["code"], "invalid_body");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        let row = |error: &serde_json::Value| {
            (
                text(&error["pointer"]),
                text(&error["code"]),
                text(&error["detail"]),
            )
        };
        errors.iter().map(row).collect()
    }

    async fn check(body: &str, expected: &[(&str, &str)]) {
        let errors = errors_of(body).await;
        let places: Vec<_> = errors
            .iter()
            .map(|(at, code, _)| (&**at, &**code))
            .collect();
        assert_eq!(places, expected, "{body}");
        assert!(
            errors
                .iter()
                .all(|(_, _, detail)| !detail.contains("hunter2")),
            "{errors:?}"
        );
    }

    #[tokio::test]
    async fn a_good_body_is_read() {
        let good = r#"{"name":"Ada","role":"admin","seats":3,"nested":[{"at":1}]}"#;
        for content_type in ["application/json", "Application/JSON; charset=\"UTF-8\""] {
            let response = send(Some(content_type), good).await;
            assert_eq!(text_of(response).await, "Ada");
        }
    }

    #[tokio::test]
    async fn every_mistake_has_its_place() {
        check(
            r#"{"name":"A","role":"admin","x":1,"a/b":2}"#,
            &[("/a~1b", "unknown_field"), ("/x", "unknown_field")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","nested":[{"at":1},{"at":2,"y":0}]}"#,
            &[("/nested/1/y", "unknown_field")],
        )
        .await;
        check(r#"{"role":"admin"}"#, &[("/name", "missing_field")]).await;
        check(
            r#"{"name":"A","role":"admin","nested":[{}]}"#,
            &[("/nested/0/at", "missing_field")],
        )
        .await;
        check(
            r#"{"name":"A","role":"hunter2"}"#,
            &[("/role", "invalid_value")],
        )
        .await;
        check(
            r#"{"name":"A","role":{"hunter2":1}}"#,
            &[("/role", "invalid_value")],
        )
        .await;
        check(
            r#"{"name":["hunter2"],"role":"admin"}"#,
            &[("/name", "wrong_type")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","seats":"hunter2, expected hunter2"}"#,
            &[("/seats", "wrong_type")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","seats":256}"#,
            &[("/seats", "invalid_value")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","nested":[{"at":1.5}]}"#,
            &[("/nested/0/at", "wrong_type")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","plan":"hunter2 !"}"#,
            &[("/plan", "invalid_value")],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","user":"ws_hunter2"}"#,
            &[("/user", "invalid_value")],
        )
        .await;
        check(
            r#"{"name":"hunter2","role":"admin"}"#,
            &[("/name", "too_long")],
        )
        .await;
        check(r#"["hunter2"]"#, &[("", "wrong_type")]).await;
        check(r#""hunter2""#, &[("", "wrong_type")]).await;
    }

    #[tokio::test]
    async fn duplicates_and_changing_numbers_are_told_once() {
        check(
            r#"{"name":"A","name":"B","role":"admin"}"#,
            &[("/name", "duplicate_name")],
        )
        .await;
        check(
            r#"{"name":"hunter2","role":"admin","seats":1,"nested":[{"at":-0}],"seats":9007199254740993}"#,
            &[
                ("/nested/0/at", "not_canonical_number"),
                ("/seats", "duplicate_name"),
                ("/seats", "not_canonical_number"),
            ],
        )
        .await;
        check(
            r#"{"name":"A","role":"admin","seats":1e400}"#,
            &[("/seats", "not_canonical_number")],
        )
        .await;
    }

    #[tokio::test]
    async fn unknown_fields_name_those_that_are_allowed() {
        let errors = errors_of(r#"{"name":"A","role":"admin","nested":[{"y":1}]}"#).await;
        assert_eq!(errors[0].2, "there is no such field; allowed: at");
        let errors = errors_of(r#"{"x":1}"#).await;
        assert_eq!(
            errors[0].2,
            "there is no such field; allowed: name, role, seats, nested, plan, user"
        );
    }

    #[tokio::test]
    async fn what_is_not_json_is_malformed() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        for body in [
            &b"{\"name\":"[..],
            b"{}{}",
            b"\xff\xfe",
            b"\xef\xbb\xbf{}",
            b"nul",
            deep.as_bytes(),
        ] {
            let response = send(Some("application/json"), body.to_vec()).await;
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            let answer = json_of(response).await;
            assert_eq!(answer["code"], "malformed_json");
            let detail = answer["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("line 1, column"), "{detail}");
        }
    }

    #[tokio::test]
    async fn an_empty_body_is_malformed() {
        for content_type in [None, Some("application/json")] {
            let response = send(content_type, "").await;
            assert_eq!(json_of(response).await["code"], "malformed_json");
        }
        // Chunked, so that nobody knows beforehand that nothing follows.
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::new())]);
        let response = send(Some("application/json"), Body::from_stream(chunks)).await;
        assert_eq!(json_of(response).await["detail"], "a JSON body is required");
    }

    #[tokio::test]
    async fn other_media_types_are_refused() {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some("application/json; charset=latin1"),
        ] {
            let response = send(content_type, "{}").await;
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_eq!(json_of(response).await["code"], "unsupported_media_type");
        }
        let gzip = HeaderMap::from_iter([
            (
                header::CONTENT_TYPE,
                "application/json".parse().expect("a value"),
            ),
            (header::CONTENT_ENCODING, "gzip".parse().expect("a value")),
        ]);
        assert!(require_json(&gzip).is_err());
    }

    #[tokio::test]
    async fn large_bodies_are_refused_however_they_come() {
        let large = format!(r#"{{"name":"{}","role":"admin"}}"#, "x".repeat(300));
        let response = send(Some("application/json"), large.clone()).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>(large)]);
        let response = send(Some("application/json"), Body::from_stream(chunks)).await;
        assert_eq!(json_of(response).await["code"], "body_too_large");
        assert!(
            require_length(
                &HeaderMap::from_iter([(header::CONTENT_LENGTH, 257.into())]),
                256
            )
            .is_err()
        );
    }

    #[tokio::test]
    async fn an_optional_body_may_be_left_out_but_not_be_wrong() {
        let ask = async |request: Request| {
            <Json<Invite> as OptionalFromRequest<()>>::from_request(request, &()).await
        };
        let none = Request::post("/").body(Body::empty()).expect("a request");
        assert!(matches!(ask(none).await, Ok(None)));
        let wrong = Request::post("/").header(header::CONTENT_TYPE, "application/json");
        assert!(
            ask(wrong.body(Body::from("{")).expect("a request"))
                .await
                .is_err()
        );
    }

    #[test]
    fn the_canonical_form_forgets_spelling() {
        let json = |text: &'static str| Json::<()> {
            value: (),
            bytes: Bytes::from_static(text.as_bytes()),
        };
        let canonical = json(r#"{"b": 1.0, "a": "\u0041"}"#).canonical();
        assert_eq!(canonical, Ok(r#"{"a":"A","b":1}"#.to_owned()));
    }

    #[test]
    fn bodies_with_secrets_do_not_print_them() {
        use crate::api::{invitations, me, password, sessions, sign_up};

        fn printed<T: DeserializeOwned + Validate + fmt::Debug>(body: serde_json::Value) -> String {
            let bytes = Bytes::from(body.to_string());
            let value = parse::<T>(&bytes).expect("a good body");
            format!("{:?}", Json::<T> { value, bytes })
        }

        let secret = "hunter22-hunter22";
        let account = serde_json::json!({"email": "a@example.com", "password": secret});
        let mut sign_up = account.clone();
        sign_up["name"] = "Ada".into();
        let token = serde_json::json!({"token": secret});
        let mut accept = token.clone();
        accept["password"] = secret.into();
        let change = serde_json::json!({"current_password": secret, "new_password": "hunter22-3"});
        let request = crate::service::IdempotencyRequest {
            key: "key".to_owned(),
            fingerprint: secret.as_bytes().to_vec(),
        };
        for text in [
            printed::<sign_up::SignUpBody>(sign_up),
            printed::<sessions::SignInBody>(account.clone()),
            printed::<me::ChangeMeBody>(account),
            printed::<password::ChangePasswordBody>(change),
            printed::<invitations::AcceptBody>(accept),
            printed::<invitations::DeclineBody>(token),
            format!("{request:?}"),
        ] {
            // Neither as text nor as a list of bytes.
            assert!(
                !text.contains("hunter22") && !text.contains("104, 117"),
                "{text}"
            );
        }
    }
}
