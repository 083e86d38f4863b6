//! `crewlog serve`: opens the store, serves the API, and stops in order.
//!
//! Stopping (SIGTERM, SIGINT): no new connections, requests that are being answered are
//! finished, tails and exports end, what was accepted is written. A second signal ends it at once.
//! Before it stops for SIGTERM it leaves, where it is told to: `/readyz` says so, and it serves for
//! a while longer. SIGHUP reads the certificate again.

use std::{
    convert::Infallible,
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    Failure, Outcome, Output, Place, demo, environment::refuse_open_to_others, logging::announce,
    progress::Meter, root_key,
};
use crate::{
    api::{self, EdgeSettings, server::Door, tls::Identity},
    journal::{
        Source, SystemSource,
        sealing::Keyring,
        stores::{self, Store, postgres::ServingLock},
    },
    projections::{Engine, Projections},
    proofs::note::{Origin, VerifierKey},
    service::{
        PUBLISH_EVERY_SECONDS, PublishTo, Publishing, SIGN_UPS_AN_HOUR, Service, ServiceSettings,
        plans::Catalogue,
    },
    traces::Traces,
};

/// How often to look whether all parts of the server still run, and may.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long to wait while another process migrates or replays.
const PREPARING_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "CREWLOG_LISTEN",
        hide_env_values = true
    )]
    #[arg(default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Read only, from a standby of the PostgreSQL that other servers write
    #[arg(
        long,
        env = "CREWLOG_REPLICA",
        hide_env_values = true,
        conflicts_with_all = ["demo", "publish_checkpoint"]
    )]
    replica: bool,
    /// Make a small demo organization in an empty store, and print how to look at it
    #[arg(long)]
    demo: bool,
    /// A proxy whose Forwarded and X-Forwarded-For are believed; may be given several times
    #[arg(
        long,
        value_name = "CIDR",
        env = "CREWLOG_TRUSTED_PROXY",
        hide_env_values = true,
        value_delimiter = ','
    )]
    trusted_proxy: Vec<IpNet>,
    /// How clients reach this server, where that is not the address it listens on
    #[arg(
        long,
        value_name = "URL",
        env = "CREWLOG_PUBLIC_URL",
        hide_env_values = true
    )]
    public_url: Option<String>,
    /// A catalogue of plans instead of the built-in one
    #[arg(
        long,
        value_name = "FILE",
        env = "CREWLOG_PLANS",
        hide_env_values = true
    )]
    plans: Option<PathBuf>,
    /// How many may sign up from one client network in an hour; 0: as many as like to
    #[arg(
        long,
        value_name = "COUNT",
        env = "CREWLOG_SIGN_UPS_PER_HOUR",
        hide_env_values = true
    )]
    #[arg(default_value_t = SIGN_UPS_AN_HOUR)]
    sign_ups_per_hour: u32,
    /// How long the activity of crews is kept
    #[arg(
        long,
        value_name = "DAYS",
        env = "CREWLOG_ACTIVITY_RETENTION_DAYS",
        hide_env_values = true
    )]
    #[arg(default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    activity_retention_days: u16,
    /// How long organizations keep who has erased their account; 0: not at all
    #[arg(
        long,
        value_name = "DAYS",
        env = "CREWLOG_ERASURE_RETENTION_DAYS",
        hide_env_values = true
    )]
    #[arg(default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=3_650))]
    erasure_retention_days: u16,
    /// Where you are to be found by those whose organization you suspend: an address, a URL
    #[arg(
        long,
        value_name = "TEXT",
        env = "CREWLOG_OPERATOR_CONTACT",
        hide_env_values = true
    )]
    operator_contact: Option<String>,
    /// The name of the log in its checkpoints, given at the first start: log.example.com/crewlog
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "CREWLOG_LOG_ORIGIN",
        hide_env_values = true
    )]
    #[arg(value_parser = Origin::new)]
    log_origin: Option<Origin>,
    /// Whose cosignatures checkpoints take: a verifier key; may be given several times
    #[arg(
        long,
        value_name = "VERIFIER",
        env = "CREWLOG_WITNESS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    #[arg(value_parser = VerifierKey::of_witness)]
    witness: Vec<VerifierKey>,
    /// Publish checkpoints here; at the start, refuse to serve a log that does not extend it
    #[arg(
        long,
        value_name = "FILE|URL",
        env = "CREWLOG_PUBLISH_CHECKPOINT",
        hide_env_values = true
    )]
    publish_checkpoint: Option<String>,
    /// How often a checkpoint is published
    #[arg(
        long,
        value_name = "SECONDS",
        env = "CREWLOG_PUBLISH_EVERY_SECONDS",
        hide_env_values = true
    )]
    #[arg(default_value_t = PUBLISH_EVERY_SECONDS, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    publish_every_seconds: u32,
    /// Speak TLS: a PEM file with the certificate and those it stands on; SIGHUP reads it again
    #[arg(
        long,
        value_name = "FILE",
        env = "CREWLOG_TLS_CERTIFICATE",
        hide_env_values = true,
        requires = "tls_key"
    )]
    tls_certificate: Option<PathBuf>,
    /// The PEM file with the certificate's key
    #[arg(
        long,
        value_name = "FILE",
        env = "CREWLOG_TLS_KEY",
        hide_env_values = true,
        requires = "tls_certificate"
    )]
    tls_key: Option<PathBuf>,
    /// Send traces of requests here, by OTLP over HTTP: http://localhost:4318
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true
    )]
    otlp_endpoint: Option<String>,
    /// How long a request's header may take to arrive, and then the request to be answered
    #[arg(
        long,
        value_name = "MS",
        env = "CREWLOG_REQUEST_TIMEOUT_MS",
        hide_env_values = true
    )]
    #[arg(default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    request_timeout_ms: u64,
    /// After SIGTERM, how long to serve on while `/readyz` says that it is about to stop
    #[arg(
        long,
        value_name = "MS",
        env = "CREWLOG_DRAIN_MS",
        hide_env_values = true
    )]
    #[arg(default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    drain_ms: u64,
    /// How long stopping may take
    #[arg(
        long,
        value_name = "MS",
        env = "CREWLOG_SHUTDOWN_TIMEOUT_MS",
        hide_env_values = true
    )]
    #[arg(default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    shutdown_timeout_ms: u64,
}

/// Serves until it is told to stop.
///
/// # Errors
/// When it cannot start, must not go on, or could not write everything in time.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let mut stop = StopSignals::listen()?;
    let retention = chrono::TimeDelta::days(arguments.activity_retention_days.into());
    let mut settings = ServiceSettings {
        activity_retention: retention,
        erasure_retention: chrono::TimeDelta::days(arguments.erasure_retention_days.into()),
        sign_ups_an_hour: NonZeroU32::new(arguments.sign_ups_per_hour),
        log_origin: arguments.log_origin.clone(),
        operator_contact: arguments.operator_contact.clone(),
        witnesses: arguments.witness.clone(),
        publishing: arguments.publishing(),
        ..ServiceSettings::default()
    };
    if let Some(file) = &arguments.plans {
        settings.catalogue = Catalogue::read(file)?;
    }
    let identity = arguments.identity()?;
    let listener = listen(arguments.listen).await?;
    let address = local_address(&listener)?;
    let (store, lock) = tokio::select! {
        opened = arguments.open(&place) => opened?,
        name = stop.next() => {
            return Err(Failure::could_not_run(format!("stopped before it could serve ({name})")));
        }
    };
    let source: Arc<dyn Source> = Arc::new(SystemSource);
    let edge = arguments.edge()?;
    let root = root_key::of(&place, &*store, &*source).await?;
    let (opened, clock) = (store.clone(), source.clone());
    let service = match arguments.replica {
        true => Service::replica(opened, clock, &root, settings).await?,
        false => Service::start(opened, clock, &root, settings).await?,
    };
    drop(root);
    let url = arguments.url(address);
    let demo = match arguments.demo {
        true => demo::prepare(&service, &*store, &*source, &place).await?,
        false => None,
    };
    let leaving = CancellationToken::new();
    let door = Door {
        identity: identity.clone(),
        timeout: edge.header_timeout,
        leaving: leaving.clone(),
    };
    let mut serving = Serving::start(listener, door, service.clone(), &edge)?;
    announce!("listening on {}://{address}", arguments.scheme());
    if let Some(demo) = demo {
        demo.print(&url, output)?;
    }
    let leave = || {
        service.leave();
        leaving.cancel();
    };
    let drain = Duration::from_millis(arguments.drain_ms);
    let why = tokio::select! {
        name = stop.asked_and_left(drain, leave) => Ok(name),
        lost = lost(lock) => Err(lost),
        ended = serving.ended() => Err(ended),
        never = read_again_when_asked(identity) => match never {},
    };
    let limit = Duration::from_millis(arguments.shutdown_timeout_ms);
    announce!(
        "stopping ({}): no new connections; finishing what was begun, for up to {} s",
        why.as_ref().unwrap_or(&"serving must end"),
        limit.as_secs_f64()
    );
    tokio::select! {
        stopped = serving.stop(limit) => stopped?,
        name = stop.next() => {
            return Err(Failure::could_not_run(format!("stopped at once by a second signal ({name})")));
        }
    }
    announce!("stopped: everything that was accepted is written");
    why.map(|_| Outcome::Fine)
}

impl Arguments {
    /// The store, and the lock of a server that writes to it.
    async fn open(&self, place: &Place) -> Result<(Arc<dyn Store>, Option<ServingLock>), Failure> {
        match self.replica {
            true => Ok((open_to_follow(place).await?, None)),
            false => open(place).await,
        }
    }

    fn edge(&self) -> Result<EdgeSettings, Failure> {
        let metrics = api::install_metrics()
            .map_err(|error| Failure::could_not_run(format!("metrics cannot be kept: {error}")))?;
        let timeout = Duration::from_millis(self.request_timeout_ms);
        Ok(EdgeSettings {
            header_timeout: timeout,
            timeout,
            trusted_proxies: self.trusted_proxy.clone(),
            public_url: self.public_url.clone(),
            metrics: Some(metrics),
            ..EdgeSettings::default()
        })
    }

    /// What sends traces, where somebody collects them. To be made before anything runs.
    ///
    /// # Errors
    /// When they cannot be sent there.
    pub fn traces(&self) -> Result<Option<Traces>, Failure> {
        let endpoint = self.otlp_endpoint.as_deref().map(str::trim);
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let is_http =
            Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return Err(Failure::used_wrongly(
                "--otlp-endpoint is no address that traces can be sent to; it looks like \
                 http://localhost:4318",
            ));
        }
        let traces = Traces::to(endpoint);
        traces.map(Some).map_err(|error| {
            Failure::could_not_run(format!("traces cannot be sent to --otlp-endpoint: {error}"))
        })
    }

    fn publishing(&self) -> Option<Publishing> {
        let to = self.publish_checkpoint.as_deref()?;
        Some(Publishing {
            to: PublishTo::parse(to),
            every: Duration::from_secs(self.publish_every_seconds.into()),
        })
    }

    /// How the server is reached from here.
    fn url(&self, mut address: SocketAddr) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        if address.ip().is_unspecified() {
            let local: std::net::IpAddr = match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            address.set_ip(local);
        }
        format!("{}://{address}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        match self.tls_certificate {
            Some(_) => "https",
            None => "http",
        }
    }

    fn identity(&self) -> Result<Option<Arc<Identity>>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        refuse_open_to_others(key, "the key of the certificate")?;
        let identity = Identity::read(certificate.clone(), key.clone())
            .map_err(|error| Failure::could_not_run(error.to_string()))?;
        Ok(Some(Arc::new(identity)))
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::could_not_run(format!(
            "{address} cannot be listened on ({error}); choose another with --listen"
        ))
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| {
        Failure::could_not_run(format!("the address listened on is not known: {error}"))
    })
}

/// Opens the store of a replica: nothing is made ready, and nobody is kept from being alone with it.
async fn open_to_follow(place: &Place) -> Result<Arc<dyn Store>, Failure> {
    if place.database_url().is_none() {
        return Err(Failure::used_wrongly(
            "a replica reads from PostgreSQL: name a standby with --database-url (a SQLite file has \
             one server)",
        ));
    }
    let store = place.open_for_reading().await?;
    let is_current =
        stores::is_current(&*store).await? && Engine::outdated(&*store).await?.is_empty();
    if !is_current || !Keyring::has_root_key(&*store).await? {
        return Err(Failure::could_not_run(
            "no server of this version has written the store yet: start one on the primary first",
        ));
    }
    Ok(store)
}

/// Opens the store, and makes ready what this version reads: beside servers of an older version,
/// which serve until it is. Whoever is first on a PostgreSQL prepares it alone.
pub(super) async fn open(place: &Place) -> Result<(Arc<dyn Store>, Option<ServingLock>), Failure> {
    if let Some(alone) = place.alone().await? {
        let store = place.open_for_writing().await?;
        prepare(&*store).await?;
        return Ok((store, alone.share().await?));
    }
    let url = place.database_url().unwrap_or_default();
    let lock = ServingLock::together(url, PREPARING_WAIT).await?;
    let store = place.open_for_writing().await?;
    prepare(&*store).await?;
    Ok((store, Some(lock)))
}

/// Makes the projections ready that this version reads.
///
/// # Errors
/// When a newer version writes the store, or it cannot be read or written.
pub async fn prepare(store: &dyn Store) -> Result<(), Failure> {
    stores::head(store).await?;
    let mut meter = Meter::start("filling what this version reads");
    let projections = Projections::default();
    let prepared = Engine::prepare(store, &projections, |progress| meter.show(progress)).await;
    meter.finish();
    Ok(prepared?)
}

/// Ends when the lock is lost for good; never, where there is none.
async fn lost(lock: Option<ServingLock>) -> Failure {
    match lock {
        Some(lock) => lock.lost().await.into(),
        None => std::future::pending().await,
    }
}

/// Reads the certificate again for each SIGHUP; without one there is nothing to be read again.
async fn read_again_when_asked(identity: Option<Arc<Identity>>) -> Infallible {
    let Ok(mut asked) = signal(SignalKind::hangup()) else {
        return std::future::pending().await;
    };
    loop {
        if asked.recv().await.is_none() {
            return std::future::pending().await;
        }
        match identity.as_deref().map(Identity::read_again) {
            Some(Ok(())) => announce!("read the certificate again (SIGHUP)"),
            Some(Err(error)) => {
                tracing::error!(%error, "the certificate that was read before stays in use");
            }
            None => announce!("there is nothing to read again (SIGHUP)"),
        }
    }
}

/// A server that runs, and what runs beside it.
struct Serving {
    service: Arc<Service>,
    stopping: CancellationToken,
    server: JoinHandle<()>,
    due: JoinHandle<()>,
    rebuilding: JoinHandle<()>,
    proving: JoinHandle<String>,
}

impl Serving {
    fn start(
        listener: TcpListener,
        door: Door,
        service: Arc<Service>,
        edge: &EdgeSettings,
    ) -> Result<Self, Failure> {
        let app = api::app(service.clone(), edge)
            .map_err(|error| Failure::could_not_run(format!("the API cannot be made: {error}")))?;
        let stopping = CancellationToken::new();
        let server = api::server::serve(listener, app, door, stopping.clone());
        Ok(Self {
            due: tokio::spawn(service.clone().keep_doing_what_is_due()),
            rebuilding: tokio::spawn(service.clone().keep_rebuilding()),
            proving: tokio::spawn(service.clone().keep_proving()),
            server: tokio::spawn(server),
            service,
            stopping,
        })
    }

    /// Ends when a part of it has, which none should.
    async fn ended(&mut self) -> Failure {
        loop {
            if self.proving.is_finished()
                && let Ok(refusal) = (&mut self.proving).await
            {
                return Failure::could_not_run(refusal);
            }
            if let Some(why) = self.service.superseded() {
                return Failure::could_not_run(why);
            }
            if self.due.is_finished() || self.rebuilding.is_finished() || self.server.is_finished()
            {
                return Failure::could_not_run(
                    "a part of the server ended by itself; the log above says why",
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Finishes the requests in three quarters of the time, and writes what was accepted in what
    /// is left.
    async fn stop(mut self, limit: Duration) -> Result<(), Failure> {
        let started = Instant::now();
        self.stopping.cancel();
        self.service.end_long_answers();
        let finished = tokio::time::timeout(limit * 3 / 4, &mut self.server).await;
        if finished.is_err() {
            tracing::warn!("some requests did not end in time; they are not waited for any more");
            self.server.abort();
        }
        self.due.abort();
        // What it has begun is gone on with.
        self.rebuilding.abort();
        self.proving.abort();
        let left = limit.saturating_sub(started.elapsed());
        match self.service.stop(left).await {
            true => Ok(()),
            false => Err(Failure::could_not_run(
                "not everything that was accepted could be written in time; its callers were not \
                 answered, and repeat it",
            )),
        }
    }
}

/// The signal of whoever manages the process.
const TERMINATE: &str = "SIGTERM";

/// The signals that ask for an end.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::could_not_run(format!("signals cannot be received: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATE,
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The next signal. After SIGTERM it leaves first: what is in front hears of it, and sends
    /// others elsewhere, for so long or until a second signal.
    async fn asked_and_left(&mut self, drain: Duration, leave: impl FnOnce()) -> &'static str {
        let name = self.next().await;
        if name == TERMINATE && !drain.is_zero() {
            leave();
            announce!(
                "leaving ({name}): serving for {} s more; /readyz says so",
                drain.as_secs_f64()
            );
            let _ = tokio::time::timeout(drain, self.next()).await;
        }
        name
    }
}
