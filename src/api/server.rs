//! Connections: accepted, read with a deadline, and ended in order.
//!
//! A client that does not get a request's header sent in time loses its connection, however
//! steadily it sends; so does one that keeps a connection and asks for nothing. What comes after
//! the header is bounded by [`super::EdgeSettings::timeout`].

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// The longest header of a request, all lines together.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long to wait where no connection can be accepted, as there are too many.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Serves `app` until it is told to stop, and then until every request that was begun is
/// answered. Each request knows its peer's address.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    header_timeout: Duration,
    stopping: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                tracing::trace!(%peer, "a connection was accepted");
                let app = app.clone();
                let stopping = stopping.clone();
                connections.spawn(connection(stream, peer, app, header_timeout, stopping));
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

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    header_timeout: Duration,
    stopping: CancellationToken,
) {
    // Small answers must not wait for more to be sent.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        answer(app.clone(), peer, request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
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
