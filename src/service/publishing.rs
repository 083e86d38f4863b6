//! Checkpoints that somebody else keeps: written to a file or sent to a URL on a schedule, and
//! looked at again at the next start.
//!
//! A store that does not extend what was published of it has lost or changed entries that others
//! have seen: nothing is served from it. So a backup that is too old, or a database that was
//! failed over to without its last commits, does not go on as if nothing had happened.

use std::{io::Write, path::PathBuf, sync::PoisonError, time::Duration};

use super::{
    Service, ServiceError,
    transparency::{MARK_PUBLISHED, WhichCheckpoint},
};
use crate::{
    domain::Timestamp,
    journal::stores::{self, Statement},
    proofs::{note::Checkpoint, tree::Hash},
};

/// How long the other end may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How often a checkpoint is published, where nobody says otherwise.
pub const PUBLISH_EVERY_SECONDS: u32 = 300;
/// The longest text that is taken for a checkpoint.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Where checkpoints are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishTo {
    /// A file that is put in place whole.
    File(PathBuf),
    /// An `http` or `https` URL: read with `GET`, written with `PUT`.
    Url(String),
}

impl PublishTo {
    /// A URL, or else the path of a file.
    pub fn parse(text: &str) -> Self {
        match text.starts_with("https://") || text.starts_with("http://") {
            true => Self::Url(text.to_owned()),
            false => Self::File(text.into()),
        }
    }

    /// What is published there now; none where nothing is yet.
    async fn read(&self) -> Result<Option<String>, String> {
        match self {
            Self::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{} cannot be read: {error}", file.display())),
            },
            Self::Url(url) => {
                let answer = client()?.get(url).send().await.map_err(without_url)?;
                match answer.status() {
                    reqwest::StatusCode::NOT_FOUND => Ok(None),
                    status if status.is_success() => bounded(answer).await.map(Some),
                    status => Err(format!("the URL answered {status} when it was read")),
                }
            }
        }
    }

    async fn write(&self, note: String) -> Result<(), String> {
        match self {
            Self::File(file) => {
                let (file, shown) = (file.clone(), file.display().to_string());
                let written = tokio::task::spawn_blocking(move || put_in_place(&file, &note));
                let written = written.await.map_err(|error| error.to_string())?;
                written.map_err(|error| format!("{shown} cannot be written: {error}"))
            }
            Self::Url(url) => {
                let put = client()?
                    .put(url)
                    .header("content-type", "text/plain; charset=utf-8");
                let answer = put.body(note).send().await.map_err(without_url)?;
                match answer.status() {
                    status if status.is_success() => Ok(()),
                    status => Err(format!("the URL answered {status} when it was written")),
                }
            }
        }
    }
}

fn put_in_place(file: &std::path::Path, note: &str) -> std::io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => std::path::Path::new("."),
    };
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(note.as_bytes())?;
    // Others read it: that is what it is for.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(mode)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    std::fs::File::open(folder)?.sync_all()
}

fn client() -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder().timeout(ANSWERS_WITHIN);
    client.build().map_err(without_url)
}

/// A URL may have a password in it.
fn without_url(error: reqwest::Error) -> String {
    let error = error.without_url();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn bounded(mut answer: reqwest::Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(without_url)? {
        bytes.extend(chunk);
        if bytes.len() > NOTE_BYTES_MAX {
            return Err("the URL answers with something longer than a checkpoint".to_owned());
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| "the URL answers with something that is no text".to_owned())
}

/// Where and how often checkpoints are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    pub to: PublishTo,
    pub every: Duration,
}

/// The last checkpoint that others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    size: u64,
    root: Hash,
    /// When this process put it there; none for what was there at its start.
    at: Option<Timestamp>,
}

impl Service {
    /// Compares the log with what was published of it.
    ///
    /// # Errors
    /// When it does not extend that, or what is published cannot be read or believed.
    pub(super) async fn extends_what_was_published(&self) -> Result<(), ServiceError> {
        let Some(publishing) = &self.settings.publishing else {
            return Ok(());
        };
        let refused = |detail: String| {
            ServiceError::Refuses(format!("the checkpoint that was published last: {detail}"))
        };
        let Some(text) = publishing.to.read().await.map_err(|detail| {
            refused(format!(
                "{detail}; serve without --publish-checkpoint to go without the comparison"
            ))
        })?
        else {
            return Ok(());
        };
        let known = self.verifiers().await?.into_iter();
        let keys: Vec<_> = known.map(|key| key.verifier).collect();
        let found = Checkpoint::open(&text, &keys).map_err(|error| refused(error.to_string()))?;
        let published = Published {
            size: found.size,
            root: found.root,
            at: None,
        };
        self.extends(published).await.map_err(refused)?;
        self.remember(published);
        Ok(())
    }

    /// Whether the log has everything that a checkpoint covers, as it was; else, what is wrong.
    async fn extends(&self, published: Published) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let head = stores::head(&**self.journal.store()).await;
        let head = head.map_err(|error| told(&error))?;
        if head.position < published.size {
            return Err(format!(
                "it covers {} entries, and this log has {}: entries were lost that others have \
                 seen; restore a newer backup",
                published.size, head.position
            ));
        }
        let tree = &self.transparency.tree;
        let root = async {
            tree.advance(published.size).await?;
            tree.root(published.size).await
        };
        match root.await.map_err(|error| told(&error))? == published.root {
            true => Ok(()),
            false => Err(format!(
                "the first {} entries of this log are not those that were published; run `crewlog verify`",
                published.size
            )),
        }
    }

    fn remember(&self, published: Published) {
        metrics::gauge!("crewlog_published_position").set(published.size as f64);
        let known = self.transparency.published.lock();
        *known.unwrap_or_else(PoisonError::into_inner) = Some(published);
    }

    /// Publishes the newest checkpoint where one is due and there is a newer.
    ///
    /// # Errors
    /// When the log does not extend what was published last. That it cannot be published now is
    /// only logged, and tried again.
    pub(super) async fn publish_if_due(&self) -> Result<(), String> {
        let Some(publishing) = &self.settings.publishing else {
            return Ok(());
        };
        let known = *self
            .transparency
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.source().now();
        let every = chrono::TimeDelta::from_std(publishing.every).unwrap_or(chrono::TimeDelta::MAX);
        let last = known.and_then(|known| known.at);
        if last.is_some_and(|at| at.plus(every) > now) {
            return Ok(());
        }
        match self.publish(&publishing.to, known, now).await {
            Ok(()) => Ok(()),
            Err(NotPublished::Forked(detail)) => {
                Err(format!("the checkpoint that was published last: {detail}"))
            }
            Err(NotPublished::Failed(detail)) => {
                metrics::counter!("crewlog_publishing_failed_total").increment(1);
                tracing::warn!(detail, "the checkpoint could not be published");
                Ok(())
            }
        }
    }

    async fn publish(
        &self,
        to: &PublishTo,
        known: Option<Published>,
        now: Timestamp,
    ) -> Result<(), NotPublished> {
        let failed = |error: ServiceError| NotPublished::Failed(error.to_string());
        let newest = self
            .checkpoint(WhichCheckpoint::Newest)
            .await
            .map_err(failed)?;
        let Some(newest) = newest else {
            return Ok(());
        };
        let checkpoint = newest.checkpoint().map_err(failed)?;
        let published = Published {
            size: checkpoint.size,
            root: checkpoint.root,
            at: Some(now),
        };
        match known {
            Some(known) if known.size >= published.size && known.at.is_some() => {
                self.remember(Published {
                    at: Some(now),
                    ..known
                });
                return Ok(());
            }
            Some(known) => self.extends(known).await.map_err(NotPublished::Forked)?,
            None => {}
        }
        to.write(newest.note).await.map_err(NotPublished::Failed)?;
        self.remember(published);
        let mark = Statement::new(MARK_PUBLISHED, [now.0.into(), published.size.into()]);
        let marked = self.journal.store().execute(vec![mark]).await;
        marked.map_err(|error| failed(error.into()))?;
        Ok(())
    }
}

/// Why a checkpoint was not published.
enum NotPublished {
    /// It must never be: others have seen another log.
    Forked(String),
    /// It may go through later.
    Failed(String),
}
