//! The real program as a child process, and a client for it.
//!
//! ```ignore
//! let mut server = Server::start(&store).await;
//! let created = server.post("/v1/workspaces").bearer(&token).json(json!({…})).await.expect(201);
//! assert_eq!(created.body["name"], "Acme");
//! assert!(server.logs().contains("…"));
//! server.terminate().await;
//! ```
//!
//! It is killed when dropped; if that is because the test panics, its log is printed.

use std::future::{Future, IntoFuture};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::operated::Operated;
use super::process;
use super::trials::StoreUnderTest;
use super::witness;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const CALL_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// How many may sign up from a network; 0: as many as like to.
pub const SIGN_UPS_PER_HOUR: &str = "CREWLOG_SIGN_UPS_PER_HOUR";

/// The catalogue of plans; here one that limits next to nothing, unless a test is about limits.
pub const PLANS: &str = "CREWLOG_PLANS";

/// A catalogue that limits next to nothing.
pub const fn plans() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plans.json")
}

/// What the program prints when it accepts connections, before the address.
const LISTENING: &str = "listening on ";

/// Of the embedded store, in its folder.
const SQLITE_FILE: &str = "crewlog.sqlite";

pub struct Server {
    child: Child,
    /// The folder that it was given, and the database, if any.
    place: (PathBuf, Option<String>),
    base_url: String,
    logs: Logs,
    /// What reads its outputs to their ends.
    readers: Vec<JoinHandle<()>>,
    client: Client,
    /// Of a store that was made ready for an operator.
    operated: Option<Arc<Operated>>,
}

impl Server {
    /// `crewlog serve` on the store, at a free port; returns when it listens.
    ///
    /// # Panics
    /// If it ends, or does not listen in time; the message has its log.
    pub async fn start(store: &StoreUnderTest) -> Self {
        Self::launch(Self::command(store)).await
    }

    /// What [`Server::start`] runs, for tests that add options or environment and [`launch`] it.
    /// All of a test come from one network, and may sign up as they like; the log has a witness.
    ///
    /// [`launch`]: Server::launch
    pub fn command(store: &StoreUnderTest) -> Command {
        Self::command_at(store, store.database_url())
    }

    /// The same with the store's database at another address: through a proxy.
    pub fn command_at(store: &StoreUnderTest, database_url: Option<&str>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crewlog"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(store.data_dir())
            .env(SIGN_UPS_PER_HOUR, "0")
            .env(PLANS, plans())
            .env("CREWLOG_WITNESS", witness::verifier());
        if let Some(url) = database_url {
            command.args(["--database-url", url]);
        }
        command
    }

    /// Runs a command until it says that it listens. The caller's settings do not reach it.
    pub async fn launch(mut command: Command) -> Self {
        without_settings_of_ours(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let place = place_of(&command);
        let mut child = process::spawn(command, Signal::SIGKILL).expect("the server to start");
        let logs = Logs::default();
        let output = child.stdout.take().expect("the server's piped output");
        let errors = child.stderr.take();
        let errors = errors.expect("the server's piped error output");
        let readers = vec![logs.collect(output), logs.collect(errors)];
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_LIMIT)
            .build()
            .expect("an HTTP client");
        // From here on dropping it ends the child.
        let mut server = Self {
            child,
            place,
            base_url: String::new(),
            logs,
            readers,
            client,
            operated: None,
        };
        server.base_url = server.listening_url().await;
        server
    }

    async fn listening_url(&mut self) -> String {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            // Asked first: what it printed before it ended is then read below.
            let ended = self.child.try_wait().expect("the state of the server");
            if let Some(url) = self.logs.find_map(url_in) {
                return url;
            }
            if let Some(status) = ended {
                panic!("the server ended before it listened ({status})");
            }
            assert!(
                Instant::now() < deadline,
                "the server did not listen in {START_LIMIT:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs SQL in its store, behind its back: what only time could have made.
    ///
    /// # Panics
    /// When the store refuses it.
    pub async fn behind_its_back(&self, statements: &[String]) {
        let (data, url) = &self.place;
        let sql = statements.join(";\n");
        match url {
            Some(url) => {
                let mut connection = PgConnection::connect(url).await.expect("the database");
                let done = sqlx::raw_sql(&sql).execute(&mut connection).await;
                done.expect("the statements to run");
            }
            None => {
                let file = rusqlite::Connection::open(data.join(SQLITE_FILE)).expect("the file");
                file.busy_timeout(START_LIMIT).expect("a limit");
                file.execute_batch(&sql).expect("the statements to run");
            }
        }
    }

    /// With what an operator was given in its store.
    pub fn operated_by(mut self, operated: Arc<Operated>) -> Self {
        self.operated = Some(operated);
        self
    }

    /// What an operator was given in its store, where one was.
    pub fn operated(&self) -> Option<&Arc<Operated>> {
        self.operated.as_ref()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// All it printed up to now, on both outputs.
    pub fn logs(&self) -> String {
        self.logs.text()
    }

    /// Asks it to end, as an operator would (SIGTERM), and waits until it did.
    ///
    /// # Panics
    /// If it still runs after 30 seconds.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.end(Signal::SIGTERM).await
    }

    /// Ends it without asking (SIGKILL), as a crash would.
    pub async fn kill(&mut self) -> ExitStatus {
        self.end(Signal::SIGKILL).await
    }

    /// Sends it a signal, and waits for nothing.
    pub fn signal(&self, signal: Signal) {
        process::signal(&self.child, signal);
    }

    /// Whether the process has been stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        let id = self.child.id().to_string();
        let listed = Command::new("ps")
            .args(["-o", "state=", "-p", &id])
            .output();
        listed.is_ok_and(|listed| listed.stdout.starts_with(b"T"))
    }

    async fn end(&mut self, signal: Signal) -> ExitStatus {
        process::signal(&self.child, signal);
        self.ended().await
    }

    /// Waits until it has ended, and all that it printed is read.
    ///
    /// # Panics
    /// If it still runs after 30 seconds.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of the server") {
                self.heard_out().await;
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server did not end in {STOP_LIMIT:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until its outputs are read to their ends; not for ever, as somebody else may have
    /// them open.
    async fn heard_out(&self) {
        let deadline = Instant::now() + STOP_LIMIT;
        while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        let request = format!("{method} {path}");
        let url = format!("{}{path}", self.base_url);
        Call {
            request,
            builder: self.client.request(method, url),
        }
    }
}

/// The folder and the database that a command is to serve.
fn place_of(command: &Command) -> (PathBuf, Option<String>) {
    let arguments: Vec<_> = command.get_args().collect();
    let after = |name: &str| {
        let pair = arguments.windows(2).find(|pair| pair[0] == name);
        pair.map(|pair| pair[1])
    };
    let url = after("--database-url").and_then(|url| url.to_str());
    let data = after("--data").map(PathBuf::from);
    (data.unwrap_or_default(), url.map(str::to_owned))
}

/// Keeps the caller's settings from a command, but for those that it was given.
pub fn without_settings_of_ours(command: &mut Command) {
    let set: Vec<_> = command
        .get_envs()
        .map(|(name, _)| name.to_owned())
        .collect();
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_setting = text == "DATABASE_URL" || text.starts_with("CREWLOG_");
        if is_setting && !set.contains(&name) {
            command.env_remove(&name);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended is fine.
        drop(self.child.kill());
        drop(self.child.wait());
        let logs = self.logs();
        if thread::panicking() && !logs.is_empty() {
            eprintln!("--- the server's log ---\n{logs}--- end of the server's log ---");
        }
    }
}

/// A request; `.await` sends it.
#[must_use = "a call is sent by awaiting it"]
pub struct Call {
    request: String,
    builder: RequestBuilder,
}

impl Call {
    pub fn bearer(self, token: &str) -> Self {
        Self {
            builder: self.builder.bearer_auth(token),
            ..self
        }
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        Self {
            builder: self.builder.header(name, value),
            ..self
        }
    }

    pub fn json(self, body: impl Serialize) -> Self {
        Self {
            builder: self.builder.json(&body),
            ..self
        }
    }

    /// A body as it is, without a `Content-Type`.
    pub fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self {
            builder: self.builder.body(body),
            ..self
        }
    }

    /// Sends it, and says so where nothing answers: for servers that are ended meanwhile.
    ///
    /// # Errors
    /// When the connection fails before the whole answer is there.
    pub async fn attempt(self) -> Result<Reply, reqwest::Error> {
        let Self { request, builder } = self;
        let response = builder.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply {
            request,
            status,
            headers,
            body,
            text,
        })
    }
}

impl IntoFuture for Call {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let request = self.request.clone();
            match self.attempt().await {
                Ok(reply) => reply,
                Err(error) => panic!("{request} was not answered: {error:?}"),
            }
        })
    }
}

#[derive(Clone, Debug)]
pub struct Reply {
    /// The method and path that it answers, for messages.
    pub request: String,
    pub status: u16,
    pub headers: HeaderMap,
    /// `Null` if the body is not JSON.
    pub body: Value,
    pub text: String,
}

impl Reply {
    /// The reply itself, if it has the status.
    ///
    /// # Panics
    /// If not, with the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert!(
            self.status == status,
            "{} answered {} instead of {status}: {}",
            self.request,
            self.status,
            self.text
        );
        self
    }

    /// A header's value; `None` if it is absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<String>>>);

impl Logs {
    /// Reads lines until the other end closes, on a thread of its own.
    fn collect(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let logs = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { break };
                logs.lock()
                    .push(String::from_utf8_lossy(&line).into_owned());
            }
        })
    }

    fn find_map<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.lock().iter().find_map(|line| find(line))
    }

    fn text(&self) -> String {
        self.lock()
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address in a line that says where the program listens, plain or inside JSON.
fn url_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(LISTENING)?;
    let (scheme, rest) = rest.split_once("://")?;
    let address: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || ".:[]".contains(*c))
        .collect();
    let address: std::net::SocketAddr = address.parse().ok()?;
    Some(format!("{scheme}://{address}"))
}
