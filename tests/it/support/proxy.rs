//! A TCP proxy in front of PostgreSQL that cuts connections when a test says so, also at the worst
//! of moments: when a commit has been handed to the server and its answer has not come back.
//!
//! It reads the frontend's messages (type, length, content) as far as it must to know a commit.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What to do with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Keep it from the server, and end the connection.
    Before,
    /// Hand it to the server, and end the connection before the answer comes back.
    After,
}

/// See the module. It ends when dropped.
pub struct Proxy {
    url: String,
    state: Arc<State>,
}

struct State {
    /// Where connections go.
    target: Mutex<(String, u16)>,
    /// Ends all connections of now.
    connections: Mutex<CancellationToken>,
    /// What is to be done with the next commit.
    next: Mutex<Option<Cut>>,
    cuts: AtomicUsize,
    /// Whether bytes go neither way, and nobody is told.
    is_silent: AtomicBool,
    is_over: CancellationToken,
}

impl Proxy {
    /// Listens in front of the server of a URL.
    pub async fn start(url: &str) -> Self {
        let mut url = Url::parse(url).expect("a database URL");
        let target = address_of(&url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("the port");
        url.set_port(Some(address.port())).expect("a port");
        let state = Arc::new(State {
            target: Mutex::new(target),
            connections: Mutex::default(),
            next: Mutex::default(),
            cuts: AtomicUsize::new(0),
            is_silent: AtomicBool::new(false),
            is_over: CancellationToken::new(),
        });
        let listening = state.clone();
        tokio::spawn(async move {
            let is_over = listening.is_over.clone();
            let accepting = async {
                while let Ok((client, _)) = listener.accept().await {
                    let target = listening.target().clone();
                    let Ok(server) = TcpStream::connect(target).await else {
                        continue; // dropping the client ends it, as if nobody listened
                    };
                    tokio::spawn(listening.clone().carry(client, server));
                }
            };
            is_over.run_until_cancelled(accepting).await;
        });
        Self {
            url: url.to_string(),
            state,
        }
    }

    /// The database's URL through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends every connection of now.
    pub fn cut_all(&self) {
        let mut connections = self.state.connections();
        std::mem::take(&mut *connections).cancel();
    }

    /// Leads to the server of another URL from now on, and ends every connection to the one before:
    /// what an address that moves to the new primary does.
    pub fn lead_to(&self, url: &Url) {
        *self.state.target() = address_of(url);
        self.cut_all();
    }

    /// Ends the connection of the next commit.
    pub fn cut_next_commit(&self, cut: Cut) {
        *self.state.next() = Some(cut);
    }

    /// How many commits have been cut.
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// Lets nothing through any more, without telling anybody; or again.
    pub fn silence(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.cancel();
        self.cut_all();
    }
}

fn address_of(url: &Url) -> (String, u16) {
    let host = url.host_str().expect("a host").to_owned();
    (host, url.port().expect("a port"))
}

impl State {
    fn target(&self) -> std::sync::MutexGuard<'_, (String, u16)> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        let connections = self.connections.lock();
        connections.unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Option<Cut>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a TCP connection");
        }
        let cut = self.connections().clone();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let is_deaf = AtomicBool::new(false);
        let answers = self.answers(from_server, to_client, &is_deaf);
        let questions = self.questions(from_client, to_server, &is_deaf);
        let both = async {
            // The first of the two that ends, ends the connection.
            tokio::select! {
                () = answers => {}
                () = questions => {}
            }
        };
        cut.run_until_cancelled(both).await;
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_deaf: &AtomicBool) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            self.heard().await;
            if is_deaf.load(Ordering::SeqCst) {
                return;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    async fn questions(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        is_deaf: &AtomicBool,
    ) {
        let mut commits = Commits::default();
        // The first message has no type.
        let mut is_first = true;
        loop {
            let Some(message) = read_message(&mut from, is_first).await else {
                return;
            };
            self.heard().await;
            let ends_in_commit = !is_first && commits.is_one(&message);
            is_first = false;
            let cut = match ends_in_commit {
                true => self.next().take(),
                false => None,
            };
            if cut == Some(Cut::Before) {
                self.cuts.fetch_add(1, Ordering::SeqCst);
                return;
            }
            // Whatever the server answers from here on goes nowhere, and ends the connection.
            is_deaf.fetch_or(cut == Some(Cut::After), Ordering::SeqCst);
            if to.write_all(&message).await.is_err() {
                return;
            }
            if cut == Some(Cut::After) {
                self.cuts.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Waits while nothing goes through.
    async fn heard(&self) {
        while self.is_silent.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

async fn read_message(from: &mut OwnedReadHalf, is_first: bool) -> Option<Vec<u8>> {
    let head = if is_first { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await.ok()?;
    let length: [u8; 4] = message[head - 4..].try_into().expect("four bytes");
    let rest = u32::from_be_bytes(length) as usize - 4;
    message.resize(head + rest, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some(message)
}

/// What of a connection's messages commits a batch.
#[derive(Default)]
struct Commits {
    /// Names of prepared statements that append.
    appends: Vec<Vec<u8>>,
    in_transaction: bool,
}

impl Commits {
    fn is_one(&mut self, message: &[u8]) -> bool {
        let content = &message[5..];
        let first = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        match message[0] {
            b'Q' => {
                self.in_transaction = content.starts_with(b"BEGIN")
                    || (self.in_transaction && !content.starts_with(b"ROLLBACK"));
                let commits = content.starts_with(b"COMMIT");
                self.in_transaction &= !commits;
                commits
            }
            // Parse: a name and a statement.
            b'P' => {
                let text = String::from_utf8_lossy(content);
                if text.contains("UPDATE log_head") && text.contains("INSERT INTO events") {
                    self.appends.extend(first(content));
                }
                false
            }
            // Bind: a portal, and the name of a statement.
            b'B' => {
                let mut names = content.splitn(3, |byte| *byte == 0);
                let name = names.nth(1).unwrap_or_default();
                !self.in_transaction && self.appends.iter().any(|append| append == name)
            }
            _ => false,
        }
    }
}
