//! What a request says in its headers, as extractors that answer problems.
//!
//! They read and check; they decide nothing: whether a token is good, a version current or a
//! key new is asked elsewhere. Each documents itself: `params(IfMatch, IdempotencyKey)` in
//! `#[utoipa::path]`.
//!
//! To add a header: a type, its [`FromRequestParts`] through `single`, its [`IntoParams`]
//! through `parameter`.

use std::net::IpAddr;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use secrecy::SecretString;
use utoipa::{
    IntoParams,
    openapi::{
        Required,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type},
    },
};

use super::{
    problem::{Problem, ProblemCode},
    request_id::RequestId,
};

/// The position of a request or an answer in the log.
pub const CREWLOG_POSITION: HeaderName = HeaderName::from_static("crewlog-position");
/// Where a reader of Server-Sent Events goes on.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Makes a write safe to repeat.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const TOKEN_LENGTH_MAX: usize = 1_024;
const IDEMPOTENCY_KEY_LENGTH_MAX: usize = 255;
const IF_MATCH_TAGS_MAX: usize = 16;
const USER_AGENT_LENGTH_MAX: usize = 512;

/// A header that may be there once, as visible text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Problem::invalid_request(format!(
                "`{name}` must be printable ASCII"
            ))),
        },
        (Some(_), Some(_)) => Err(Problem::invalid_request(format!(
            "`{name}` must be there once only"
        ))),
    }
}

/// How a header is described; `schema` bounds it.
fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Vec<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema));
    vec![parameter.build()]
}

/// The token of `Authorization: Bearer …`, where one was sent. It does not print.
#[derive(Debug, Clone)]
pub struct Bearer(pub Option<SecretString>);

impl Bearer {
    /// The token.
    ///
    /// # Errors
    /// `401 unauthenticated` where none was sent.
    pub fn required(self) -> Result<SecretString, Problem> {
        self.0
            .ok_or_else(|| Problem::of(ProblemCode::Unauthenticated))
    }
}

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = || Problem::unauthenticated("`Authorization` must be `Bearer <token>`");
        let Some(value) =
            single(&parts.headers, &header::AUTHORIZATION).map_err(|_| malformed())?
        else {
            return Ok(Self(None));
        };
        let (scheme, token) = value.split_once(' ').ok_or_else(malformed)?;
        let token = token.trim_start_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") && is_token(token) {
            Ok(Self(Some(SecretString::from(token))))
        } else {
            Err(malformed())
        }
    }
}

/// RFC 6750, section 2.1: `b64token`.
fn is_token(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = text.trim_end_matches('=');
    !body.is_empty() && text.len() <= TOKEN_LENGTH_MAX && body.bytes().all(allowed)
}

/// The condition that a write is under: the versions that the client has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IfMatch {
    /// No condition.
    #[default]
    Absent,
    /// `*`: it must exist.
    Any,
    /// One of these entity tags, without their quotes.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// Whether a resource of this version may be changed.
    pub fn allows(&self, version: u64) -> bool {
        self.allows_tag(&version.to_string())
    }

    /// Whether a resource with this entity tag (without quotes) may be changed.
    pub fn allows_tag(&self, current: &str) -> bool {
        match self {
            Self::Absent | Self::Any => true,
            Self::OneOf(tags) => tags.iter().any(|tag| tag == current),
        }
    }

    /// Refuses to change a resource that moved.
    ///
    /// # Errors
    /// `412 precondition_failed`.
    pub fn check(&self, version: u64) -> Result<(), Problem> {
        if self.allows(version) {
            return Ok(());
        }
        let detail = format!("its version is {version} now");
        Err(Problem::new(ProblemCode::PreconditionFailed, detail))
    }

    fn parse(value: &str) -> Result<Self, Problem> {
        if value.trim() == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        for item in value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
        {
            if item.starts_with("W/") {
                return Err(Problem::invalid_request(
                    "`If-Match` takes no weak entity tags",
                ));
            }
            let tag = item
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            let tag = tag
                .filter(|tag| !tag.contains('"'))
                .ok_or_else(Self::malformed)?;
            tags.push(tag.to_owned());
        }
        if (1..=IF_MATCH_TAGS_MAX).contains(&tags.len()) {
            Ok(Self::OneOf(tags))
        } else {
            Err(Self::malformed())
        }
    }

    fn malformed() -> Problem {
        Problem::invalid_request(
            "`If-Match` must be `*` or at most 16 entity tags in quotes, as `ETag` has them",
        )
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A list may be spread over several lines (RFC 9110, section 5.3).
        let lines = parts.headers.get_all(header::IF_MATCH).iter();
        let lines: Result<Vec<_>, _> = lines.map(|line| line.to_str()).collect();
        match lines.map_err(|_| Self::malformed())?.as_slice() {
            [] => Ok(Self::Absent),
            lines => Self::parse(&lines.join(",")),
        }
    }
}

impl IntoParams for IfMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameter(
            "If-Match",
            "Makes the write conditional: the `ETag` that was read, one of at most 16, or `*`. `412` when it has moved.",
            ObjectBuilder::new().schema_type(Type::String),
        )
    }
}

/// The key under which a write is answered once, and again the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(key) = single(&parts.headers, &IDEMPOTENCY_KEY)? else {
            return Ok(Self(None));
        };
        let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if printable && (1..=IDEMPOTENCY_KEY_LENGTH_MAX).contains(&key.len()) {
            Ok(Self(Some(key.to_owned())))
        } else {
            Err(Problem::invalid_request(
                "`Idempotency-Key` must be 1 to 255 characters of printable ASCII",
            ))
        }
    }
}

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameter(
            "Idempotency-Key",
            "Makes the write safe to repeat for 24 hours: the first answer again, with `Idempotent-Replayed: true`.",
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(IDEMPOTENCY_KEY_LENGTH_MAX)),
        )
    }
}

/// How new an answer must be at least: the position that an earlier answer had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MinimumPosition(pub Option<u64>);

impl<S: Sync> FromRequestParts<S> for MinimumPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong = "`Crewlog-Position` must be a whole number, as an answer's header has it";
        position_in(&parts.headers, &CREWLOG_POSITION, wrong).map(Self)
    }
}

/// The position in a header, where it is there.
fn position_in(
    headers: &HeaderMap,
    name: &HeaderName,
    wrong: &'static str,
) -> Result<Option<u64>, Problem> {
    let Some(text) = single(headers, name)? else {
        return Ok(None);
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let position = text.parse::<u64>().ok();
    let position = position.filter(|position| digits && i64::try_from(*position).is_ok());
    match position {
        Some(position) => Ok(Some(position)),
        None => Err(Problem::invalid_request(wrong)),
    }
}

/// The last event that a reader of Server-Sent Events has seen: a position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastEventId(pub Option<u64>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong = "`Last-Event-ID` must be the `id` of an event: a position of the log";
        position_in(&parts.headers, &LAST_EVENT_ID, wrong).map(Self)
    }
}

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameter(
            "Last-Event-ID",
            "Goes on after this position, whatever `after` says.",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(0)),
        )
    }
}

impl IntoParams for MinimumPosition {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        parameter(
            "Crewlog-Position",
            "The answer must be at least as new as this position of the log.",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(0)),
        )
    }
}

/// Who sent a request, as far as the connection tells. Put there by
/// [`super::middleware::layers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// The id in `X-Request-Id`.
    pub request_id: RequestId,
    /// The client's address; `None` where a proxy hides it.
    pub ip: Option<IpAddr>,
    /// At most 512 characters of `User-Agent`.
    pub user_agent: Option<String>,
}

impl RequestContext {
    pub(super) fn new(request_id: RequestId, ip: Option<IpAddr>, headers: &HeaderMap) -> Self {
        let agent = headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().take(USER_AGENT_LENGTH_MAX).collect()
        });
        Self {
            request_id,
            ip,
            user_agent: agent,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let context = parts.extensions.get::<Self>().cloned();
        context.ok_or_else(|| {
            Problem::internal(&std::io::Error::other(
                "the router lacks `middleware::layers`",
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};
    use secrecy::ExposeSecret;

    use super::*;

    async fn read<T>(lines: &[(HeaderName, &str)]) -> Result<T, Problem>
    where
        T: FromRequestParts<(), Rejection = Problem>,
    {
        let (mut parts, ()) = Request::new(()).into_parts();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            parts.headers.append(name, value);
        }
        T::from_request_parts(&mut parts, &()).await
    }

    async fn refused<T>(name: HeaderName, values: &[&str], code: ProblemCode)
    where
        T: FromRequestParts<(), Rejection = Problem> + std::fmt::Debug,
    {
        for value in values {
            let problem = read::<T>(&[(name.clone(), value)]).await.expect_err(value);
            assert_eq!(problem.code(), code, "{value}");
        }
        let twice = [(name.clone(), "\"1\""), (name, "*")];
        assert_eq!(
            read::<T>(&twice)
                .await
                .map_err(|problem| problem.code())
                .err(),
            Some(code)
        );
    }

    #[tokio::test]
    async fn a_bearer_token_is_read_and_does_not_print() {
        assert!(matches!(read::<Bearer>(&[]).await, Ok(Bearer(None))));
        let sent = [(header::AUTHORIZATION, "bearer  crew_abc-1.2_3==")];
        let bearer = read::<Bearer>(&sent).await.expect("a token");
        assert!(!format!("{bearer:?}").contains("crew_abc"));
        let token = bearer.required().expect("a token");
        assert_eq!(token.expose_secret(), "crew_abc-1.2_3==");
        let long = format!("Bearer {}", "x".repeat(TOKEN_LENGTH_MAX + 1));
        let wrong = [
            "Bearer",
            "Bearer ",
            "Basic abc",
            "Bearer a b",
            "Bearer é",
            "abc",
            "Bearer =",
            &long,
        ];
        refused::<Bearer>(header::AUTHORIZATION, &wrong, ProblemCode::Unauthenticated).await;
        let none = Bearer(None).required().map(drop);
        assert_eq!(
            none.map_err(|problem| problem.code()),
            Err(ProblemCode::Unauthenticated)
        );
    }

    #[tokio::test]
    async fn if_match_is_strong() {
        let of = async |value: &'static str| read::<IfMatch>(&[(header::IF_MATCH, value)]).await;
        assert_eq!(read(&[]).await, Ok(IfMatch::Absent));
        assert_eq!(of("*").await, Ok(IfMatch::Any));
        let list = of("\"3\", \"7\"").await.expect("a list");
        assert!(list.allows(7) && !list.allows(4) && list.check(3).is_ok());
        let moved = list.check(4).map_err(|problem| problem.code());
        assert_eq!(moved, Err(ProblemCode::PreconditionFailed));
        let lines = [(header::IF_MATCH, "\"3\""), (header::IF_MATCH, "\"7\"")];
        assert_eq!(read(&lines).await, Ok(list));
        assert!(
            of("\"sha256:ab\"")
                .await
                .is_ok_and(|tags| tags.allows_tag("sha256:ab"))
        );
        let many = ["\"1\""; 17].join(",");
        let wrong = [
            "3",
            "W/\"3\"",
            "\"3\", W/\"4\"",
            "",
            "\"3",
            "\"3\" \"4\"",
            "é",
            &many,
        ];
        refused::<IfMatch>(header::IF_MATCH, &wrong, ProblemCode::InvalidRequest).await;
    }

    #[tokio::test]
    async fn an_idempotency_key_is_printable_and_bounded() {
        let longest = "k".repeat(IDEMPOTENCY_KEY_LENGTH_MAX);
        let sent = [(IDEMPOTENCY_KEY, longest.as_str())];
        assert_eq!(read(&sent).await, Ok(IdempotencyKey(Some(longest.clone()))));
        assert_eq!(read(&[]).await, Ok(IdempotencyKey(None)));
        let long = format!("{longest}k");
        let wrong = ["", "é", "a\tb", &long];
        refused::<IdempotencyKey>(IDEMPOTENCY_KEY, &wrong, ProblemCode::InvalidRequest).await;
    }

    #[tokio::test]
    async fn a_minimum_position_is_a_number() {
        let sent = [(CREWLOG_POSITION, "42")];
        assert_eq!(read(&sent).await, Ok(MinimumPosition(Some(42))));
        assert_eq!(read(&[]).await, Ok(MinimumPosition(None)));
        let wrong = ["", "-1", "+1", "1.0", "9223372036854775808", "x"];
        refused::<MinimumPosition>(CREWLOG_POSITION, &wrong, ProblemCode::InvalidRequest).await;
    }

    #[tokio::test]
    async fn the_last_event_is_a_position() {
        let sent = [(LAST_EVENT_ID, "42")];
        assert_eq!(read(&sent).await, Ok(LastEventId(Some(42))));
        assert_eq!(read(&[]).await, Ok(LastEventId(None)));
        let wrong = ["", "-1", "evt_1"];
        refused::<LastEventId>(LAST_EVENT_ID, &wrong, ProblemCode::InvalidRequest).await;
    }

    #[test]
    fn a_user_agent_is_cut() {
        let value = HeaderValue::from_bytes("ä".repeat(600).as_bytes()).expect("a value");
        let headers = HeaderMap::from_iter([(header::USER_AGENT, value)]);
        let context = RequestContext::new(RequestId::make(), None, &headers);
        assert_eq!(
            context.user_agent.map(|agent| agent.chars().count()),
            Some(512)
        );
    }
}
