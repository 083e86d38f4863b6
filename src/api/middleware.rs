//! What happens to every request, whatever it asks for.
//!
//! [`layers`] gives each request its id and its context, measures it, bounds its size and its
//! time, and sees to it that everything that goes wrong, a panic included, is answered as a
//! problem. Log lines and metrics name the route (`/v1/workspaces/{ws}`), never the path or
//! the query that was sent, which may hold tokens.
//!
//! To add a layer: one line in [`layers`]; the first line is the outermost.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};
use ipnet::IpNet;
use metrics::{Counter, Histogram};
use metrics_exporter_prometheus::PrometheusHandle;
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, DefaultPredicate, Predicate, predicate::SizeAbove},
    limit::RequestBodyLimitLayer,
    timeout::TimeoutLayer,
};
use tracing::{Instrument, Span};

use super::{
    client_address::client_address,
    headers::RequestContext,
    pace::ToldPace,
    problem::{Problem, ProblemCode},
    request_id::{RequestId, X_REQUEST_ID},
};
use crate::traces;

/// Answers below this fit into a packet as they are; packing them takes longer than sending.
const COMPRESSED_BYTES_MIN: u64 = 1_024;

/// How much of a refused body is read, and for how long.
const HEARD_OUT_BYTES_MAX: usize = 8 * 1024 * 1024;
const HEARD_OUT_FOR_MAX: Duration = Duration::from_secs(5);

/// What the edge can be configured to do.
#[derive(Debug, Clone)]
pub struct EdgeSettings {
    /// Where people reach this server, for links in answers; without it links are relative.
    pub public_url: Option<String>,
    /// What `/metrics` shows: the handle of [`super::install_metrics`].
    pub metrics: Option<PrometheusHandle>,
    /// Whose `Forwarded` and `X-Forwarded-For` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long a request's header may take to arrive, and a connection to have none.
    pub header_timeout: Duration,
    /// How long a handler may take until it has an answer's head, the body's arrival included.
    pub timeout: Duration,
    /// The largest body that any route takes, in bytes; each route has its own below it.
    pub body_limit_bytes: usize,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            metrics: None,
            trusted_proxies: Vec::new(),
            header_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            body_limit_bytes: 34 * 1024 * 1024,
        }
    }
}

/// Puts everything around a router that all routes need.
///
/// Serve it with [`super::server::serve`]: without the peer's address, every client's is
/// unknown.
pub fn layers<S>(router: Router<S>, settings: &EdgeSettings) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let late = TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, settings.timeout);
    let worth_packing = DefaultPredicate::new().and(SizeAbove::new(COMPRESSED_BYTES_MIN));
    // As one: axum keeps what it is given in a box that is cloned for every request, and one box
    // in another would be cloned once for each around it.
    let all = ServiceBuilder::new()
        .layer(from_fn_with_state(
            Arc::new(Outermost::of(settings)),
            served,
        ))
        .layer(CompressionLayer::new().compress_when(worth_packing))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(late)
        .layer(from_fn(heard_out))
        .layer(RequestBodyLimitLayer::new(settings.body_limit_bytes));
    router.layer(all)
}

/// What the outermost work needs.
#[derive(Debug)]
struct Outermost {
    trusted_proxies: Vec<IpNet>,
    meters: Meters,
}

impl Outermost {
    fn of(settings: &EdgeSettings) -> Self {
        Self {
            trusted_proxies: settings.trusted_proxies.clone(),
            meters: Meters::default(),
        }
    }
}

/// The outermost work: id, context, span, metrics, headers, and problems in place of what
/// libraries answer.
async fn served(
    State(outermost): State<Arc<Outermost>>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let id = RequestId::from_headers(request.headers());
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0);
    let address = client_address(peer, request.headers(), &outermost.trusted_proxies);
    let context = RequestContext::new(id.clone(), address, request.headers());
    request.extensions_mut().insert(context);
    let pace = ToldPace::default();
    request.extensions_mut().insert(pace.clone());
    keep_unprinted(request.headers_mut());

    let exchange = Exchange::of(&request, &id);
    let work = id
        .clone()
        .scope(told_as_problem(request, next))
        .instrument(exchange.span.clone())
        .instrument(exchange.trace.clone());
    let mut response = work.await;
    pace.show(response.headers_mut());
    exchange.ended(&response, &id, started.elapsed(), &outermost.meters);
    complete(&mut response, &id);
    response
}

/// Headers that hold secrets are not printed, whoever prints the request.
fn keep_unprinted(headers: &mut HeaderMap) {
    for name in [header::AUTHORIZATION, header::COOKIE] {
        if let header::Entry::Occupied(mut lines) = headers.entry(name) {
            lines.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
}

/// Reads what a refused request still sends: the connection would be closed under whoever is
/// sending, to whom that is an error, and the answer would be lost.
async fn heard_out(request: Request, next: Next) -> Response {
    // Who asks first whether the body is wanted has not sent it.
    let asks_first = request.headers().contains_key(header::EXPECT);
    if asks_first || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let unread = Unread::default();
    let lent = |sent| {
        Body::new(Lent {
            sent,
            unread: unread.clone(),
        })
    };
    let response = next.run(request.map(lent)).await;
    let Some(rest) = unread.take() else {
        return response;
    };
    let heard = async {
        let (mut rest, mut bytes) = (rest.into_data_stream(), 0);
        while let Some(Ok(chunk)) = rest.next().await {
            bytes += chunk.len();
            if bytes > HEARD_OUT_BYTES_MAX {
                break;
            }
        }
    };
    // Whoever sends more, or more slowly, loses the connection.
    let _ = tokio::time::timeout(HEARD_OUT_FOR_MAX, heard).await;
    response
}

/// Where a body is left by who did not read it to its end.
#[derive(Clone, Default)]
struct Unread(Arc<Mutex<Option<Body>>>);

impl Unread {
    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request's body, which comes back if it is not read to its end.
struct Lent {
    sent: Body,
    unread: Unread,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.sent).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.sent.is_end_stream() {
            let rest = std::mem::take(&mut self.sent);
            let mut unread = self.unread.0.lock().unwrap_or_else(PoisonError::into_inner);
            *unread = Some(rest);
        }
    }
}

/// What logs and metrics say of one request and its answer.
struct Exchange {
    method: &'static str,
    /// None where no route is like it.
    route: Option<MatchedPath>,
    span: Span,
    /// For who collects traces; else nothing.
    trace: Span,
}

impl Exchange {
    fn of(request: &Request, id: &RequestId) -> Self {
        let method = known_method(request.method());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let span = tracing::info_span!("request", request_id = %id);
        let trace = traces::request(method, name_of(route.as_ref()), id, request.headers());
        Self {
            method,
            route,
            span,
            trace,
        }
    }

    /// The line says all by itself: what a span is given later is read and written anew.
    fn ended(self, response: &Response, id: &RequestId, latency: Duration, meters: &Meters) {
        let (method, route) = (self.method, name_of(self.route.as_ref()));
        let status = response.status().as_u16();
        let code = response.extensions().get::<ProblemCode>();
        let code = code.map(|code| code.kind().code);
        traces::answered(&self.trace, status, code);
        tracing::info!(
            method,
            route,
            request_id = id.as_str(),
            status,
            code,
            latency_ms = latency.as_secs_f64() * 1_000.0,
            "answered"
        );
        let meter = meters.of(method, route, status);
        meter.latency.record(latency.as_secs_f64());
        meter.requests.increment(1);
    }
}

fn name_of(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
}

/// What is counted of one method, route and status.
#[derive(Clone)]
struct Meter {
    method: &'static str,
    status: u16,
    latency: Histogram,
    requests: Counter,
}

impl Meter {
    fn new(method: &'static str, route: &str, status: u16) -> Self {
        let labels = [("method", method.to_owned()), ("route", route.to_owned())];
        let latency = metrics::histogram!("http_request_duration_seconds", &labels);
        let [of_method, of_route] = labels;
        let labels = [of_method, of_route, ("status", status.to_string())];
        let requests = metrics::counter!("http_requests_total", &labels);
        Self {
            method,
            status,
            latency,
            requests,
        }
    }
}

/// The meters of each route, so that not every request looks them up by their labels. There are
/// no more than there are routes, methods and statuses.
#[derive(Default)]
struct Meters(RwLock<HashMap<String, Vec<Meter>>>);

impl fmt::Debug for Meters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Meters(…)")
    }
}

impl Meters {
    fn of(&self, method: &'static str, route: &str, status: u16) -> Meter {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of_route = known.get(route).into_iter().flatten();
        let mut same = of_route.filter(|meter| (meter.method, meter.status) == (method, status));
        if let Some(meter) = same.next() {
            return meter.clone();
        }
        drop(known);
        let meter = Meter::new(method, route, status);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of_route = known.entry(route.to_owned()).or_default();
        of_route.push(meter.clone());
        meter
    }
}

/// Anybody can invent a method, and each would be a new time series.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// The headers of every answer; what a handler set stays.
fn complete(response: &mut Response, id: &RequestId) {
    let headers = response.headers_mut();
    if let Some(value) = id.header_value() {
        headers.insert(X_REQUEST_ID, value);
    }
    const DEFAULTS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ];
    for (name, value) in DEFAULTS {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

/// Answers that a library made (no such path, no such method, too late, too large) become
/// problems. axum adds `Allow` outside of this layer, to the `204` for `OPTIONS` too.
async fn told_as_problem(request: Request, next: Next) -> Response {
    let asks_for_methods = request.method() == Method::OPTIONS;
    let response = next.run(request).await;
    let status = response.status();
    if asks_for_methods && status == StatusCode::METHOD_NOT_ALLOWED {
        StatusCode::NO_CONTENT.into_response()
    } else if is_bare_refusal(&response) {
        Problem::of(ProblemCode::of_status(status)).into_response()
    } else {
        response
    }
}

/// An error without a body of its own, or with a line of plain text.
fn is_bare_refusal(response: &Response) -> bool {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_plain = content_type.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    is_error && is_plain
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = said.unwrap_or("without words"),
        "a handler panicked"
    );
    Problem::of(ProblemCode::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, Bytes},
        routing::{get, post},
    };
    use tower::ServiceExt;

    use super::*;
    use crate::api::testing::{json_of, text_of};

    fn settings() -> EdgeSettings {
        EdgeSettings {
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
            timeout: Duration::from_millis(50),
            body_limit_bytes: 1_000,
            ..EdgeSettings::default()
        }
    }

    fn router() -> Router {
        async fn forever() {
            std::future::pending().await
        }
        async fn panics() {
            panic!("hunter2")
        }
        let context =
            async |context: RequestContext| format!("{:?} {:?}", context.ip, context.user_agent);
        let router = Router::new()
            .route("/ok/{id}", get(async || "x".repeat(5_000)))
            .route("/context", get(context))
            .route("/body", post(async |body: Bytes| body.len().to_string()))
            .route("/forever", get(forever))
            .route("/panics", get(panics))
            .route("/busy", get(async || StatusCode::SERVICE_UNAVAILABLE))
            .route("/own", get(async || (StatusCode::NOT_FOUND, axum::Json(1))));
        layers(router, &settings())
    }

    fn request(method: &str, uri: &str) -> Request {
        let request = Request::builder().method(method).uri(uri);
        request.body(Body::empty()).expect("a request")
    }

    async fn ask(request: Request) -> Response {
        router().oneshot(request).await.expect("infallible")
    }

    async fn code_of(response: Response) -> serde_json::Value {
        let id = response.headers()[X_REQUEST_ID].to_str().map(str::to_owned);
        let body = json_of(response).await;
        assert_eq!(body["request_id"].as_str(), id.ok().as_deref());
        body["code"].clone()
    }

    #[tokio::test]
    async fn what_libraries_refuse_is_a_problem() {
        assert_eq!(
            code_of(ask(request("GET", "/nowhere")).await).await,
            "not_found"
        );
        let response = ask(request("GET", "/body")).await;
        assert_eq!(response.headers()["allow"], "POST");
        assert_eq!(code_of(response).await, "method_not_allowed");
        let response = ask(request("GET", "/forever")).await;
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(code_of(response).await, "unavailable");
        assert_eq!(
            code_of(ask(request("GET", "/busy")).await).await,
            "unavailable"
        );
        assert_eq!(text_of(ask(request("GET", "/own")).await).await, "1");
    }

    #[tokio::test]
    async fn a_panic_is_told_to_the_log_only() {
        let response = ask(request("GET", "/panics")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = text_of(response).await;
        assert!(
            text.contains("\"internal\"") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn no_body_is_larger_than_the_limit() {
        let mut large = request("POST", "/body");
        *large.body_mut() = Body::from("x".repeat(1_001));
        large
            .headers_mut()
            .insert(header::CONTENT_LENGTH, 1_001.into());
        assert_eq!(code_of(ask(large).await).await, "body_too_large");
        let mut large = request("POST", "/body");
        let chunks = futures::stream::iter([Ok::<_, std::io::Error>("x".repeat(1_001))]);
        *large.body_mut() = Body::from_stream(chunks);
        assert_eq!(code_of(ask(large).await).await, "body_too_large");
    }

    #[tokio::test]
    async fn options_and_head_answer_without_a_body() {
        let response = ask(request("OPTIONS", "/ok/1")).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()["allow"], "GET,HEAD");
        assert_eq!(
            ask(request("OPTIONS", "/nowhere")).await.status(),
            StatusCode::NOT_FOUND
        );
        let response = ask(request("HEAD", "/ok/1")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text_of(response).await, "");
    }

    #[tokio::test]
    async fn request_ids_are_taken_over_or_made() {
        for (sent, kept) in [("my-id.1", true), ("not harmless", false)] {
            let mut request = request("GET", "/nowhere");
            request
                .headers_mut()
                .insert(X_REQUEST_ID, HeaderValue::from_static(sent));
            let response = ask(request).await;
            assert_eq!(response.headers()[X_REQUEST_ID] == sent, kept);
            assert_eq!(code_of(response).await, "not_found");
        }
    }

    #[tokio::test]
    async fn every_answer_has_its_headers_and_may_be_compressed() {
        let mut request = request("GET", "/ok/1");
        request
            .headers_mut()
            .insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let response = ask(request).await;
        let headers = response.headers();
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cache-control"], "no-store");
        let policy = headers["content-security-policy"]
            .to_str()
            .unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'"));
    }

    #[tokio::test]
    async fn handlers_know_who_asks() {
        let mut request = request("GET", "/context");
        let peer: SocketAddr = "10.1.2.3:4711".parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(peer));
        let headers = request.headers_mut();
        headers.insert(
            "x-forwarded-for",
            HeaderValue::from_static("6.6.6.6, 2.2.2.2"),
        );
        headers.insert(header::USER_AGENT, HeaderValue::from_static("curl"));
        assert_eq!(
            text_of(ask(request).await).await,
            "Some(2.2.2.2) Some(\"curl\")"
        );
    }

    #[tokio::test]
    async fn without_the_layers_a_context_is_our_fault() {
        let bare = Router::new().route("/", get(async |_: RequestContext| ()));
        let response = bare.oneshot(request("GET", "/")).await.expect("infallible");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn metrics_name_the_route_and_never_the_path() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        metrics::with_local_recorder(&recorder, || {
            runtime.expect("a runtime").block_on(async {
                ask(request("GET", "/ok/hunter2?token=hunter2")).await;
                ask(request("BREW", "/hunter2")).await;
            });
        });
        let text = handle.render();
        assert!(
            text.contains(r#"http_requests_total{method="GET",route="/ok/{id}",status="200"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"method="OTHER",route="unmatched",status="404""#),
            "{text}"
        );
        assert!(text.contains("http_request_duration_seconds"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
