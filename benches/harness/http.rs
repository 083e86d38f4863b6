//! HTTP over loopback: served as the program does or as plain axum does, and as little of a
//! client as serves here. The client is part of the process that is measured, and costs every
//! side the same.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, serve::ListenerExt};
use crewlog::api::{EdgeSettings, server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::cpu_time;

/// A second's requests, and the processor time of this process for one, the client's included.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    pub per_second: f64,
    pub cpu_us: f64,
}

/// Serves as `crewlog serve` does.
pub async fn listen(app: Router) -> SocketAddr {
    let (listener, address) = bound().await;
    let door = server::Door {
        leaving: CancellationToken::new(),
        identity: None,
        timeout: EdgeSettings::default().header_timeout,
    };
    let serving = server::serve(listener, app, door, CancellationToken::new());
    tokio::spawn(serving);
    address
}

/// Serves as axum does by itself.
pub async fn listen_plainly(app: Router) -> SocketAddr {
    let (listener, address) = bound().await;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Asks on so many connections at once for `seconds`, each one request after the other;
/// `write` puts the request of a number into the buffer.
pub async fn asked(
    address: SocketAddr,
    connections: usize,
    seconds: f64,
    write: impl Fn(usize, &mut Vec<u8>) + Clone + Send + 'static,
) -> Figure {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(address).await);
    }
    let count = Arc::new(AtomicUsize::new(0));
    let limit = Duration::from_secs_f64(seconds);
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let (count, write) = (count.clone(), write.clone());
            tokio::spawn(async move {
                let mut request = Vec::with_capacity(1_024);
                while started.elapsed() < limit {
                    request.clear();
                    write(count.fetch_add(1, Ordering::Relaxed), &mut request);
                    client.ask(&request).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("every request is answered");
    }
    let requests = count.load(Ordering::Relaxed) as f64;
    Figure {
        per_second: requests / started.elapsed().as_secs_f64(),
        cpu_us: (cpu_time() - cpu_before).as_secs_f64() * 1e6 / requests,
    }
}

/// One request after the other on one connection; answers are good, and have a length or come
/// in chunks.
struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            received: Vec::with_capacity(4_096),
        }
    }

    async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("it is sent");
        self.received.clear();
        while !is_whole(&self.received) {
            let read = self.stream.read_buf(&mut self.received).await;
            assert_ne!(read.expect("an answer"), 0, "the connection was closed");
        }
        let is_good = self.received.starts_with(b"HTTP/1.1 200");
        assert!(is_good, "{}", String::from_utf8_lossy(&self.received));
    }
}

/// Whether an answer has come to its end.
fn is_whole(received: &[u8]) -> bool {
    let Some(head) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let text = std::str::from_utf8(&received[..head]).expect("a head is text");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let found = name.eq_ignore_ascii_case("content-length");
        found.then(|| value.trim().parse::<usize>().expect("a number"))
    });
    match length {
        Some(length) => received.len() >= head + 4 + length,
        // In chunks, then.
        None => received.ends_with(b"\r\n0\r\n\r\n"),
    }
}
