//! Due work: what time alone makes happen.
//!
//! Found by asking the read models for deadlines that have passed, and written as units that
//! an aggregate accepts once; so it does not matter how many processes do it, or when one
//! of them dies.

use std::{sync::Arc, time::Duration};

use super::{Service, ServiceError, activity, credentials, signing, transparency, write::Made};
use crate::{
    domain::{
        Refusal,
        ids::WorkspaceId,
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::{
        Origin, StreamRef, Unit, forget_rested,
        stores::{self, Statement},
    },
};

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what has outlived its use beside the log is deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
/// How many things are done in one look.
const AT_ONCE: u64 = 200;
/// How long an idempotency key is remembered.
const IDEMPOTENCY_KEPT: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// What one look has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DueReport {
    pub invitations_expired: u64,
    pub profiles_shared: u64,
    pub attempts_written: u64,
    pub failed_sign_ins_written: u64,
    pub keys_expired: u64,
    pub key_uses_written: u64,
    /// Roles and memberships that have ended by themselves.
    pub limits_reached: u64,
    pub auditors_expired: u64,
    /// People whose keys in an organization were destroyed.
    pub people_erased: u64,
    /// Scheduled promotions that were applied, or whose schedules ended.
    pub promotions_due: u64,
    /// Campaigns that reminded, closed, went on closing or opened the next one.
    pub reviews_due: u64,
    /// Months of usage that were closed.
    pub months_closed: u64,
    /// Contents that were staged and never pinned.
    pub contents_collected: u64,
    /// Names of an older store by which people can be found now.
    pub names_caught_up: u64,
    /// Records of activity that were kept long enough, or whose workspace was deleted.
    pub activity_deleted: u64,
    /// Claims that had rested for long enough.
    pub rests_ended: u64,
}

const DELETE_TOKENS: &str = "
DELETE FROM session_tokens
 WHERE expires_at <= $1";

const DELETE_IDEMPOTENCY: &str = "
DELETE FROM idempotency
 WHERE created_at <= $1";

impl Service {
    /// Does what is due, for as long as the service lives.
    pub async fn keep_doing_what_is_due(self: Arc<Self>) {
        let mut next_sweep = tokio::time::Instant::now();
        loop {
            if let Err(error) = self.do_what_is_due().await {
                tracing::warn!(%error, "due work was put off");
            }
            if !self.is_replica() && tokio::time::Instant::now() >= next_sweep {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "sweeping was put off");
                }
                next_sweep = tokio::time::Instant::now() + SWEEP_EVERY;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Does what is due now, once.
    ///
    /// # Errors
    /// When the store or the journal does not take it; what was not done stays due.
    pub async fn do_what_is_due(&self) -> Result<DueReport, ServiceError> {
        let mut report = DueReport::default();
        let now = self.source().now();
        self.forget_erased_keys().await?;
        if self.is_replica() {
            // All else writes.
            return Ok(report);
        }
        for (_, invitation) in self.invitations().due(now, AT_ONCE).await? {
            self.expire_invitation(&invitation).await?;
            report.invitations_expired += 1;
        }
        for (_, member) in self.members().due(now, AT_ONCE).await? {
            let user = member.user;
            self.note(member.workspace, WorkspaceCommand::ReachLimit { user })
                .await?;
            report.limits_reached += 1;
        }
        for (_, grant) in self.auditors().due(now, AT_ONCE).await? {
            let user = grant.user;
            self.note(grant.workspace, WorkspaceCommand::ExpireAuditor { user })
                .await?;
            report.auditors_expired += 1;
        }
        for (_, account) in self.users().due(now, AT_ONCE).await? {
            self.share_profile(account.id).await?;
            report.profiles_shared += 1;
        }
        for (_, key) in self.api_keys().due(now, AT_ONCE).await? {
            self.expire_key(&key).await?;
            report.keys_expired += 1;
        }
        for (_, promotion) in self.promotions().due(now, AT_ONCE).await? {
            // One that cannot be read keeps nothing else from being done; it stays due.
            match self.apply_due(&promotion).await {
                Ok(()) => report.promotions_due += 1,
                Err(error) => {
                    tracing::warn!(%error, promotion = %promotion.id, "it was not applied in time");
                }
            }
        }
        for (_, review) in self.reviews().due(now, AT_ONCE).await? {
            match self.review_due(&review, now).await {
                Ok(()) => report.reviews_due += 1,
                Err(error) => {
                    tracing::warn!(%error, review = %review.id, "what is due about it was put off");
                }
            }
        }
        self.tell_organizations().await?;
        report.people_erased = self.erase_who_is_due(AT_ONCE).await?;
        report.names_caught_up = self.catch_up_with_words().await?;
        report.months_closed = self.close_due_months().await?;
        report.contents_collected = self.collect_contents().await?;
        report.activity_deleted = self.delete_old_activity().await?;
        report.rests_ended = self.end_what_is_over().await?;
        report.key_uses_written = self.write_key_uses().await?;
        report.attempts_written = self.write_repeated_attempts().await?;
        report.failed_sign_ins_written = self.write_failed_sign_ins().await?;
        Ok(report)
    }

    /// Has a workspace note what time has done; it accepts that once, whoever asks.
    async fn note(
        &self,
        workspace: WorkspaceId,
        command: WorkspaceCommand,
    ) -> Result<(), ServiceError> {
        let Some(organization) = self.place(workspace).await? else {
            // It was deleted meanwhile, and every access with it.
            return Ok(());
        };
        let stream = StreamRef::of::<Workspace>(workspace, workspace);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                match desk.execute::<Workspace>(&stream, command.clone(), &[]) {
                    Ok(()) | Err(Refusal::NotFound { .. }) => Ok(Made::Nothing.outcome(0)),
                    Err(refusal) => Err(refusal.into()),
                }
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }

    /// Forgets claims that have rested, and destroys credentials whose grace is over: by the log's
    /// time, as whatever is decided by them. Answers how many rested.
    async fn end_what_is_over(&self) -> Result<u64, ServiceError> {
        let store = self.journal.store();
        let now = stores::head(&**store).await?.recorded_at;
        let mut statements = vec![forget_rested(now, AT_ONCE)];
        statements.extend(credentials::destroy_expired(now));
        let touched = store.execute(statements).await?;
        Ok(touched.first().copied().unwrap_or(0))
    }

    /// Deletes what has outlived its use beside the log.
    async fn sweep(&self) -> Result<(), ServiceError> {
        let now = self.source().now();
        let forgotten = now.plus(-IDEMPOTENCY_KEPT);
        let statements = vec![
            Statement::new(DELETE_TOKENS, [now.0.into()]),
            Statement::new(DELETE_IDEMPOTENCY, [forgotten.0.into()]),
            activity::forget_ended(now),
            signing::destroy(now),
            transparency::delete_superseded(now),
        ];
        self.journal.store().execute(statements).await?;
        self.forget_paces().await
    }
}
