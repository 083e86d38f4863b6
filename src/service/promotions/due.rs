//! Scheduled promotions whose time has come.
//!
//! One is applied on the newest state by the authority of whoever scheduled it, who must still
//! have it, with the approvals that count now, to the target that was reviewed. Where any of that
//! holds no more, the schedule ends with an event that says why; nobody's target is changed by a
//! promotion that could not be applied by hand. Either is accepted once, whoever does it.

use super::{PromotionAt, apply_in, circumstances};
use crate::{
    domain::{
        Refusal,
        authority::{Actor, AuthorityLink, Permission},
        crew::Crew,
        promotion::{Promotion, PromotionCommand, Schedule, ScheduleEnd},
        workspace::Workspace,
    },
    journal::{Desk, Origin, Rejection, SubmitError, Unit},
    projections::PromotionDocument,
    service::{
        Service, ServiceError, organizations::organization_stream, suspension::is_suspended,
        workspaces::Place, write::Made,
    },
};

/// How often what is due is composed anew before it is left for the next look.
const COMPOSED_MAX: usize = 3;

/// Why it cannot be applied, as the log says it; none where that is no matter of a schedule.
fn end_of(refusal: &Refusal) -> Option<ScheduleEnd> {
    match refusal {
        Refusal::CrewMoved => Some(ScheduleEnd::TargetMoved),
        Refusal::ApprovalsMissing { .. } => Some(ScheduleEnd::ApprovalsMissing),
        Refusal::SlotsMissing { .. } => Some(ScheduleEnd::SlotsMissing),
        Refusal::CrewArchived | Refusal::NotFound { what: "crew", .. } => {
            Some(ScheduleEnd::TargetGone)
        }
        _ => None,
    }
}

/// What the scheduler's authority is now.
fn authority(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    schedule: Schedule,
) -> Result<AuthorityLink, ScheduleEnd> {
    let now = desk.now();
    if is_suspended(desk, &organization_stream(at.place.organization)) {
        return Err(ScheduleEnd::OrganizationSuspended);
    }
    let workspace = desk.read::<Workspace>(&at.place.stream());
    if workspace.is_deleted() {
        return Err(ScheduleEnd::TargetGone);
    }
    let actor = Actor::User { id: schedule.user };
    let permission = Permission::DecidePromotions;
    let may = workspace.authorise_in_crew(actor, permission, at.target, now);
    may.map_err(|_| ScheduleEnd::RightsEnded)
}

/// Whether it could be applied, and by which authority.
fn verdict(
    desk: &mut Desk<'_>,
    at: PromotionAt,
    schedule: Schedule,
    plan: &super::Plan,
) -> Result<Result<AuthorityLink, ScheduleEnd>, Rejection> {
    let link = match authority(desk, at, schedule) {
        Ok(link) => link,
        Err(why) => return Ok(Err(why)),
    };
    let now = circumstances(desk, at);
    let promotion = desk.read::<Promotion>(&at.stream());
    let approved = promotion.can_be_applied(&now);
    let crew = desk.read::<Crew>(&at.crew().stream());
    let fits = approved
        .and_then(|()| crew.would_lack(now.target_version, &plan.changes, &plan.needs))
        .and_then(|slots| match slots.is_empty() {
            true => Ok(()),
            false => Err(Refusal::SlotsMissing { slots }),
        });
    match fits {
        Ok(()) => Ok(Ok(link)),
        Err(refusal) => match end_of(&refusal) {
            Some(why) => Ok(Err(why)),
            None => Err(refusal.into()),
        },
    }
}

impl Service {
    /// Applies a scheduled promotion whose time has come, or ends its schedule; due work.
    pub(in crate::service) async fn apply_due(
        &self,
        document: &PromotionDocument,
    ) -> Result<(), ServiceError> {
        let crew = self
            .crews()
            .get(&document.target.id.to_string())
            .await?
            .value;
        // Of a crew whose workspace was deleted nothing is left to read; its organization is then
        // in the promotion's own stream.
        let organization = match crew {
            Some(crew) => crew.organization,
            None => match self.place(document.workspace).await? {
                Some(organization) => organization,
                None => self.organization_of(document).await?,
            },
        };
        let place = Place {
            workspace: document.workspace,
            organization,
        };
        let at = PromotionAt {
            place,
            id: document.id,
            target: document.target,
        };
        for _ in 0..COMPOSED_MAX {
            match self
                .journal
                .submit(self.due_unit(at, document).await?)
                .await
            {
                Ok(_) => return Ok(()),
                Err(SubmitError::Recompose) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The next look finds it again.
        Ok(())
    }

    async fn organization_of(
        &self,
        document: &PromotionDocument,
    ) -> Result<crate::domain::ids::OrganizationId, ServiceError> {
        let stream = crate::journal::StreamRef::of::<Promotion>(document.id, document.workspace);
        let store = self.journal.store();
        let read = crate::journal::loading::read_back::<Promotion>(&**store, &stream, None).await?;
        let organization = crate::domain::Stream::organization(&read.0);
        organization.ok_or_else(|| ServiceError::Internal(format!("{} is empty", document.id)))
    }

    async fn due_unit(
        &self,
        at: PromotionAt,
        document: &PromotionDocument,
    ) -> Result<Unit, ServiceError> {
        let content = self.newest_plan(at).await?;
        let plan = self.plan(at.place.workspace, content).await?;
        let due = document.schedule;
        let (workspace, stream, crew) = (at.place.stream(), at.stream(), at.crew().stream());
        Ok(Unit {
            lane: at.place.organization.to_string(),
            streams: vec![
                workspace,
                stream.clone(),
                crew,
                organization_stream(at.place.organization),
            ],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                let schedule = desk.read::<Promotion>(&stream).schedule();
                let Some(schedule) = schedule.filter(|schedule| Some(*schedule) == due) else {
                    // Another process was quicker, or somebody has decided otherwise.
                    return Ok(Made::Nothing.outcome(0));
                };
                match verdict(desk, at, schedule, &plan)? {
                    Ok(link) => {
                        desk.stand_on(link);
                        let (user, time) = (schedule.user, Some(schedule.at));
                        apply_in(desk, at, user, time, (content, &plan))?;
                    }
                    Err(why) => {
                        let at = schedule.at;
                        let end = PromotionCommand::EndSchedule { at, why };
                        desk.execute::<Promotion>(&stream, end, &[])?;
                    }
                }
                Ok(Made::Nothing.outcome(0))
            }),
        })
    }
}
