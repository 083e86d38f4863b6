//! What a handler is given of a request: who asks, under which conditions, and why.
//!
//! [`Reader`] is for reads and [`Writer`] for writes by somebody who is signed in,
//! [`OperatorWriter`] for those by an operator of the installation;
//! [`PrincipalReader`] and [`PrincipalWriter`] are for API keys too; [`LastWriter`] is for what ends
//! the account that sends it; [`Asked`] is for writes by
//! anybody, and [`Question`] for what is asked in a body and changes nothing. They refuse what their route does not know: query parameters,
//! and `If-Match` where something new is made. Who asks is found out before anything else is
//! looked at.

use axum::{
    extract::FromRequestParts,
    http::{Method, request::Parts},
};
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

use super::{
    access,
    app::Edge,
    as_of::AsOf,
    fields::Validate,
    headers::{Bearer, IdempotencyKey, IfMatch, MinimumPosition, RequestContext},
    json::Json,
    pace::ToldPace,
    problem::{Problem, ProblemCode},
    query::Query,
};
use crate::service::{Caller, Condition, IdempotencyRequest, OperatorCaller, Principal, Request};

/// The query of a route that takes none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// The query of a route that reads.
pub trait ReadQuery: DeserializeOwned {
    /// The moment that is asked about: none where that is now, or where nothing is state.
    fn as_of(&self) -> Option<AsOf> {
        None
    }
}

impl ReadQuery for NoParameters {}

/// The query of a resource that is read, as it is or as it was.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MomentQuery {
    /// The moment that is asked about: a position of the log, or a time. Now, where nobody says.
    #[param(inline)]
    as_of: Option<AsOf>,
}

impl ReadQuery for MomentQuery {
    fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }
}

/// A read by somebody who is signed in, of a state that is new enough for them.
#[derive(Debug)]
pub struct Reader<Q = NoParameters> {
    /// What the service is asked with.
    pub request: Request,
    /// Who asks.
    pub caller: Caller,
    /// The query.
    pub query: Q,
}

impl<Q: ReadQuery + Send> FromRequestParts<Edge> for Reader<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let (request, caller) = signed_in(parts, edge).await?;
        let query: Q = query_of_new_state(parts, edge).await?;
        Ok(Self {
            request: about(request, &query),
            caller,
            query,
        })
    }
}

/// A read by somebody who is signed in or by an API key, of a state that is new enough for them.
#[derive(Debug)]
pub struct PrincipalReader<Q = NoParameters> {
    /// What the service is asked with.
    pub request: Request,
    /// Who asks.
    pub principal: Principal,
    /// The query.
    pub query: Q,
}

impl<Q: ReadQuery + Send> FromRequestParts<Edge> for PrincipalReader<Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let (request, principal) = known(parts, edge).await?;
        let query: Q = query_of_new_state(parts, edge).await?;
        Ok(Self {
            request: about(request, &query),
            principal,
            query,
        })
    }
}

/// A write by somebody who is signed in or by an API key.
#[derive(Debug)]
pub struct PrincipalWriter {
    principal: Principal,
    asked: Asked,
}

impl PrincipalWriter {
    /// For a write that makes something new.
    ///
    /// # Errors
    /// `400 invalid_request` with an `If-Match`: there is no version yet.
    pub fn making(self, sent: &impl Sent) -> Result<(Request, Principal), Problem> {
        Ok((self.asked.making(sent)?, self.principal))
    }

    /// For a write that changes what is there.
    ///
    /// # Errors
    /// Never for a body that was extracted.
    pub fn changing(self, sent: &impl Sent) -> Result<(Request, Principal), Problem> {
        Ok((self.asked.changing(sent)?, self.principal))
    }
}

impl FromRequestParts<Edge> for PrincipalWriter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let (request, principal) = known(parts, edge).await?;
        Ok(Self {
            principal,
            asked: Asked::by(request.token, parts, edge).await?,
        })
    }
}

/// A write by somebody who is signed in.
#[derive(Debug)]
pub struct Writer {
    caller: Caller,
    asked: Asked,
}

impl Writer {
    /// For a write that makes something new.
    ///
    /// # Errors
    /// `400 invalid_request` with an `If-Match`: there is no version yet.
    pub fn making(self, sent: &impl Sent) -> Result<(Request, Caller), Problem> {
        Ok((self.asked.making(sent)?, self.caller))
    }

    /// For a write that changes what is there.
    ///
    /// # Errors
    /// Never for a body that was extracted.
    pub fn changing(self, sent: &impl Sent) -> Result<(Request, Caller), Problem> {
        Ok((self.asked.changing(sent)?, self.caller))
    }
}

impl FromRequestParts<Edge> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let (request, caller) = signed_in(parts, edge).await?;
        Ok(Self {
            caller,
            asked: Asked::by(request.token, parts, edge).await?,
        })
    }
}

/// A write that its sender is gone by: its repetition comes with a token that is nobody's any more,
/// and is let through where it was answered before.
#[derive(Debug)]
pub struct LastWriter {
    caller: Option<Caller>,
    asked: Asked,
}

impl LastWriter {
    /// For a write that ends what there is, whatever its version.
    ///
    /// # Errors
    /// `400 invalid_request` with an `If-Match`.
    pub fn making(self, sent: &impl Sent) -> Result<(Request, Option<Caller>), Problem> {
        Ok((self.asked.making(sent)?, self.caller))
    }
}

impl FromRequestParts<Edge> for LastWriter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let refused = match signed_in(parts, edge).await {
            Ok((request, caller)) => {
                return Ok(Self {
                    caller: Some(caller),
                    asked: Asked::by(request.token, parts, edge).await?,
                });
            }
            Err(refused) => refused,
        };
        let Ok(Bearer(Some(token))) = Bearer::from_request_parts(parts, edge).await else {
            return Err(refused);
        };
        let asked = Asked::by(Some(token.clone()), parts, edge).await;
        let key = asked
            .as_ref()
            .ok()
            .and_then(|asked| asked.idempotency.0.clone());
        match (asked, key) {
            (Ok(asked), Some(key)) if edge.service.has_erased(token, &key).await? => {
                let caller = None;
                Ok(Self { caller, asked })
            }
            _ => Err(refused),
        }
    }
}

/// A write by an operator of the installation.
#[derive(Debug)]
pub struct OperatorWriter {
    operator: OperatorCaller,
    asked: Asked,
}

impl OperatorWriter {
    /// For a write that changes what is there.
    ///
    /// # Errors
    /// Never for a body that was extracted.
    pub fn changing(self, sent: &impl Sent) -> Result<(Request, OperatorCaller), Problem> {
        Ok((self.asked.changing(sent)?, self.operator))
    }
}

impl FromRequestParts<Edge> for OperatorWriter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let (request, operator) = operator(parts, edge).await?;
        Ok(Self {
            operator,
            asked: Asked::by(request.token, parts, edge).await?,
        })
    }
}

/// A write by anybody.
#[derive(Debug)]
pub struct Asked {
    /// Of whoever is signed in.
    token: Option<SecretString>,
    context: RequestContext,
    idempotency: IdempotencyKey,
    if_match: IfMatch,
    method: Method,
    path: String,
}

impl Asked {
    /// For a write that makes something new.
    ///
    /// # Errors
    /// `400 invalid_request` with an `If-Match`: there is no version yet.
    pub fn making(self, sent: &impl Sent) -> Result<Request, Problem> {
        if self.if_match != IfMatch::Absent {
            return Err(Problem::invalid_request(
                "`If-Match` has no meaning here: there is no version yet",
            ));
        }
        self.request(sent)
    }

    /// For a write that changes what is there.
    fn changing(self, sent: &impl Sent) -> Result<Request, Problem> {
        let condition = condition(&self.if_match);
        Ok(Request {
            condition,
            ..self.request(sent)?
        })
    }

    /// What the service is asked with. An idempotency key is bound to the method, the path
    /// and what the body means.
    fn request(self, sent: &impl Sent) -> Result<Request, Problem> {
        let idempotency = match self.idempotency.0 {
            Some(key) => {
                let (method, path, body) = (self.method, self.path, sent.canonical()?);
                let fingerprint = format!("{method}\n{path}\n{body}").into_bytes();
                Some(IdempotencyRequest { key, fingerprint })
            }
            None => None,
        };
        Ok(Request {
            reason: sent.reason(),
            idempotency,
            ..of_context(self.context, self.token)
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Self::by(None, parts, state).await
    }
}

impl Asked {
    async fn by<S: Send + Sync>(
        token: Option<SecretString>,
        parts: &mut Parts,
        state: &S,
    ) -> Result<Self, Problem> {
        Query::<NoParameters>::from_request_parts(parts, state).await?;
        Ok(Self {
            token,
            context: RequestContext::from_request_parts(parts, state).await?,
            idempotency: IdempotencyKey::from_request_parts(parts, state).await?,
            if_match: IfMatch::from_request_parts(parts, state).await?,
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
        })
    }
}

/// A question by anybody about what is in its body: nothing else of the request matters, but it
/// must not say what has no meaning.
#[derive(Debug)]
pub struct Question;

impl<S: Send + Sync> FromRequestParts<S> for Question {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::<NoParameters>::from_request_parts(parts, state).await?;
        IdempotencyKey::from_request_parts(parts, state).await?;
        IfMatch::from_request_parts(parts, state).await?;
        Ok(Self)
    }
}

/// The body of a write.
pub trait Command: Validate {
    /// Why, in the caller's words.
    fn reason(&self) -> Option<&str>;
}

/// What was sent with a write: a body, or none where it is optional.
pub trait Sent {
    /// Why, in the caller's words.
    fn reason(&self) -> Option<String>;

    /// What was sent, in its RFC 8785 form.
    ///
    /// # Errors
    /// Never for a body that was extracted.
    fn canonical(&self) -> Result<String, Problem>;
}

impl<T: Command, const LIMIT: usize> Sent for Json<T, LIMIT> {
    fn reason(&self) -> Option<String> {
        self.value.reason().map(str::to_owned)
    }

    fn canonical(&self) -> Result<String, Problem> {
        Json::canonical(self)
    }
}

impl<T: Command, const LIMIT: usize> Sent for Option<Json<T, LIMIT>> {
    fn reason(&self) -> Option<String> {
        self.as_ref().and_then(Sent::reason)
    }

    fn canonical(&self) -> Result<String, Problem> {
        self.as_ref().map_or(Ok(String::new()), Json::canonical)
    }
}

/// A request about the moment that its query names.
fn about(request: Request, query: &impl ReadQuery) -> Request {
    let as_of = query.as_of().map(|AsOf(moment)| moment);
    Request { as_of, ..request }
}

/// The query of a read, once the state is as new as the request asks for.
async fn query_of_new_state<Q: DeserializeOwned + Send>(
    parts: &mut Parts,
    edge: &Edge,
) -> Result<Q, Problem> {
    let Query(query) = Query::from_request_parts(parts, edge).await?;
    let MinimumPosition(minimum) = MinimumPosition::from_request_parts(parts, edge).await?;
    if let Some(position) = minimum {
        edge.service.at_least(position).await?;
    }
    Ok(query)
}

/// What the service is asked with, by whoever has sent a token.
async fn with_token(parts: &mut Parts, edge: &Edge) -> Result<Request, Problem> {
    let bearer = Bearer::from_request_parts(parts, edge).await?;
    let context = RequestContext::from_request_parts(parts, edge).await?;
    Ok(of_context(context, Some(bearer.required()?)))
}

/// Who holds the operator's key of a request. Anybody else is told that it takes one.
async fn operator(parts: &mut Parts, edge: &Edge) -> Result<(Request, OperatorCaller), Problem> {
    let request = with_token(parts, edge).await?;
    if let Some(operator) = edge.service.operator(&request).await? {
        return match edge.service.admits(&operator) {
            true => Ok((request, operator)),
            false => Err(Problem::of(ProblemCode::RateLimited)),
        };
    }
    let principal = edge.service.principal(&request).await?;
    let (aim, action) = access::operator_aim(parts).await;
    let refused = edge
        .service
        .refuse_to_operate(&request, &principal, aim, action);
    Err(refused.await.into())
}

/// Who holds the session token or the API key of a request. An operator's key is refused: it reads
/// and changes nothing of anybody's.
async fn known(parts: &mut Parts, edge: &Edge) -> Result<(Request, Principal), Problem> {
    let request = with_token(parts, edge).await?;
    if let Some(operator) = edge.service.operator(&request).await? {
        let (aim, action) = access::operator_aim(parts).await;
        let refused = edge
            .service
            .refuse_operator(&request, &operator, aim, action);
        return Err(refused.await.into());
    }
    let principal = edge.service.principal(&request).await?;
    paced(parts, edge, &principal).await?;
    Ok((request, principal))
}

/// Counts a request to a workspace. Where that cannot be done, it holds nobody up.
async fn paced(parts: &mut Parts, edge: &Edge, principal: &Principal) -> Result<(), Problem> {
    let Some(workspace) = access::workspace(parts).await else {
        return Ok(());
    };
    let pace = match edge.service.pace(principal, workspace).await {
        Ok(Some(pace)) => pace,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(%error, "a request was not counted");
            return Ok(());
        }
    };
    if let Some(told) = parts.extensions.get::<ToldPace>() {
        told.tell(pace);
    }
    match pace.admitted {
        true => Ok(()),
        false => Err(Problem::of(ProblemCode::RateLimited).retry_after(pace.reset)),
    }
}

/// The person who holds the token of a request. An API key is refused, as what it aims at
/// would have it: its own holder says that only people may, any other is not there.
async fn signed_in(parts: &mut Parts, edge: &Edge) -> Result<(Request, Caller), Problem> {
    let (request, principal) = known(parts, edge).await?;
    match principal {
        Principal::Person(caller) => Ok((request, caller)),
        Principal::Key(key) => {
            let aim = access::aim(parts).await;
            Err(edge.service.refuse_key(&request, &key, aim).await.into())
        }
    }
}

fn of_context(context: RequestContext, token: Option<SecretString>) -> Request {
    Request {
        token,
        request_id: Some(context.request_id.as_str().to_owned()),
        ip: context.ip,
        user_agent: context.user_agent,
        ..Request::default()
    }
}

/// Tags that are no versions are of nothing that was ever here, so they never match.
fn condition(if_match: &IfMatch) -> Condition {
    match if_match {
        IfMatch::Absent => Condition::None,
        IfMatch::Any => Condition::Exists,
        IfMatch::OneOf(tags) => {
            let versions = tags.iter().filter_map(|tag| {
                let version: u64 = tag.parse().ok()?;
                (version.to_string() == *tag).then_some(version)
            });
            Condition::VersionIn(versions.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_as_they_are_written_match() {
        let tags = ["7", "07", "+7", "x", "18446744073709551616"].map(str::to_owned);
        let asked = condition(&IfMatch::OneOf(tags.into()));
        assert_eq!(asked, Condition::VersionIn(vec![7]));
        assert_eq!(condition(&IfMatch::Any), Condition::Exists);
        assert_eq!(condition(&IfMatch::Absent), Condition::None);
    }
}
