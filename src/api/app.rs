//! The whole edge on a service, and its document without one.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::FromRef, middleware::from_fn};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::{EdgeSettings, middleware, openapi, replica, routes};
use crate::service::Service;

/// Seconds; the answers of an embedded store take about a millisecond.
const LATENCY_BUCKETS: [f64; 14] = [
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0,
];
/// Events; a batch has at most a few thousand.
const BATCH_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 2_000.0];
/// What nothing may be counted of for long: 0 from the start, so that an alert can tell it from a
/// metric that is not there.
const COUNTED_SELDOM: [&str; 7] = [
    "crewlog_append_conflicts_total",
    "crewlog_appends_lost_total",
    "crewlog_attempts_not_kept_total",
    "crewlog_batches_set_back_total",
    "crewlog_cache_misses_total",
    "crewlog_publishing_failed_total",
    "crewlog_unanswered_total",
];
/// The same of what there is nothing of for long.
const NOTHING_YET: [&str; 5] = [
    "crewlog_audit_tails",
    "crewlog_checkpoint_position",
    "crewlog_published_position",
    "crewlog_rebuild_entries_left",
    "crewlog_rebuild_entries_per_second",
];
/// How often histograms are folded when nobody asks for them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What every handler may ask for.
#[derive(Debug, Clone, FromRef)]
pub struct Edge {
    /// What is asked.
    pub service: Arc<Service>,
    /// Where people reach this server.
    pub public_url: PublicUrl,
    /// What `/metrics` shows; nothing where no recorder was installed.
    pub metrics: Option<PrometheusHandle>,
}

/// The beginning of links that people follow, without a slash at its end; empty for links
/// that are relative to this server.
#[derive(Debug, Clone)]
pub struct PublicUrl(Arc<str>);

impl PublicUrl {
    /// The link to a path, `/…`.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

/// The server: every route on a service, the document and its viewer, the layers around it.
///
/// Serve it with [`super::server::serve`].
///
/// # Errors
/// Where the OpenAPI document cannot be written as JSON.
pub fn app(service: Arc<Service>, settings: &EdgeSettings) -> Result<Router, serde_json::Error> {
    let public_url = settings.public_url.as_deref().unwrap_or_default();
    let edge = Edge {
        service,
        public_url: PublicUrl(public_url.trim_end_matches('/').into()),
        metrics: settings.metrics.clone(),
    };
    let (router, described) = routes().split_for_parts();
    let mut router = openapi::served(router, &openapi::document(described))?;
    if edge.service.is_replica() {
        router = router.layer(from_fn(replica::reads_only));
    }
    Ok(middleware::layers(router, settings).with_state(edge))
}

/// The OpenAPI document, as `GET /openapi.json` answers it.
///
/// # Errors
/// Where it cannot be written as JSON.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    openapi::document(routes().into_openapi()).to_pretty_json()
}

/// Begins to keep metrics for this process; the handle goes into
/// [`EdgeSettings::metrics`].
///
/// # Errors
/// Where the process has a recorder already.
pub fn install_metrics() -> Result<PrometheusHandle, BuildError> {
    let latency = Matcher::Suffix("_seconds".to_owned());
    let batches = Matcher::Full("crewlog_batch_events".to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(latency, &LATENCY_BUCKETS)?
        .set_buckets_for_metric(batches, &BATCH_BUCKETS)?
        .install_recorder()?;
    for name in COUNTED_SELDOM {
        metrics::counter!(name).increment(0);
    }
    for name in NOTHING_YET {
        metrics::gauge!(name).set(0.0);
    }
    let upkeep = handle.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(UPKEEP_EVERY);
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
