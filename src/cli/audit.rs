//! `crewlog audit`: the audit log of a workspace or an organization, followed, exported, and who
//! has access.
//!
//! Reads only, beside whoever writes the store, and needs the root key: names are opened. Whoever
//! has both is kept from nothing, so nothing is asked of anybody, and no entry is written. An export
//! needs a checkpoint of the head: where no server makes one, this does.

use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::{
    Failure, Outcome, Output, Place,
    logging::announce,
    progress::{Meter, rate},
    root_key,
};
use crate::{
    api,
    domain::{
        Timestamp,
        environment::Environment,
        ids::{OrganizationId, PrincipalId, WorkspaceId},
    },
    journal::{SystemSource, sealing::Keyring, stores},
    projections::Progress,
    service::{
        AccessQuestion, AsOf, AuditExport, AuditFilter, AuditScope, ExportFormat, Service, TailEnd,
        TailStep,
    },
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print entries as they are written, as JSON Lines
    Tail(TailArguments),
    /// Export entries up to now, as a file that `crewlog verify --offline` verifies
    Export(ExportArguments),
    /// Show who has access to a workspace, or had it
    Access(AccessArguments),
}

/// Whose log.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// The log of this workspace: ws_…
    #[arg(long, value_name = "ID")]
    workspace: Option<WorkspaceId>,
    /// The log of this organization: org_…; without what changed inside crews
    #[arg(long, value_name = "ID")]
    organization: Option<OrganizationId>,
}

impl Whose {
    fn scope(&self) -> Result<AuditScope, Failure> {
        match (self.workspace, self.organization) {
            (Some(id), None) => Ok(AuditScope::Workspace(id)),
            (None, Some(id)) => Ok(AuditScope::Organization(id)),
            (None, None) | (Some(_), Some(_)) => Err(Failure::used_wrongly(
                "name a workspace or an organization, one of them",
            )),
        }
    }
}

#[derive(Debug, clap::Args)]
struct TailArguments {
    #[command(flatten)]
    whose: Whose,
    /// Begin behind this position; without it, with what is written from now on
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// End before this position
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    #[command(flatten)]
    whose: Whose,
    /// jsonl: each entry with what proves it; csv: for spreadsheets; ocsf: for security tools
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: FormatName,
    /// Write here; without it, to stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only positions after this one
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Only positions before this one
    #[arg(long, value_name = "POSITION")]
    before: Option<u64>,
    /// Only what was recorded at this time or later: 2026-11-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Only what was recorded before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatName {
    Jsonl,
    Csv,
    Ocsf,
}

impl From<FormatName> for ExportFormat {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Jsonl => Self::Jsonl,
            FormatName::Csv => Self::Csv,
            FormatName::Ocsf => Self::Ocsf,
        }
    }
}

#[derive(Debug, clap::Args)]
struct AccessArguments {
    /// Access to this workspace: ws_…
    #[arg(long, value_name = "ID")]
    workspace: WorkspaceId,
    /// Only what reaches this environment: development, staging or production
    #[arg(long, value_name = "ENVIRONMENT", value_parser = environment)]
    environment: Option<Environment>,
    /// Only of this person or key: usr_… or key_…
    #[arg(long, value_name = "ID")]
    principal: Option<PrincipalId>,
    /// As of this position or time; without it, now
    #[arg(long, value_name = "POSITION|TIME", value_parser = moment)]
    as_of: Option<AsOf>,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time = DateTime::parse_from_rfc3339(text);
    let time = time.map_err(|_| "write a time as RFC 3339 has it: 2026-11-01T00:00:00Z")?;
    Ok(Timestamp::from_datetime(time.with_timezone(&Utc)))
}

fn moment(text: &str) -> Result<AsOf, String> {
    match text.parse() {
        Ok(position) => Ok(AsOf::Position(position)),
        Err(_) => time(text).map(AsOf::Time),
    }
}

fn environment(text: &str) -> Result<Environment, String> {
    let named = serde_json::from_value(text.into());
    named.map_err(|_| "write development, staging or production".to_owned())
}

/// Does what the arguments say.
///
/// # Errors
/// When the store cannot be read, the root key is not at hand, or the output is not taken.
pub async fn run(arguments: Arguments, place: Place, output: Output) -> Result<Outcome, Failure> {
    let service = open(&place).await?;
    match arguments.action {
        Action::Tail(arguments) => tail(&service, arguments, output).await?,
        Action::Export(arguments) => export(&place, &service, arguments).await?,
        Action::Access(arguments) => access(&service, arguments, output).await?,
    }
    Ok(Outcome::Fine)
}

async fn open(place: &Place) -> Result<Arc<Service>, Failure> {
    let store = place.open_for_reading().await?;
    let source = Arc::new(SystemSource);
    if !Keyring::has_root_key(&*store).await? {
        return Err(Failure::could_not_run(
            "the store has no keys yet, and so no entries; `crewlog serve` makes them",
        ));
    }
    let root = root_key::of(place, &*store, &*source).await?;
    Ok(Service::for_reading(store, source, &root).await?)
}

async fn tail(
    service: &Arc<Service>,
    arguments: TailArguments,
    output: Output,
) -> Result<(), Failure> {
    let filter = AuditFilter {
        before: arguments.before,
        ..AuditFilter::default()
    };
    let scope = arguments.whose.scope()?;
    let shown = |entry| api::shown_entry(entry).to_string();
    let mut tail = service
        .begin_operators_tail(scope, (filter, shown), arguments.after)
        .await?;
    loop {
        match service.next_of_tail(&mut tail).await {
            TailStep::Entry(entry) => output.document(&entry.shown)?,
            TailStep::End(TailEnd::Reached | TailEnd::AccessEnded | TailEnd::Stopping) => {
                return Ok(());
            }
            TailStep::End(TailEnd::Unavailable) => {
                return Err(Failure::could_not_run(
                    "the store cannot be read any more; the log above says why",
                ));
            }
        }
    }
}

/// Where an export goes.
enum Sink {
    Stdout,
    /// Under its name when it is whole: a file that is there is never half an export.
    File(BufWriter<tempfile::NamedTempFile>, PathBuf),
}

impl Sink {
    fn open(file: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(file) = file else {
            return Ok(Self::Stdout);
        };
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| std::path::Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(folder);
        match temporary {
            Ok(temporary) => Ok(Self::File(BufWriter::new(temporary), file)),
            Err(error) => Err(cannot_write(&file.display().to_string(), &error)),
        }
    }

    fn write(&mut self, part: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(part).map_err(|error| match error.kind() {
                    ErrorKind::BrokenPipe => Failure::OutputClosed,
                    _ => cannot_write("stdout", &error),
                })
            }
            Self::File(writer, file) => {
                let written = writer.write_all(part);
                written.map_err(|error| cannot_write(&file.display().to_string(), &error))
            }
        }
    }

    fn finish(self) -> Result<(), Failure> {
        let Self::File(writer, file) = self else {
            return std::io::stdout()
                .flush()
                .map_err(|error| cannot_write("stdout", &error));
        };
        let keep = || -> std::io::Result<File> {
            let temporary = writer.into_inner().map_err(|error| error.into_error())?;
            temporary.as_file().sync_all()?;
            Ok(temporary.persist(&file)?)
        };
        match keep() {
            Ok(_) => Ok(()),
            Err(error) => Err(cannot_write(&file.display().to_string(), &error)),
        }
    }
}

fn cannot_write(what: &str, error: &std::io::Error) -> Failure {
    Failure::could_not_run(format!("{what} cannot be written: {error}"))
}

/// How long is waited for the servers' next checkpoint, of which they make one a second.
const WAITS_FOR: Duration = Duration::from_secs(5);
const ASKS_EVERY: Duration = Duration::from_millis(200);

/// Sees to it that a checkpoint covers the log as it is: one is made here where nobody else does,
/// and waited for where servers do. Where there is none after all, the export ends earlier, and it
/// is said.
async fn cover(place: &Place, service: &Service) -> Result<(), Failure> {
    let Some(head) = service.uncovered().await? else {
        return Ok(());
    };
    match make_checkpoint(place).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(failure) => {
            let why = failure.sentence().unwrap_or_default();
            announce!("the log's head cannot be signed: {why}");
        }
    }
    let started = Instant::now();
    while started.elapsed() < WAITS_FOR {
        tokio::time::sleep(ASKS_EVERY).await;
        if service.covers(head).await? {
            return Ok(());
        }
    }
    announce!(
        "no checkpoint covers position {head} yet: the export goes up to the newest that there is"
    );
    Ok(())
}

/// Makes a checkpoint of the head, where nobody serves from the store, it can be written, and needs
/// no migration; answers whether one was made.
async fn make_checkpoint(place: &Place) -> Result<bool, Failure> {
    let reading = place.open_for_reading().await?;
    let is_current = stores::is_current(&*reading).await;
    reading.close().await;
    let alone = place.alone().await?;
    if !is_current? || alone.is_none() {
        return Ok(false);
    }
    // Another process holds it, or it is on a disk that cannot be written.
    let Ok(store) = place.open_for_writing().await else {
        return Ok(false);
    };
    let source = Arc::new(SystemSource);
    let root = root_key::of(place, &*store, &*source).await?;
    let service = Service::for_reading(store.clone(), source, &root).await?;
    let made = service.make_checkpoint().await;
    store.close().await;
    made?;
    Ok(true)
}

async fn export(
    place: &Place,
    service: &Arc<Service>,
    arguments: ExportArguments,
) -> Result<(), Failure> {
    let filter = AuditFilter {
        from: arguments.from,
        to: arguments.to,
        after: arguments.after,
        before: arguments.before,
        ..AuditFilter::default()
    };
    let (scope, format) = (arguments.whose.scope()?, arguments.format.into());
    cover(place, service).await?;
    let begun = service
        .begin_operators_export(scope, filter, format)
        .await?;
    let mut export = begun.ok_or_else(|| {
        Failure::could_not_run(
            "the log has no checkpoint yet that an export could go up to; `crewlog serve` makes \
             one a second",
        )
    })?;
    let mut sink = Sink::open(arguments.output)?;
    let started = Instant::now();
    let mut meter = Meter::start("exporting");
    let sent = send(service, &mut export, &mut sink, |export| {
        meter.show(Progress {
            position: export.position(),
            head: export.through(),
            elapsed: started.elapsed(),
        });
    });
    let sent = sent.await;
    meter.finish();
    sent?;
    sink.finish()?;
    let (entries, through) = (export.entries(), export.through());
    let rate = rate(entries, started.elapsed());
    announce!(
        "exported {entries} entries up to the checkpoint of size {through}, {rate} entries/s"
    );
    Ok(())
}

async fn send(
    service: &Arc<Service>,
    export: &mut AuditExport,
    sink: &mut Sink,
    mut tell: impl FnMut(&AuditExport),
) -> Result<(), Failure> {
    while let Some(part) = service.next_of_export(export, api::shown_entry).await? {
        sink.write(&part)?;
        tell(export);
    }
    Ok(())
}

async fn access(
    service: &Arc<Service>,
    arguments: AccessArguments,
    output: Output,
) -> Result<(), Failure> {
    let question = AccessQuestion {
        environment: arguments.environment,
        principal: arguments.principal,
        as_of: arguments.as_of,
    };
    let report = service
        .operators_access(arguments.workspace, question)
        .await?;
    let json = api::shown_access(report);
    output.result(&json, &as_table(&json))
}

/// One line for each access: who, what as, which environments, since when, by whom.
fn as_table(report: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("–").to_owned();
    let list = |value: &serde_json::Value| {
        let words = value.as_array().into_iter().flatten().map(text);
        words.collect::<Vec<_>>().join(",")
    };
    let mut table = format!(
        "access at {}, position {}\n",
        text(&report["at"]),
        report["position"]
    );
    for access in report["principals"].as_array().into_iter().flatten() {
        let may = match access["role"].as_str() {
            Some(role) => role.to_owned(),
            None => list(&access["scopes"]),
        };
        table.push_str(&format!(
            "{} {}: {} by {}, reaches {}, since {}, given by {} at position {}\n",
            text(&access["id"]),
            text(&access["name"]),
            may,
            text(&access["through"]),
            list(&access["environments"]),
            text(&access["since"]),
            text(&access["granted_by_name"]),
            access["granted_at_position"],
        ));
    }
    table
}
