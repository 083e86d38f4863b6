//! What a request spends its time on, for those who collect that: spans, sent by OTLP over HTTP
//! where `crewlog serve --otlp-endpoint` says to, and else made by nobody.
//!
//! A span of a request has its method, route, status, request id and problem; below it, what waits
//! for the log has the position. Never a path, a query, a header or a body: nothing of what a log
//! line may not have. Spans have a target of their own, so that no log line has them and the log's
//! filter does not switch them off.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use axum::http::HeaderMap;
use opentelemetry::{KeyValue, propagation::TextMapPropagator, trace::TracerProvider};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// The target of all spans that are sent; macros want it written out where they are made.
pub const TARGET: &str = "crewlog::traces";
/// Where a collector takes them, below its address.
const PATH: &str = "/v1/traces";
/// How long a collector may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Sends spans in the background until it is stopped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to a collector. Further settings are the standard ones of OpenTelemetry's environment
    /// (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, …). Not to be
    /// called inside of an asynchronous task.
    ///
    /// # Errors
    /// When that is no URL.
    pub fn to(endpoint: &str) -> Result<Self, ExporterBuildError> {
        let endpoint = endpoint.trim_end_matches('/');
        let url = match endpoint.ends_with(PATH) {
            true => endpoint.to_owned(),
            false => format!("{endpoint}{PATH}"),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new()?)
            .with_endpoint(url)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(Self(provider.build()))
    }

    /// What takes the spans of a subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(env!("CARGO_PKG_NAME")))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == TARGET
            }))
    }

    /// Sends what there still is.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "not all spans could be sent");
        }
    }
}

/// The span of a request; below the one of whoever sent it, where `traceparent` says so.
pub fn request(method: &str, route: &str, id: &dyn fmt::Display, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: "crewlog::traces",
        parent: None,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        crewlog.request_id = %id,
        crewlog.problem = field::Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // It has not been entered, so that it can still be put somewhere.
        let _ = span.set_parent(parent);
    }
    span
}

/// What became of a request.
pub fn answered(span: &Span, status: u16, problem: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", i64::from(status));
    if let Some(problem) = problem {
        span.record("crewlog.problem", problem);
    }
    if status >= 500 {
        span.record("otel.status_code", "error");
    }
}

/// The span of waiting for the log.
pub fn submit() -> Span {
    tracing::info_span!(target: "crewlog::traces", "submit", crewlog.position = field::Empty)
}

/// The program's own client: the exporter works on a thread of its own, and waits there.
#[derive(Debug)]
struct Client(reqwest::blocking::Client);

impl Client {
    fn new() -> Result<Self, ExporterBuildError> {
        let client = reqwest::blocking::Client::builder().timeout(ANSWERS_WITHIN);
        let failed = |error: reqwest::Error| ExporterBuildError::InternalFailure(error.to_string());
        client.build().map(Self).map_err(failed)
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let mut answer = self.0.execute(request.try_into()?)?;
        let mut response = Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            std::mem::swap(headers, answer.headers_mut());
        }
        Ok(response.body(answer.bytes()?)?)
    }
}
