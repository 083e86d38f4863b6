//! A balancer in front of servers, as small as one can be: round-robin over those whose `/readyz`
//! says 200. It repeats nothing: what a server does not answer, its client is told (502).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::load::until;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const BODY_BYTES_MAX: usize = 1 << 20;

/// See the module. It ends when dropped.
pub struct Balancer {
    url: String,
    state: Arc<Servers>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

struct Servers {
    client: Client,
    all: Mutex<Vec<Place>>,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Place {
    url: String,
    is_ready: bool,
}

impl Place {
    fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            is_ready: false,
        }
    }
}

impl Balancer {
    /// In front of servers; returns when they are ready.
    pub async fn start(urls: &[&str]) -> Self {
        let client = Client::builder().no_proxy().build();
        let state = Arc::new(Servers {
            client: client.expect("an HTTP client"),
            all: Mutex::new(urls.iter().map(|url| Place::new(url)).collect()),
            turn: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("the port"));
        let app = axum::Router::new().fallback(handed_on);
        let app = app.with_state(state.clone());
        let serving = async move { axum::serve(listener, app).await.expect("to serve") };
        let looking = state.clone().keep_looking();
        let balancer = Self {
            url,
            state,
            _tasks: [tokio::spawn(serving), tokio::spawn(looking)].map(AbortOnDropHandle::new),
        };
        balancer.all_ready().await;
        balancer
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts another server in a place, and waits until it is ready.
    pub async fn replace(&self, place: usize, url: &str) {
        self.state.all()[place] = Place::new(url);
        self.all_ready().await;
    }

    async fn all_ready(&self) {
        let ready = || self.state.all().iter().all(|place| place.is_ready);
        until("servers to be ready", Duration::from_secs(30), ready).await;
    }
}

impl Servers {
    fn all(&self) -> MutexGuard<'_, Vec<Place>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<String> {
        let all = self.all();
        let ready: Vec<_> = all.iter().filter(|place| place.is_ready).collect();
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        let next = ready.get(turn.checked_rem(ready.len())?)?;
        Some(next.url.clone())
    }

    async fn keep_looking(self: Arc<Self>) {
        loop {
            let looked_at = self.all().clone();
            for Place { url, .. } in looked_at {
                let answer = self.client.get(format!("{url}/readyz")).send().await;
                let is_ready = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
                for place in self.all().iter_mut().filter(|place| place.url == url) {
                    place.is_ready = is_ready;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn ask(&self, request: Request) -> Result<Response, String> {
        let server = self.next().ok_or("no server is ready")?;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES_MAX).await;
        let body = body.map_err(|error| error.to_string())?;
        let answer = self
            .client
            .request(parts.method, format!("{server}{}", parts.uri))
            .headers(without_the_connections(parts.headers))
            .body(body)
            .send()
            .await
            .map_err(|error| format!("{error:?}"))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.map_err(|error| error.to_string())?;
        let mut response = (status, Body::from(body)).into_response();
        *response.headers_mut() = without_the_connections(headers);
        Ok(response)
    }
}

/// Headers that are of one connection, and not of what it carries.
fn without_the_connections(mut headers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}

async fn handed_on(State(servers): State<Arc<Servers>>, request: Request) -> Response {
    match servers.ask(request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error).into_response(),
    }
}
