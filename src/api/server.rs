//! Connections: accepted, read with a deadline, and ended in order.
//!
//! A client that does not get a request's header sent in time loses its connection, however
//! steadily it sends; so does one that keeps a connection and asks for nothing, and one that takes
//! nothing of its answer for as long. What comes between is bounded by
//! [`super::EdgeSettings::timeout`]. So many connections are served at once; more wait. Where this
//! server has a certificate ([`super::tls`]), agreeing on TLS comes first, within the same time.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, header},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::tls::Identity;

/// The longest header of a request, all lines together.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The most connections at once; what waits beyond is the operating system's to keep.
const CONNECTIONS_MAX: usize = 10_000;
/// How long an answer that lasts as long as its reader likes may take to end when the server stops:
/// it has been told, so that what does not end is a reader who takes nothing of it.
const LONG_ANSWERS_END_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait where no connection can be accepted, as there are too many.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Marks an answer that lasts as long as its reader likes, and that ends by itself when the server
/// stops: stopping waits for a moment only.
#[derive(Debug, Clone, Copy)]
pub struct LastsLong;

/// Where connections come from, and what they may do.
#[derive(Clone)]
pub struct Door {
    /// Whose certificate clients are shown; without one, they speak in plain text.
    pub identity: Option<Arc<Identity>>,
    /// How long a client may take to agree on how to speak, to send a request's header, or to take
    /// nothing of an answer.
    pub timeout: Duration,
    /// Cancelled when the server is about to stop: each answer ends its connection from then on, so
    /// that whoever asks again comes to another.
    pub leaving: CancellationToken,
}

/// Serves `app` until it is told to stop, and then until every request that was begun is
/// answered. Each request knows its peer's address.
pub async fn serve(listener: TcpListener, app: Router, door: Door, stopping: CancellationToken) {
    serve_at_once(CONNECTIONS_MAX, listener, app, door, stopping).await;
}

async fn serve_at_once(
    connections_max: usize,
    listener: TcpListener,
    app: Router,
    door: Door,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    let room = Arc::new(Semaphore::new(connections_max));
    loop {
        let place = tokio::select! {
            place = room.clone().acquire_owned() => place,
            () = stopping.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                tracing::trace!(%peer, "a connection was accepted");
                let (app, door, stopping) = (app.clone(), door.clone(), stopping.clone());
                connections.spawn(async move {
                    enter(stream, peer, app, door, stopping).await;
                    drop(place);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Agrees with a client on how to speak, and serves it.
async fn enter(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    door: Door,
    stopping: CancellationToken,
) {
    // Small answers must not wait for more to be sent.
    let _ = stream.set_nodelay(true);
    let Some(identity) = &door.identity else {
        return connection(stream, peer, app, &door, stopping).await;
    };
    let agreed = tokio::select! {
        agreed = timeout(door.timeout, identity.accept(stream)) => agreed,
        () = stopping.cancelled() => return,
    };
    match agreed {
        Ok(Ok(stream)) => connection(stream, peer, app, &door, stopping).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "a client speaks no TLS that is spoken here")
        }
        Err(_) => tracing::debug!(%peer, "a client took too long to agree on TLS"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    peer: SocketAddr,
    app: Router,
    door: &Door,
    stopping: CancellationToken,
) {
    let lasts_long = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (app, lasts_long) = (app.clone(), lasts_long.clone());
        let leaving = &door.leaving;
        async move {
            let mut answered = answer(app, peer, request.map(Body::new)).await;
            if let Ok(response) = &mut answered
                && leaving.is_cancelled()
            {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            let is_long = |response: &Response| response.extensions().get::<LastsLong>().is_some();
            lasts_long.store(answered.as_ref().is_ok_and(is_long), Ordering::Relaxed);
            answered
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(door.timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(door.timeout));
    let stream = TokioIo::new(Box::pin(stream));
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match lasts_long.load(Ordering::Relaxed) {
                false => connection.await,
                true => {
                    let ended = timeout(LONG_ANSWERS_END_WITHIN, connection).await;
                    ended.unwrap_or(Ok(()))
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended in the midst of something");
    }
}

async fn answer(
    app: Router,
    peer: SocketAddr,
    mut request: Request,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}

/// Whether only the connection that was being accepted is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, sleep};

    use super::*;

    const LARGE: usize = 64 * 1024 * 1024;
    const TIMEOUT: Duration = Duration::from_millis(500);

    async fn listen(connections_max: usize) -> SocketAddr {
        listen_until(connections_max, CancellationToken::new()).await
    }

    async fn listen_until(connections_max: usize, leaving: CancellationToken) -> SocketAddr {
        let app = Router::new()
            .route("/large", get(async || vec![b'x'; LARGE]))
            .route("/small", get(async || "here"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stopping = CancellationToken::new();
        tokio::spawn(serve_at_once(
            connections_max,
            listener,
            app,
            Door {
                identity: None,
                timeout: TIMEOUT,
                leaving,
            },
            stopping,
        ));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it is sent");
        stream
    }

    /// All that comes until the connection ends, in order or not.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        received
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_cut_off() {
        let address = listen(10).await;
        let idle = ask(address, "/large").await;
        let mut steady = ask(address, "/large").await;
        // Slower than that, but never for as long.
        let mut first = vec![0; 1_000_000];
        for _ in 0..3 {
            sleep(TIMEOUT / 2).await;
            steady.read_exact(&mut first).await.expect("more of it");
        }
        assert!(rest(steady).await.len() > LARGE - 3_000_000);
        sleep(TIMEOUT).await;
        let received = rest(idle).await.len();
        assert!(received < LARGE, "{received} bytes were sent to nobody");
    }

    #[tokio::test]
    async fn who_leaves_ends_each_connection_with_its_answer() {
        let leaving = CancellationToken::new();
        let address = listen_until(10, leaving.clone()).await;
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.expect("it is sent");
        let mut answer = vec![0; 4_096];
        let read = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(
            answer.ends_with("here") && !answer.contains("close"),
            "{answer}"
        );
        leaving.cancel();
        stream.write_all(request).await.expect("it is still there");
        let last = rest(stream).await;
        let last = String::from_utf8_lossy(&last);
        assert!(last.ends_with("here") && last.contains("close"), "{last}");
    }

    #[tokio::test]
    async fn no_more_are_served_at_once() {
        let address = listen(1).await;
        let started = Instant::now();
        let silent = TcpStream::connect(address).await.expect("it listens");
        sleep(TIMEOUT / 10).await;
        let waits = ask(address, "/small").await;
        assert!(rest(waits).await.ends_with(b"here"));
        assert!(started.elapsed() >= TIMEOUT / 2, "it waited for its turn");
        drop(silent);
    }
}
