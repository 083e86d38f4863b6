//! The live tail of an audit log, as Server-Sent Events.
//!
//! Each entry is an event: its `id` is the entry's position, so that a client that comes back with
//! it in `Last-Event-ID`, as browsers do by themselves, goes on behind it. The last event says why
//! there are no more (`end`); comments between keep the connection open.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    app::Edge,
    audit::{AuditEntryBody, AuditOrder, AuditQuery, FilterText, Outcome, QueryTime},
    exchange::{PrincipalReader, ReadQuery},
    headers::{CREWLOG_POSITION, LastEventId, MinimumPosition},
    paging::Limit,
    problem::Problem,
    query::Path,
    server::LastsLong,
    values::Position,
};
use crate::{
    domain::{
        environment::Environment,
        ids::{OrganizationId, WorkspaceId},
    },
    service::{AuditEntry, AuditFilter, AuditScope, AuditTail, Service, TailStep},
};

/// How often something is sent where nothing happens: proxies close what is silent for a minute.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// Asks nginx, and what does as it does, to pass events on as they come.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(follow_audit))
        .routes(routes!(follow_organization_audit))
}

/// Which entries are followed; each condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// The id of who acted.
    #[param(inline)]
    actor: Option<FilterText>,
    /// As entries have it, `member.invited`.
    #[param(inline)]
    action: Option<FilterText>,
    /// The id of what was made or changed.
    #[param(inline)]
    target: Option<FilterText>,
    /// The id of a crew.
    #[param(inline)]
    crew: Option<FilterText>,
    #[param(inline)]
    environment: Option<Environment>,
    /// Recorded at this time or later.
    #[param(inline)]
    from: Option<QueryTime>,
    /// Recorded before this time; the tail ends when that has passed.
    #[param(inline)]
    to: Option<QueryTime>,
    /// Positions after this one; without it, and without `Last-Event-ID`, what is written from
    /// now on.
    #[param(inline)]
    after: Option<Position>,
    /// Positions before this one; the tail ends there.
    #[param(inline)]
    before: Option<Position>,
    /// Words that must all occur, as in the list.
    #[param(inline)]
    q: Option<FilterText>,
    #[param(inline)]
    outcome: Option<Outcome>,
}

impl ReadQuery for TailQuery {}

impl TailQuery {
    /// The filter, and the position to begin behind, where one is given.
    fn into_filter(self) -> (AuditFilter, Option<u64>) {
        let after = self.after.map(|Position(position)| position);
        let listed = AuditQuery {
            actor: self.actor,
            action: self.action,
            target: self.target,
            crew: self.crew,
            environment: self.environment,
            from: self.from,
            to: self.to,
            after: None,
            before: self.before,
            q: self.q,
            outcome: self.outcome,
            order: AuditOrder::Asc,
            limit: Limit::default(),
            cursor: None,
        };
        (listed.into_filter(), after)
    }
}

/// What comes next, as an event.
fn event(step: TailStep) -> Event {
    match step {
        TailStep::Entry(entry) => {
            let id = entry.position.to_string();
            Event::default().event("entry").id(id).data(&entry.shown)
        }
        TailStep::End(why) => Event::default()
            .event("end")
            .data(json!({"because": why.name()}).to_string()),
    }
}

fn shown(entry: AuditEntry) -> String {
    let body = AuditEntryBody::from(entry);
    serde_json::to_string(&body).expect("an entry has only names as members")
}

async fn next(
    (service, tail): (Arc<Service>, Option<AuditTail>),
) -> Option<(Result<Event, Infallible>, (Arc<Service>, Option<AuditTail>))> {
    let mut tail = tail?;
    let step = service.next_of_tail(&mut tail).await;
    let goes_on = matches!(step, TailStep::Entry(_));
    Some((Ok(event(step)), (service, goes_on.then_some(tail))))
}

async fn follow(
    service: Arc<Service>,
    reader: PrincipalReader<TailQuery>,
    LastEventId(last): LastEventId,
    scope: AuditScope,
) -> Result<Response, Problem> {
    let PrincipalReader {
        request,
        principal,
        query,
    } = reader;
    let (filter, after) = query.into_filter();
    let tail = service
        .begin_tail(&request, &principal, scope, (filter, shown), last.or(after))
        .await?;
    let began_at = tail.began_at();
    let events = futures::stream::unfold((service, Some(tail)), next);
    let keep_alive = KeepAlive::new().interval(COMMENT_EVERY).text("still here");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CREWLOG_POSITION, HeaderValue::from(began_at));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response.extensions_mut().insert(LastsLong);
    Ok(response)
}

/// Follows the audit log of a workspace: every entry once and in order, as it is written, as
/// events `entry` whose `id` is the position. A client that comes back with the last `id` that it
/// has seen in `Last-Event-ID` loses nothing. The tail ends with an event `end`, within a second
/// of its reader's access.
#[utoipa::path(
    get, path = "/v1/workspaces/{ws}/audit/stream", tag = "audit",
    params(("ws" = WorkspaceId, Path), TailQuery, LastEventId, MinimumPosition),
    responses((
        status = 200, description = "Server-Sent Events: `entry` with an entry, `end` with why.",
        body = String, content_type = "text/event-stream",
    )),
)]
pub async fn follow_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<TailQuery>,
    last: LastEventId,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Response, Problem> {
    follow(service, reader, last, AuditScope::Workspace(workspace)).await
}

/// Follows the audit log of an organization, without what changed inside crews.
#[utoipa::path(
    get, path = "/v1/organizations/{org}/audit/stream", tag = "audit",
    params(("org" = OrganizationId, Path), TailQuery, LastEventId, MinimumPosition),
    responses((
        status = 200, description = "Server-Sent Events: `entry` with an entry, `end` with why.",
        body = String, content_type = "text/event-stream",
    )),
)]
pub async fn follow_organization_audit(
    State(service): State<Arc<Service>>,
    reader: PrincipalReader<TailQuery>,
    last: LastEventId,
    Path(organization): Path<OrganizationId>,
) -> Result<Response, Problem> {
    let scope = AuditScope::Organization(organization);
    follow(service, reader, last, scope).await
}
