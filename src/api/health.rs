//! How the server is: for load balancers, for Prometheus, and for people.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{app::Edge, problem::Problem};
use crate::{
    journal::stores::FORMAT,
    projections::{POSITION_METRIC, RebuildStatus},
    service::{Readiness, Service},
};

/// The media type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Edge> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(version))
}

/// That the server runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the server can do its work, and how far it has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadinessBody {
    ready: bool,
    /// What is wrong, where something is.
    problems: Vec<String>,
    /// The kind of the store: `sqlite` or `postgres`.
    store: String,
    /// The newest position of the log.
    position: u64,
    queue: QueueBody,
    projections: Vec<ProjectionBody>,
    /// The rebuild of projections that is under way, where one is.
    rebuild: Option<RebuildBody>,
}

/// How far a rebuild of projections has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rebuild)]
pub struct RebuildBody {
    projections: Vec<String>,
    /// `asked`, `running`, `swapped` (the new tables serve, and the old ones are removed) or
    /// `cancelled`.
    #[schema(example = "running")]
    state: &'static str,
    position: u64,
    /// The position to reach.
    head: u64,
    entries_per_second: u64,
    seconds_left: Option<u64>,
}

impl From<RebuildStatus> for RebuildBody {
    fn from(status: RebuildStatus) -> Self {
        Self {
            state: status.state.name(),
            position: status.position,
            head: status.head,
            entries_per_second: status.per_second,
            seconds_left: status.seconds_left(),
            projections: status.names,
        }
    }
}

/// The writer's queue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueBody {
    /// Commands that wait.
    length: usize,
    /// Commands that may wait at once.
    capacity: usize,
}

/// How far a projection has come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Projection)]
pub struct ProjectionBody {
    name: String,
    position: u64,
    /// Positions behind the log.
    lag: u64,
}

impl From<Readiness> for ReadinessBody {
    fn from(readiness: Readiness) -> Self {
        let head = readiness.head_position;
        let projections = readiness.projections.into_iter();
        let projections = projections.map(|(name, position)| ProjectionBody {
            name,
            position,
            lag: head.saturating_sub(position),
        });
        Self {
            ready: readiness.ready,
            problems: readiness.problems,
            store: readiness.store,
            position: head,
            queue: QueueBody {
                length: readiness.queue_length,
                capacity: readiness.queue_capacity,
            },
            projections: projections.collect(),
            rebuild: readiness.rebuild.map(RebuildBody::from),
        }
    }
}

/// Which program this is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Version {
    #[schema(example = "crewlog")]
    name: &'static str,
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The format of the log that this program writes.
    log_format: i64,
}

/// Whether the server runs. It says nothing about the store: see `/readyz`.
#[utoipa::path(
    get, path = "/healthz", tag = "running it", security(()),
    responses((status = 200, description = "It runs.", body = Health)),
)]
pub async fn healthz() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

/// Whether the server can do its work: the store, the queue, each projection.
#[utoipa::path(
    get, path = "/readyz", tag = "running it", security(()),
    responses(
        (status = 200, description = "It can.", body = ReadinessBody),
        (status = 503, description = "It cannot; `problems` says what is wrong.", body = ReadinessBody),
    ),
)]
pub async fn readyz(State(service): State<Arc<Service>>) -> Response {
    let readiness = service.readiness().await;
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, axum::Json(ReadinessBody::from(readiness))).into_response()
}

/// What Prometheus collects; `404` where the server keeps no metrics.
#[utoipa::path(
    get, path = "/metrics", tag = "running it", security(()),
    responses((status = 200, description = "The Prometheus text format.", body = String, content_type = "text/plain")),
)]
pub async fn metrics(
    State(handle): State<Option<PrometheusHandle>>,
    State(service): State<Arc<Service>>,
) -> Result<impl IntoResponse, Problem> {
    let handle = handle.ok_or_else(Problem::not_found)?;
    // Also of a process that has not written yet.
    metrics::gauge!("crewlog_head_position").set(service.position() as f64);
    for name in service.projections_at_head() {
        let position = metrics::gauge!(POSITION_METRIC, "projection" => name);
        position.set(service.position() as f64);
    }
    Ok(([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], handle.render()))
}

/// Which program this is.
#[utoipa::path(
    get, path = "/version", tag = "running it", security(()),
    responses((status = 200, description = "Name, version, and the log's format.", body = Version)),
)]
pub async fn version() -> axum::Json<Version> {
    axum::Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        log_format: FORMAT,
    })
}
