//! A PostgreSQL to test on, and a database of its own for each test.
//!
//! - With `DATABASE_URL` set, that server is used; its user must be allowed to create databases.
//!   The tests touch none but their own, named `crewlog_test_…`, and drop them. (A killed run
//!   leaves its own behind there; they can be dropped by hand.)
//! - Else the installed binaries start a throw-away cluster, at first use, once per test process,
//!   as an unprivileged user when we are root. It ends with the process (see [`super::process`]).
//! - With neither, [`Unavailable::Absent`] says how to install it. `super::trials` then skips the
//!   tests, loudly, and fails them on CI.
//!
//! The shared cluster never syncs to the disk. A test that is about surviving a crash starts its
//! own with [`Durability::Safe`] (`super::trials::with_cluster`).
//!
//! This never downloads anything, never uses `sudo`, and never touches an installed cluster.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use reqwest::Url;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::{process, scratch};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Immediate shutdown: backends are told to quit, nothing is written. On restart the cluster
/// recovers from its log, as after a crash.
const IMMEDIATE: Signal = Signal::SIGQUIT;

/// Why there is no PostgreSQL to test on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    /// None is installed, and none was named.
    #[error("{0}")]
    Absent(String),
    /// There is one, and it does not work; never a reason to skip a test.
    #[error("{0}")]
    Broken(String),
}

/// What a cluster promises about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: fast, for tests whose cluster never crashes.
    Fast,
    /// PostgreSQL's defaults: a commit that was answered survives a crash.
    Safe,
}

/// How a cluster is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Fast,
    Crash,
    /// SIGKILL: its sessions find out by themselves.
    Killed,
}

/// A PostgreSQL server; if it is ours, dropping it stops it and removes its files.
pub struct Cluster {
    /// Of a role that may create databases.
    administrator_url: Url,
    /// `None` for a server that is not ours, and after [`stop_shared`].
    running: Mutex<Option<Running>>,
}

static SHARED: OnceLock<Result<Cluster, Unavailable>> = OnceLock::new();

/// The server that all tests of this process share, started at the first call, which blocks.
///
/// # Errors
/// [`Unavailable`], the same at each call.
pub fn shared() -> Result<&'static Cluster, Unavailable> {
    let start = || match env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Cluster::at(&url),
        _ => Cluster::start(Durability::Fast),
    };
    SHARED
        .get_or_init(start)
        .as_ref()
        .map_err(Unavailable::clone)
}

/// Stops the shared server, if it was started and is ours.
pub fn stop_shared() {
    if let Some(Ok(cluster)) = SHARED.get() {
        drop(cluster.lock().take());
    }
}

impl Cluster {
    fn at(url: &str) -> Result<Self, Unavailable> {
        let administrator_url = Url::parse(url)
            .ok()
            .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
            .ok_or_else(|| broken("DATABASE_URL is not a postgres:// URL"))?;
        Ok(Self {
            administrator_url,
            running: Mutex::new(None),
        })
    }

    /// Makes and starts a new cluster, blocking until it accepts connections.
    ///
    /// # Errors
    /// [`Unavailable::Absent`] without the binaries; [`Unavailable::Broken`], with the end of
    /// PostgreSQL's own log, if they do not start.
    pub fn start(durability: Durability) -> Result<Self, Unavailable> {
        let binaries = binaries()?;
        let account = unprivileged_account()?;
        let password = format!("{:032x}", rand::random::<u128>());
        let mut files = Files::create(binaries, account, durability, &password)?;
        let postmaster = files.launch_on_a_free_port()?;
        let url = format!(
            "postgres://postgres:{password}@127.0.0.1:{}/postgres?sslmode=disable",
            files.port
        );
        Ok(Self {
            administrator_url: Url::parse(&url).expect("a URL made of a password and a port"),
            running: Mutex::new(Some(Running { postmaster, files })),
        })
    }

    /// Ends the cluster as a crash would, and starts it again at the same address; blocks.
    ///
    /// # Panics
    /// If the server is not ours, or does not come back.
    pub fn crash_and_recover(&self) {
        self.crash();
        self.recover();
    }

    /// Kills the server without warning, as a power loss would; nothing answers until
    /// [`Cluster::recover`].
    ///
    /// # Panics
    /// If the server is not ours.
    pub fn crash(&self) {
        self.stop(Ending::Crash);
    }

    /// Starts the server again, at the same address.
    ///
    /// # Panics
    /// If the server is not ours, or does not come back.
    pub fn recover(&self) {
        let mut guard = self.lock();
        let running = guard
            .as_mut()
            .expect("only a cluster that a test started can recover");
        running.postmaster = running.files.launch().expect("the cluster to recover");
    }

    /// Stops the cluster, as an operator does (fast: sessions are ended, what is committed is
    /// written) or as a crash would; blocks.
    ///
    /// # Panics
    /// If the server is not ours.
    pub fn stop(&self, ending: Ending) {
        let mut guard = self.lock();
        let running = guard.as_mut().expect("a cluster that a test started");
        running.stop(match ending {
            Ending::Fast => Signal::SIGINT,
            Ending::Crash => IMMEDIATE,
            Ending::Killed => Signal::SIGKILL,
        });
    }

    /// A new folder beside its files, which its server may write.
    ///
    /// # Panics
    /// If the server is not ours, or the folder cannot be made.
    pub fn folder(&self, name: &str) -> PathBuf {
        let guard = self.lock();
        let files = &guard.as_ref().expect("a cluster that a test started").files;
        let path = files.path(name);
        fs::create_dir(&path).expect("a folder");
        files.give(&path).expect("the folder to be given away");
        path
    }

    /// A cluster on files that `make` puts into a folder that is not there yet, with this one's
    /// passwords: a backup that is restored, or a standby.
    ///
    /// # Panics
    /// If the server is not ours, or does not start on them.
    pub fn on_files(&self, make: impl FnOnce(&Path)) -> Self {
        let (binaries, account) = {
            let guard = self.lock();
            let files = &guard.as_ref().expect("a cluster that a test started").files;
            (files.binaries.clone(), files.account.clone())
        };
        let mut files = Files {
            directory: scratch::directory("postgres"),
            binaries,
            account,
            durability: Durability::Safe,
            port: 0,
        };
        files
            .give(files.directory.path())
            .expect("the folder to be given away");
        make(&files.data());
        files
            .give_all(&files.data())
            .expect("the files to be given away");
        let postmaster = files.launch_on_a_free_port().expect("the cluster to start");
        let mut administrator_url = self.administrator_url.clone();
        administrator_url
            .set_port(Some(files.port))
            .expect("a port");
        Self {
            administrator_url,
            running: Mutex::new(Some(Running { postmaster, files })),
        }
    }

    /// The database that was at this URL before its files were restored here.
    pub fn adopted(&self, url: &str) -> Database {
        let url = self.here(url);
        Database {
            name: url.path().trim_start_matches('/').to_owned(),
            url,
            administrator_url: Some(self.administrator_url.clone()),
        }
    }

    /// Where a database is in this cluster that is at a URL in another, of which this one is a copy.
    pub fn here(&self, url: &str) -> Url {
        let elsewhere = Url::parse(url).expect("a URL");
        let mut url = self.administrator_url.clone();
        url.set_path(elsewhere.path());
        url
    }

    /// Runs statements as its administrator.
    ///
    /// # Panics
    /// If it refuses one.
    pub async fn run(&self, statements: &[&str]) {
        for statement in statements {
            let ran = administer(&self.administrator_url, statement).await;
            ran.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Waits until a condition holds in it.
    ///
    /// # Panics
    /// If it does not by the limit, or cannot be asked.
    pub async fn until(&self, condition: &str) {
        let connecting = PgConnection::connect(self.administrator_url.as_str());
        let mut connection = connecting.await.expect("the cluster to be there");
        let deadline = Instant::now() + START_LIMIT;
        let question = format!("SELECT {condition}");
        while !sqlx::query_scalar::<_, bool>(&question)
            .fetch_one(&mut connection)
            .await
            .expect("an answer")
        {
            assert!(
                Instant::now() < deadline,
                "waited {START_LIMIT:?} for {condition}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its files, while it is stopped.
    ///
    /// # Panics
    /// If the server is not ours.
    pub fn data(&self) -> PathBuf {
        let guard = self.lock();
        guard
            .as_ref()
            .expect("a cluster that a test started")
            .files
            .data()
    }

    /// A new empty database.
    ///
    /// # Errors
    /// [`Unavailable::Broken`] with the server's reason.
    pub async fn database(&self) -> Result<Database, Unavailable> {
        let name = format!("crewlog_test_{:016x}", rand::random::<u64>());
        let statement = format!("CREATE DATABASE {name} TEMPLATE template0");
        administer(&self.administrator_url, &statement)
            .await
            .map_err(|error| {
                let host = self.administrator_url.host_str().unwrap_or("its socket");
                broken(format!(
                    "PostgreSQL at {host} did not create a database: {error}"
                ))
            })?;
        let mut url = self.administrator_url.clone();
        url.set_path(&name);
        Ok(Database {
            name,
            url,
            administrator_url: Some(self.administrator_url.clone()),
        })
    }

    /// The same for callers outside of a runtime.
    ///
    /// # Errors
    /// As [`Cluster::database`].
    pub fn database_blocking(&self) -> Result<Database, Unavailable> {
        runtime().block_on(self.database())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        // A test that panicked with the lock leaves a cluster that can still be stopped.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A database of one test, dropped with this value, whoever is still connected.
pub struct Database {
    name: String,
    url: Url,
    /// Who drops it; nobody, where it ends with its cluster.
    administrator_url: Option<Url>,
}

impl Database {
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The same at another URL, behind which its cluster may be replaced.
    pub fn behind(mut self, url: &str) -> Self {
        self.url = Url::parse(url).expect("a URL");
        self.administrator_url = None;
        self
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(administrator_url) = &self.administrator_url else {
            return;
        };
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // On a thread of its own: this one may be driving a runtime, which must not be nested.
        let dropped = thread::scope(|scope| {
            scope
                .spawn(|| runtime().block_on(administer(administrator_url, &statement)))
                .join()
        });
        if let Ok(Err(error)) = dropped {
            eprintln!("could not drop the database {}: {error}", self.name);
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime to talk to PostgreSQL")
}

async fn administer(url: &Url, statement: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url.as_str()).await?;
    sqlx::raw_sql(statement).execute(&mut connection).await?;
    connection.close().await
}

struct Running {
    postmaster: Child,
    /// Removed after the postmaster stopped: `Drop` runs before the fields'.
    files: Files,
}

impl Running {
    fn stop(&mut self, how: Signal) {
        // Stopped already; its id may be somebody else's by now.
        if matches!(self.postmaster.try_wait(), Ok(Some(_))) {
            return;
        }
        process::signal(&self.postmaster, how);
        if process::wait(&mut self.postmaster, STOP_LIMIT).is_none() {
            process::signal(&self.postmaster, Signal::SIGKILL);
            process::wait(&mut self.postmaster, STOP_LIMIT);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(IMMEDIATE);
    }
}

/// A cluster's directory: `data/`, the log, and the socket (`psql -h DIRECTORY` while it runs).
struct Files {
    directory: TempDir,
    binaries: PathBuf,
    account: Option<User>,
    durability: Durability,
    port: u16,
}

impl Files {
    fn create(
        binaries: PathBuf,
        account: Option<User>,
        durability: Durability,
        password: &str,
    ) -> Result<Self, Unavailable> {
        let directory = scratch::directory("postgres");
        let files = Self {
            directory,
            binaries,
            account,
            durability,
            port: 0,
        };
        let password_file = files.path("password");
        write_private(&password_file, password).map_err(broken)?;
        for path in [files.directory.path(), &password_file] {
            files.give(path).map_err(broken)?;
        }

        let mut initdb = files.command("initdb");
        initdb
            .args([
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
            ])
            // The socket lies in a directory of ours; the port is open to every local user.
            .args(["--auth-local=trust", "--auth-host=password", "--no-sync"])
            .arg("--data-checksums")
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(files.data());
        let unreachable = format!("can its user reach {}?", files.directory.path().display());
        initdb.stdout(Stdio::null()).stderr(Stdio::piped());
        let output = process::spawn(initdb, Signal::SIGKILL)
            .and_then(Child::wait_with_output)
            .map_err(|error| broken(format!("could not run initdb: {error}; {unreachable}")))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            let status = output.status;
            return Err(broken(format!(
                "initdb failed ({status}): {}; {unreachable}",
                message.trim()
            )));
        }
        Ok(files)
    }

    /// Someone may take the port between our finding it free and PostgreSQL's binding it.
    fn launch_on_a_free_port(&mut self) -> Result<Child, Unavailable> {
        let mut result = Err(broken("not tried"));
        for _ in 0..3 {
            self.port = free_port().map_err(broken)?;
            result = self.launch();
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn launch(&self) -> Result<Child, Unavailable> {
        let log = File::create(self.path("log")).map_err(broken)?;
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(log);
        let sockets = format!(
            "unix_socket_directories={}",
            self.directory.path().display()
        );
        let port = format!("port={}", self.port);
        let common = [
            "listen_addresses=127.0.0.1",
            &port,
            &sockets,
            "max_connections=300",
        ];
        let fast: &[&str] = match self.durability {
            Durability::Fast => &[
                "fsync=off",
                "synchronous_commit=off",
                "full_page_writes=off",
            ],
            Durability::Safe => &[],
        };
        for setting in common.iter().chain(fast) {
            command.args(["-c", setting]);
        }
        let mut postmaster = process::spawn(command, IMMEDIATE)
            .map_err(|error| broken(format!("could not run postgres: {error}")))?;

        let deadline = Instant::now() + START_LIMIT;
        loop {
            let ended = postmaster.try_wait().map_err(broken)?;
            if ended.is_none() && self.is_ready(postmaster.id()) {
                return Ok(postmaster);
            }
            if ended.is_some() || Instant::now() >= deadline {
                drop(postmaster.kill());
                drop(postmaster.wait());
                let log = fs::read_to_string(self.path("log")).unwrap_or_default();
                return Err(broken(format!(
                    "PostgreSQL did not start; its log: {}",
                    log.trim()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// As `pg_ctl` does it: the first line of `postmaster.pid` is its id, the eighth its state.
    fn is_ready(&self, pid: u32) -> bool {
        let Ok(content) = fs::read_to_string(self.data().join("postmaster.pid")) else {
            return false;
        };
        let lines: Vec<&str> = content.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    /// A command of the installation, as the unprivileged user, blind to the caller's settings.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some(account) = &self.account {
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }

    fn give(&self, path: &Path) -> std::io::Result<()> {
        match &self.account {
            Some(account) => chown(path, Some(account.uid.as_raw()), Some(account.gid.as_raw())),
            None => Ok(()),
        }
    }

    fn give_all(&self, path: &Path) -> std::io::Result<()> {
        self.give(path)?;
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give_all(&entry?.path())?;
            }
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Waits until no PostgreSQL of a killed run uses `directory` any more, and stops a postmaster that
/// still does. (On Linux it is stopping by itself.) One whose files vanish under it would leave
/// shared memory behind.
pub fn stop_abandoned(directory: &Path) {
    let data = directory.join("data");
    let Ok(content) = fs::read_to_string(data.join("postmaster.pid")) else {
        return;
    };
    let first = content.lines().next().unwrap_or_default().trim();
    let Ok(written) = first.parse::<i32>() else {
        return;
    };
    // Negative: a single-user server, run by `initdb`. It ends by itself, for nobody feeds it.
    let (pid, is_postmaster) = (written.saturating_abs(), written > 0);
    // The id may be another's by now: only a process that was started on this directory is meant.
    let is_it = || {
        let listed = Command::new("ps")
            .args(["-o", "command=", "-p", &pid.to_string()])
            .output();
        listed.is_ok_and(|output| {
            let command = String::from_utf8_lossy(&output.stdout);
            match is_postmaster {
                true => command.contains(&*data.to_string_lossy()),
                false => command.contains("postgres"), // its directory is in its environment
            }
        })
    };
    let deadline = Instant::now() + STOP_LIMIT;
    while is_it() && Instant::now() < deadline {
        if is_postmaster {
            // It may have ended since; then the next look finds it gone.
            let _ = kill(Pid::from_raw(pid), IMMEDIATE);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The directory of `initdb` and `postgres`: of the first in the path, else of `pg_config`, else
/// the newest where distributions put them.
fn binaries() -> Result<PathBuf, Unavailable> {
    let path = env::var_os("PATH").unwrap_or_default();
    let configured = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim().to_owned()));
    let usual = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/usr/local", "pgsql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ];
    env::split_paths(&path)
        .chain(configured)
        .chain(
            usual
                .iter()
                .flat_map(|(parent, prefix, inner)| newest_first(parent, prefix, inner)),
        )
        .find(|directory| {
            ["initdb", "postgres"]
                .iter()
                .all(|name| directory.join(name).is_file())
        })
        .ok_or_else(|| {
            Unavailable::Absent(
                "no PostgreSQL: install its server (`apt-get install postgresql`, `dnf install \
                 postgresql-server`, `brew install postgresql`) or set DATABASE_URL to a server \
                 where databases may be created"
                    .to_owned(),
            )
        })
}

/// `parent/prefix*/inner`, the highest version number in the name first.
fn newest_first(parent: &str, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let version = |name: &OsStr| -> u32 {
        let digits: String = name
            .to_string_lossy()
            .chars()
            .filter(char::is_ascii_digit)
            .take(2)
            .collect();
        digits.parse().unwrap_or(0)
    };
    let mut found: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .collect();
    found.sort_by_key(|entry| std::cmp::Reverse(version(&entry.file_name())));
    found.iter().map(|entry| entry.path().join(inner)).collect()
}

/// PostgreSQL refuses to run as root.
fn unprivileged_account() -> Result<Option<User>, Unavailable> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .map(Some)
        .ok_or_else(|| broken("PostgreSQL does not run as root, and neither `postgres` nor `nobody` is a user here"))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

fn write_private(path: &Path, content: &str) -> std::io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    fs::write(path, content)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn broken(error: impl ToString) -> Unavailable {
    Unavailable::Broken(error.to_string())
}
