//! How an auditor is told of each event: its action, its target, its before → after.
//!
//! [`describe`] is where a new event gets them. What entries are found by is derived from it
//! ([`super::audit_index`]).

use serde_json::{Value as Json, json};

use super::{connections::of_connection, knowledge::of_knowledge};
use crate::{
    domain::{
        Timestamp,
        api_keys::{KeyCreated, KeyEnd, KeyExpired, KeyRevoked, KeyRotated, KeyTerms, KeyUpdated},
        attempts::AttemptsEvent,
        authority::{Actor, AuthorityLink, Role},
        crew::{
            Connection, CrewEvent, CrewPlace, CrewProfile, CrewPromoted, Item, ItemChange,
            ItemKind, KnowledgeBase, KnowledgeDocument, KnowledgeEvent,
        },
        environment::Environment,
        event::Event,
        ids::{CrewId, DocumentId, KeyId, KnowledgeBaseId, ReviewId, UserId},
        installation::InstallationEvent,
        organization::OrganizationEvent,
        promotion::{PromotionEvent, PromotionStatus, Review},
        review::{ReviewEvent, ReviewTerms},
        sealed::Sealed,
        user::UserEvent,
        workspace::WorkspaceEvent,
    },
    journal::Recorded,
};

/// Whether something was done, or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    Ok,
    Denied,
}

impl AuditOutcome {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
        }
    }
}

/// A value in a change: plain, or sealed in the event under a field's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    Plain(Json),
    Sealed { field: &'static str, sealed: Sealed },
}

impl Shown {
    fn nothing() -> Self {
        Self::Plain(Json::Null)
    }
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub path: &'static str,
    pub from: Shown,
    pub to: Shown,
}

/// An event as an auditor reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    pub actor: Actor,
    /// `<thing>.<past participle>`.
    pub action: String,
    /// The kind and id of what the command made or changed.
    pub target: (&'static str, String),
    /// What the target is called from then on, where the event says an open name.
    pub called: Option<String>,
    pub outcome: AuditOutcome,
    /// The crew that it is about, where it is about one.
    pub crew: Option<CrewId>,
    /// The environment that it is about, where it is about one.
    pub environment: Option<Environment>,
    pub changes: Vec<Change>,
    /// Whether glass was broken for it.
    pub breaks_glass: bool,
    /// Open names in the event, for free-text search.
    pub words: Vec<String>,
}

impl Description {
    fn of(event: &Recorded, action: &str, target: (&'static str, String)) -> Self {
        Self {
            actor: event.metadata.actor,
            action: action.to_owned(),
            target,
            called: None,
            outcome: AuditOutcome::Ok,
            crew: None,
            environment: event.metadata.environment,
            breaks_glass: (event.metadata.authority).contains(&AuthorityLink::BrokenGlass {}),
            changes: Vec::new(),
            words: Vec::new(),
        }
    }

    fn changed(self, path: &'static str, from: impl Into<Json>, to: impl Into<Json>) -> Self {
        self.change(path, Shown::Plain(from.into()), Shown::Plain(to.into()))
    }

    fn change(mut self, path: &'static str, from: Shown, to: Shown) -> Self {
        self.changes.push(Change { path, from, to });
        self
    }

    fn sealed(self, path: &'static str, sealed: &Sealed) -> Self {
        let to = Shown::Sealed {
            field: path,
            sealed: sealed.clone(),
        };
        self.change(path, Shown::nothing(), to)
    }

    fn resealed(self, path: &'static str, previous: &Sealed, sealed: &Sealed) -> Self {
        self.text_changed(path, Some(previous), Some(sealed))
    }

    /// The same of what there may be none of, before or after; nothing where neither is said.
    fn text_changed(
        self,
        path: &'static str,
        previous: Option<&Sealed>,
        sealed: Option<&Sealed>,
    ) -> Self {
        if previous.is_none() && sealed.is_none() {
            return self;
        }
        let shown = |field, sealed: Option<&Sealed>| {
            sealed
                .cloned()
                .map_or_else(Shown::nothing, |sealed| Shown::Sealed { field, sealed })
        };
        self.change(path, shown("previous", previous), shown(path, sealed))
    }

    /// What its target is called from then on.
    fn called(mut self, name: &str) -> Self {
        self.called = Some(name.to_owned());
        self.named(&[name])
    }

    fn in_crew(mut self, crew: CrewPlace) -> Self {
        self.crew = Some(crew.id);
        self.environment = Some(crew.environment);
        self
    }

    fn named(mut self, words: &[&str]) -> Self {
        self.words
            .extend(words.iter().map(|word| (*word).to_owned()));
        self
    }
}

/// How an auditor is told of an event.
pub fn describe(event: &Recorded) -> Description {
    let description = match &event.event {
        Event::User(happened) => describe_user(event, happened),
        Event::Organization(happened) => describe_organization(event, happened),
        Event::Workspace(happened) => describe_workspace(event, happened),
        Event::Crew(happened) => describe_crew(event, happened),
        Event::Promotion(happened) => describe_promotion(event, happened),
        Event::Review(happened) => describe_review(event, happened),
        Event::Attempts(happened) => describe_attempt(event, happened),
        Event::Installation(happened) => describe_installation(event, happened),
    };
    match (review_behind(event), &event.event) {
        (None, _) | (_, Event::Review(_)) => description,
        (Some(review), _) => description.changed("access_review", Json::Null, review.to_string()),
    }
}

/// The campaign that an entry carries a decision out of.
fn review_behind(event: &Recorded) -> Option<ReviewId> {
    let mut links = event.metadata.authority.iter();
    links.find_map(|link| match link {
        AuthorityLink::AccessReview { id, .. } => Some(*id),
        AuthorityLink::Session { .. }
        | AuthorityLink::Role { .. }
        | AuthorityLink::OrganizationRole { .. }
        | AuthorityLink::ApiKey { .. }
        | AuthorityLink::AuditorGrant { .. }
        | AuthorityLink::OperatorKey { .. }
        | AuthorityLink::BrokenGlass {} => None,
    })
}

/// What happened to an access review.
fn describe_review(event: &Recorded, happened: &ReviewEvent) -> Description {
    use ReviewEvent as E;
    let of = |action| Description::of(event, action, ("access_review", event.aggregate_id.clone()));
    let nothing = Json::Null;
    match happened {
        E::ReviewOpened {
            terms,
            pinned_at,
            items,
            previous,
            ..
        } => of("access_review.opened")
            .changed("scope", nothing.clone(), scope_of(terms))
            .changed("reviewers", nothing.clone(), json!(terms.reviewers))
            .changed("due_at", nothing.clone(), terms.due_at.to_rfc3339())
            .changed("undecided", nothing.clone(), terms.undecided.name())
            .changed(
                "recurs_after_days",
                nothing.clone(),
                json!(terms.recurs_after_days),
            )
            .changed("pinned_at", nothing.clone(), *pinned_at)
            .changed("items", nothing.clone(), *items)
            .changed("previous", nothing, json!(previous))
            .called(&terms.name),
        E::ReviewReminded {
            days_left,
            undecided,
            ..
        } => of("access_review.reminded")
            .changed("days_left", nothing.clone(), *days_left)
            .changed("undecided", nothing, *undecided),
        E::AccessDecided {
            item,
            decision,
            reason,
            findings,
            again,
            ..
        } => {
            let action = match again {
                true => "access_review.redecided",
                false => "access_review.decided",
            };
            of(action)
                .changed("item", nothing.clone(), item.to_string())
                .changed("decision", nothing.clone(), json!(decision))
                .changed("findings", nothing, json!(findings))
                .sealed("reason", reason)
        }
        E::ReviewClosing { closed_by } => {
            of("access_review.closing").changed("timed_out", nothing, closed_by.is_none())
        }
        E::AccessSettled {
            item,
            decision,
            outcome,
            ..
        } => of("access_review.settled")
            .changed("item", nothing.clone(), item.to_string())
            .changed("decision", nothing.clone(), json!(decision))
            .changed("outcome", nothing, json!(outcome)),
        E::ReviewReopened { returned } => {
            of("access_review.reopened").changed("returned", nothing, json!(returned))
        }
        E::ReviewClosed {
            timed_out,
            kept,
            applied,
            not_applied,
        } => of("access_review.closed")
            .changed("timed_out", nothing.clone(), *timed_out)
            .changed("kept", nothing.clone(), *kept)
            .changed("applied", nothing.clone(), *applied)
            .changed("not_applied", nothing, *not_applied),
        E::ReviewRecurred { next, ended } => {
            let description =
                of("access_review.recurred").changed("next", nothing.clone(), json!(next));
            match ended {
                Some(why) => description.changed("ended", nothing, why.name()),
                None => description,
            }
        }
        E::ReviewRecurrenceStopped { .. } => of("access_review.recurrence_stopped"),
    }
}

fn scope_of(terms: &ReviewTerms) -> Json {
    json!({"principals": terms.principals, "environment": terms.environment})
}

fn describe_user(event: &Recorded, happened: &UserEvent) -> Description {
    let user = ("user", event.aggregate_id.clone());
    match happened {
        UserEvent::UserSignedUp { email, name, .. } => {
            Description::of(event, "user.signed_up", user)
                .sealed("email", email)
                .sealed("name", name)
        }
        UserEvent::UserRenamed { name, previous } => {
            Description::of(event, "user.renamed", user).resealed("name", previous, name)
        }
        UserEvent::UserEmailChanged { email, previous } => {
            Description::of(event, "user.email_changed", user).resealed("email", previous, email)
        }
        UserEvent::UserProfileShared { organizations, .. } => Description::of(
            event,
            "user.profile_shared",
            user,
        )
        .changed("organizations", Json::Null, json!(organizations)),
        UserEvent::SessionStarted {
            session,
            expires_at,
            ..
        } => Description::of(event, "session.started", ("session", session.to_string())).changed(
            "expires_at",
            Json::Null,
            expires_at.to_rfc3339(),
        ),
        UserEvent::SessionRevoked { session, cause } => Description::of(
            event,
            "session.revoked",
            ("session", session.to_string()),
        )
        .changed("cause", Json::Null, json!(cause)),
        UserEvent::SignInFailed { count, .. } => {
            let mut description = Description::of(event, "session.refused", user).changed(
                "count",
                Json::Null,
                *count,
            );
            description.outcome = AuditOutcome::Denied;
            description
        }
        UserEvent::UserErased { sessions, .. } => Description::of(event, "user.erased", user)
            .changed("sessions", json!(sessions), json!([])),
        UserEvent::PasswordChanged { sessions } => Description::of(event, "password.changed", user)
            .changed("sessions", json!(sessions), json!([])),
    }
}

fn describe_organization(event: &Recorded, happened: &OrganizationEvent) -> Description {
    let organization = ("organization", event.aggregate_id.clone());
    match happened {
        OrganizationEvent::OrganizationCreated { name, .. } => {
            Description::of(event, "organization.created", organization)
                .changed("name", Json::Null, name.as_str())
                .called(name)
        }
        OrganizationEvent::OrganizationRenamed { from, to } => {
            Description::of(event, "organization.renamed", organization)
                .changed("name", from.as_str(), to.as_str())
                .named(&[from])
                .called(to)
        }
        OrganizationEvent::OrganizationKeyCreated(created) => key_created(event, created),
        OrganizationEvent::OrganizationKeyUpdated(updated) => key_updated(event, updated),
        OrganizationEvent::OrganizationKeyRotated(rotated) => key_rotated(event, rotated),
        OrganizationEvent::OrganizationKeyRevoked(revoked) => key_revoked(event, revoked),
        OrganizationEvent::OrganizationKeyExpired(expired) => key_expired(event, expired),
        OrganizationEvent::OrganizationMemberAdded { user, role } => Description::of(
            event,
            "organization_member.added",
            user_target(user),
        )
        .changed("role", Json::Null, role.name()),
        OrganizationEvent::PersonRecorded {
            user, email, name, ..
        } => Description::of(event, "person.recorded", user_target(user))
            .sealed("email", email)
            .sealed("name", name),
        OrganizationEvent::OrganizationMemberRoleChanged { user, from, to, .. } => Description::of(
            event,
            "organization_member.role_changed",
            user_target(user),
        )
        .changed("role", from.name(), to.name()),
        OrganizationEvent::WorkspaceHoldBegan { workspace } => Description::of(
            event,
            "workspace_hold.began",
            ("workspace", workspace.to_string()),
        )
        .changed("held", false, true),
        OrganizationEvent::WorkspaceHoldEnded { workspace } => Description::of(
            event,
            "workspace_hold.ended",
            ("workspace", workspace.to_string()),
        )
        .changed("held", true, false),
        OrganizationEvent::PersonErasureScheduled { user, due_at } => Description::of(
            event,
            "person.erasure_scheduled",
            user_target(user),
        )
        .changed("due_at", Json::Null, due_at.to_rfc3339()),
        OrganizationEvent::PersonErased { user } => {
            Description::of(event, "person.erased", user_target(user))
        }
        OrganizationEvent::OrganizationMemberRemoved { user, role, .. } => Description::of(
            event,
            "organization_member.removed",
            user_target(user),
        )
        .changed("role", role.name(), Json::Null),
        OrganizationEvent::OrganizationSuspended { .. } => Description::of(
            event,
            "organization.suspended",
            organization,
        )
        .changed("status", "active", "suspended"),
        OrganizationEvent::OrganizationResumed { suspended_at, .. } => {
            Description::of(event, "organization.resumed", organization)
                .changed("status", "suspended", "active")
                .changed("suspended_at", suspended_at.to_rfc3339(), Json::Null)
        }
    }
}

fn user_target(user: &UserId) -> (&'static str, String) {
    ("user", user.to_string())
}

fn describe_workspace(event: &Recorded, happened: &WorkspaceEvent) -> Description {
    let workspace = ("workspace", event.aggregate_id.clone());
    match happened {
        WorkspaceEvent::WorkspaceCreated { name, .. } => {
            Description::of(event, "workspace.created", workspace)
                .changed("name", Json::Null, name.as_str())
                .called(name)
        }
        WorkspaceEvent::WorkspaceRenamed { from, to } => {
            Description::of(event, "workspace.renamed", workspace)
                .changed("name", from.as_str(), to.as_str())
                .named(&[from])
                .called(to)
        }
        WorkspaceEvent::PlanSelected { from, to } => {
            Description::of(event, "plan.selected", workspace)
                .changed("plan", json!(from), to.as_str())
                .named(&[to.as_str()])
        }
        WorkspaceEvent::MemberJoined { user, role, .. } => Description::of(
            event,
            "member.joined",
            user_target(user),
        )
        .changed("role", Json::Null, role.name()),
        WorkspaceEvent::MemberRoleChanged { user, from, to, .. } => Description::of(
            event,
            "member.role_changed",
            user_target(user),
        )
        .changed("role", from.name(), to.name()),
        WorkspaceEvent::MemberRemoved { user, role, .. } => Description::of(
            event,
            "member.removed",
            user_target(user),
        )
        .changed("role", role.name(), Json::Null),
        WorkspaceEvent::MemberLeft { user, role } => Description::of(
            event,
            "member.left",
            user_target(user),
        )
        .changed("role", role.name(), Json::Null),
        WorkspaceEvent::MemberInvited { .. }
        | WorkspaceEvent::InvitationResent { .. }
        | WorkspaceEvent::InvitationAccepted { .. }
        | WorkspaceEvent::InvitationDeclined { .. }
        | WorkspaceEvent::InvitationRevoked { .. }
        | WorkspaceEvent::InvitationExpired { .. } => describe_invitation(event, happened),
        WorkspaceEvent::ApiKeyCreated(created) => key_created(event, created),
        WorkspaceEvent::ApiKeyUpdated(updated) => key_updated(event, updated),
        WorkspaceEvent::ApiKeyRotated(rotated) => key_rotated(event, rotated),
        WorkspaceEvent::ApiKeyRevoked(revoked) => key_revoked(event, revoked),
        WorkspaceEvent::ApiKeyExpired(expired) => key_expired(event, expired),
        WorkspaceEvent::PolicyChanged { .. } => describe_policy(event, happened),
        WorkspaceEvent::UsageMonthClosed { statement } => {
            let month = statement.month.to_string();
            Description::of(event, "usage_month.closed", workspace)
                .changed("month", Json::Null, month.as_str())
                .changed("amounts", Json::Null, json!(statement.amounts()))
                .named(&[&month])
        }
        WorkspaceEvent::LegalHoldPlaced { .. } => {
            Description::of(event, "legal_hold.placed", workspace).changed("held", false, true)
        }
        WorkspaceEvent::LegalHoldLifted { .. } => {
            Description::of(event, "legal_hold.lifted", workspace).changed("held", true, false)
        }
        WorkspaceEvent::LimitsChanged { from, to } => {
            let changed = from.named().into_iter().zip(to.named());
            let changed = changed.filter(|((_, from), (_, to))| from != to);
            changed.fold(
                Description::of(event, "limits.changed", workspace),
                |description, ((path, from), (_, to))| {
                    description.changed(path, json!(from), json!(to))
                },
            )
        }
        WorkspaceEvent::CrewListed { crew, environment } => {
            let (id, environment) = (*crew, *environment);
            Description::of(event, "crew.listed", ("crew", id.to_string()))
                .in_crew(CrewPlace { id, environment })
                .changed("environment", Json::Null, environment.name())
        }
        WorkspaceEvent::CrewUnlisted { crew, environment } => {
            let (id, environment) = (*crew, *environment);
            Description::of(event, "crew.unlisted", ("crew", id.to_string()))
                .in_crew(CrewPlace { id, environment })
                .changed("environment", environment.name(), Json::Null)
        }
        WorkspaceEvent::OwnershipTransferred { .. }
        | WorkspaceEvent::WorkspaceRecovered { .. }
        | WorkspaceEvent::WorkspaceDeleted { .. }
        | WorkspaceEvent::MembershipLimited { .. }
        | WorkspaceEvent::MembershipLimitLifted { .. }
        | WorkspaceEvent::MembershipLimitReached { .. }
        | WorkspaceEvent::AuditorGranted { .. }
        | WorkspaceEvent::AuditorRevoked { .. }
        | WorkspaceEvent::AuditorExpired { .. } => describe_access(event, happened),
    }
}

/// What ends access, or gives it to others or for a time.
fn describe_access(event: &Recorded, happened: &WorkspaceEvent) -> Description {
    let workspace = ("workspace", event.aggregate_id.clone());
    let of_user = |action, user| Description::of(event, action, user_target(user));
    let time = |time: &Timestamp| Json::from(time.to_rfc3339());
    let maybe = |moment: &Option<Timestamp>| moment.as_ref().map_or(Json::Null, time);
    match happened {
        WorkspaceEvent::OwnershipTransferred { from, to } => Description::of(
            event,
            "ownership.transferred",
            workspace,
        )
        .changed("owner", json!(from), json!(to)),
        WorkspaceEvent::WorkspaceRecovered {
            user, from, gone, ..
        } => Description::of(event, "workspace.recovered", workspace)
            .changed("owner", json!(gone), json!(user))
            .changed("role", json!(from), json!(Role::Owner)),
        WorkspaceEvent::WorkspaceDeleted { name, .. } => {
            Description::of(event, "workspace.deleted", workspace)
                .changed("name", name.as_str(), Json::Null)
                .called(name)
        }
        WorkspaceEvent::MembershipLimited {
            user,
            until,
            afterwards,
            previous,
            ..
        } => of_user("member.limited", user)
            .changed("until", maybe(previous), time(until))
            .changed("afterwards", Json::Null, json!(afterwards)),
        WorkspaceEvent::MembershipLimitLifted {
            user,
            until,
            afterwards,
            ..
        } => of_user("member.limit_lifted", user)
            .changed("until", time(until), Json::Null)
            .changed("afterwards", json!(afterwards), Json::Null),
        WorkspaceEvent::MembershipLimitReached {
            user,
            role,
            until,
            afterwards,
        } => of_user("member.limit_reached", user)
            .changed("role", role.name(), json!(afterwards))
            .changed("until", time(until), Json::Null),
        WorkspaceEvent::AuditorGranted {
            user, expires_at, ..
        } => of_user("auditor.granted", user).changed("expires_at", Json::Null, time(expires_at)),
        WorkspaceEvent::AuditorRevoked {
            user, expires_at, ..
        } => of_user("auditor.revoked", user).changed("expires_at", time(expires_at), Json::Null),
        WorkspaceEvent::AuditorExpired { user, expires_at } => {
            of_user("auditor.expired", user).changed("expires_at", time(expires_at), Json::Null)
        }
        WorkspaceEvent::WorkspaceCreated { .. }
        | WorkspaceEvent::WorkspaceRenamed { .. }
        | WorkspaceEvent::PlanSelected { .. }
        | WorkspaceEvent::CrewListed { .. }
        | WorkspaceEvent::CrewUnlisted { .. }
        | WorkspaceEvent::LimitsChanged { .. }
        | WorkspaceEvent::UsageMonthClosed { .. }
        | WorkspaceEvent::MemberJoined { .. }
        | WorkspaceEvent::MemberRoleChanged { .. }
        | WorkspaceEvent::MemberRemoved { .. }
        | WorkspaceEvent::MemberLeft { .. }
        | WorkspaceEvent::MemberInvited { .. }
        | WorkspaceEvent::InvitationResent { .. }
        | WorkspaceEvent::InvitationAccepted { .. }
        | WorkspaceEvent::InvitationDeclined { .. }
        | WorkspaceEvent::InvitationRevoked { .. }
        | WorkspaceEvent::InvitationExpired { .. }
        | WorkspaceEvent::LegalHoldPlaced { .. }
        | WorkspaceEvent::LegalHoldLifted { .. }
        | WorkspaceEvent::PolicyChanged { .. }
        | WorkspaceEvent::ApiKeyCreated(_)
        | WorkspaceEvent::ApiKeyUpdated(_)
        | WorkspaceEvent::ApiKeyRotated(_)
        | WorkspaceEvent::ApiKeyRevoked(_)
        | WorkspaceEvent::ApiKeyExpired(_) => describe_workspace(event, happened),
    }
}

/// One change for each decision of the policy that is another than before.
fn describe_policy(event: &Recorded, happened: &WorkspaceEvent) -> Description {
    let WorkspaceEvent::PolicyChanged { from, to } = happened else {
        return describe_workspace(event, happened);
    };
    let workspace = ("workspace", event.aggregate_id.clone());
    let decisions = [
        (
            "production_changes",
            json!(from.production_changes),
            json!(to.production_changes),
        ),
        (
            "approvals_needed",
            json!(from.approvals_needed),
            json!(to.approvals_needed),
        ),
        (
            "self_approval",
            json!(from.self_approval),
            json!(to.self_approval),
        ),
        (
            "key_rotation_days",
            json!(from.key_rotation_days),
            json!(to.key_rotation_days),
        ),
    ];
    let changed = decisions.into_iter().filter(|(_, from, to)| from != to);
    changed.fold(
        Description::of(event, "policy.changed", workspace),
        |description, (path, from, to)| description.changed(path, from, to),
    )
}

fn describe_invitation(event: &Recorded, happened: &WorkspaceEvent) -> Description {
    let of = |action, invitation: &dyn std::fmt::Display| {
        Description::of(event, action, ("invitation", invitation.to_string()))
    };
    let ended = |action, invitation, status: &str| {
        of(action, invitation).changed("status", "pending", status)
    };
    match happened {
        WorkspaceEvent::MemberInvited {
            invitation,
            email,
            role,
            expires_at,
            ..
        } => of("member.invited", invitation)
            .sealed("email", email)
            .changed("role", Json::Null, role.name())
            .changed("expires_at", Json::Null, expires_at.to_rfc3339()),
        WorkspaceEvent::InvitationResent {
            invitation,
            expires_at,
            ..
        } => of("invitation.resent", invitation).changed(
            "expires_at",
            Json::Null,
            expires_at.to_rfc3339(),
        ),
        WorkspaceEvent::InvitationAccepted { invitation, .. } => {
            ended("invitation.accepted", invitation, "accepted")
        }
        WorkspaceEvent::InvitationDeclined { invitation } => {
            ended("invitation.declined", invitation, "declined")
        }
        WorkspaceEvent::InvitationRevoked { invitation, .. } => {
            ended("invitation.revoked", invitation, "revoked")
        }
        WorkspaceEvent::InvitationExpired { invitation, .. } => {
            ended("invitation.expired", invitation, "expired")
        }
        WorkspaceEvent::WorkspaceCreated { .. }
        | WorkspaceEvent::WorkspaceRenamed { .. }
        | WorkspaceEvent::PlanSelected { .. }
        | WorkspaceEvent::CrewListed { .. }
        | WorkspaceEvent::CrewUnlisted { .. }
        | WorkspaceEvent::LimitsChanged { .. }
        | WorkspaceEvent::UsageMonthClosed { .. }
        | WorkspaceEvent::MemberJoined { .. }
        | WorkspaceEvent::MemberRoleChanged { .. }
        | WorkspaceEvent::MemberRemoved { .. }
        | WorkspaceEvent::MemberLeft { .. }
        | WorkspaceEvent::ApiKeyCreated(_)
        | WorkspaceEvent::ApiKeyUpdated(_)
        | WorkspaceEvent::ApiKeyRotated(_)
        | WorkspaceEvent::ApiKeyRevoked(_)
        | WorkspaceEvent::ApiKeyExpired(_)
        | WorkspaceEvent::OwnershipTransferred { .. }
        | WorkspaceEvent::WorkspaceRecovered { .. }
        | WorkspaceEvent::WorkspaceDeleted { .. }
        | WorkspaceEvent::LegalHoldPlaced { .. }
        | WorkspaceEvent::LegalHoldLifted { .. }
        | WorkspaceEvent::PolicyChanged { .. }
        | WorkspaceEvent::MembershipLimited { .. }
        | WorkspaceEvent::MembershipLimitLifted { .. }
        | WorkspaceEvent::MembershipLimitReached { .. }
        | WorkspaceEvent::AuditorGranted { .. }
        | WorkspaceEvent::AuditorRevoked { .. }
        | WorkspaceEvent::AuditorExpired { .. } => describe_workspace(event, happened),
    }
}

/// What happened to a crew, or in it. The workspace's listing tells of the crew as a whole to
/// those who may not look inside.
fn describe_crew(event: &Recorded, happened: &CrewEvent) -> Description {
    let mut description = match happened {
        CrewEvent::CrewCreated {
            crew,
            profile,
            description: text,
            ..
        } => {
            let description = of_crew(event, "crew.created").changed(
                "environment",
                Json::Null,
                crew.environment.name(),
            );
            profile_changed(description, &CrewProfile::default(), profile).text_changed(
                "description",
                None,
                text.as_ref(),
            )
        }
        CrewEvent::CrewUpdated {
            from,
            to,
            previous,
            description: text,
        } => profile_changed(of_crew(event, "crew.updated"), from, to).text_changed(
            "description",
            previous.as_ref(),
            text.as_ref(),
        ),
        CrewEvent::CrewArchived {} => {
            of_crew(event, "crew.archived").changed("status", "active", "archived")
        }
        CrewEvent::AgentCreated(_) | CrewEvent::PathwayCreated(_) => {
            describe_item(event, "created")
        }
        CrewEvent::AgentUpdated(_) | CrewEvent::PathwayUpdated(_) => {
            describe_item(event, "updated")
        }
        CrewEvent::AgentRemoved(_) | CrewEvent::PathwayRemoved(_) => {
            describe_item(event, "removed")
        }
        CrewEvent::ConnectionAdded(_) => describe_connection(event, "added"),
        CrewEvent::ConnectionChanged(_) => describe_connection(event, "changed"),
        CrewEvent::ConnectionRemoved(_) => describe_connection(event, "removed"),
        CrewEvent::KnowledgeBaseCreated(_)
        | CrewEvent::KnowledgeBaseUpdated(_)
        | CrewEvent::KnowledgeBaseRemoved(_)
        | CrewEvent::DocumentCreated(_)
        | CrewEvent::DocumentUpdated(_)
        | CrewEvent::DocumentRemoved(_) => describe_knowledge(event),
        CrewEvent::CredentialSet(set) => {
            let description = describe_connection(event, "credential_set");
            let description = description.changed("credential", json!(set.from), json!(set.to));
            match set.from_until {
                Some(until) => {
                    description.changed("former_until", json!(null), json!(until.to_rfc3339()))
                }
                None => description,
            }
        }
        CrewEvent::CredentialRemoved(removed) => {
            let description = describe_connection(event, "credential_removed");
            description.changed("credential", json!(removed.from), json!(null))
        }
        CrewEvent::CrewPromoted(promoted) => {
            describe_promoted(of_crew(event, "crew.promoted"), promoted)
        }
        CrewEvent::CrewRolledBack(promoted) => {
            describe_promoted(of_crew(event, "crew.rolled_back"), promoted)
        }
    };
    description.crew = event.aggregate_id.parse().ok();
    description
}

/// About the crew itself.
fn of_crew(event: &Recorded, action: &str) -> Description {
    Description::of(event, action, ("crew", event.aggregate_id.clone()))
}

/// About an agent or a pathway: what it says is told by its digest.
fn describe_item(event: &Recorded, done: &str) -> Description {
    let happened = match &event.event {
        Event::Crew(happened) => happened.of_item(),
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    };
    let Some(happened) = happened else {
        return of_crew(event, done);
    };
    let kind = happened.item().kind().name();
    let target = (kind, happened.item().to_string());
    let mut description = Description::of(event, &format!("{kind}.{done}"), target);
    let (from, to) = (happened.from(), happened.to());
    let name = |item: Option<&Item>| json!(item.map(|item| &item.name));
    let digest = |item: Option<&Item>| json!(item.map(|item| item.content.digest));
    if name(from) != name(to) {
        description = description.changed("name", name(from), name(to));
    }
    if digest(from) != digest(to) {
        description = description.changed("config", digest(from), digest(to));
    }
    if let Some(before) = from {
        description = description.named(&[&before.name]);
    }
    match to.or(from) {
        Some(item) => description.called(&item.name),
        None => description,
    }
}

/// About what a crew knows: what a document says is told by its digest.
fn describe_knowledge(event: &Recorded) -> Description {
    let Some(happened) = of_knowledge(event) else {
        return of_crew(event, "crew.updated");
    };
    match happened {
        KnowledgeEvent::BaseCreated(created) => {
            let base = created.knowledge_base;
            describe_base(event, "created", base, None, Some(&created.to))
        }
        KnowledgeEvent::BaseUpdated(updated) => {
            let (from, to) = (Some(&updated.from), Some(&updated.to));
            describe_base(event, "updated", updated.knowledge_base, from, to)
        }
        KnowledgeEvent::BaseRemoved(removed) => {
            let (base, from) = (removed.knowledge_base, Some(&removed.from));
            let description = describe_base(event, "removed", base, from, None);
            match removed.documents.len() {
                0 => description,
                count => description.changed("documents", json!(count), Json::Null),
            }
        }
        KnowledgeEvent::DocumentCreated(created) => {
            describe_document(event, "created", created.document, None, Some(&created.to))
        }
        KnowledgeEvent::DocumentUpdated(updated) => {
            let (from, to) = (Some(&updated.from), Some(&updated.to));
            describe_document(event, "updated", updated.document, from, to)
        }
        KnowledgeEvent::DocumentRemoved(removed) => {
            let from = Some(&removed.from);
            describe_document(event, "removed", removed.document, from, None)
        }
    }
}

fn describe_base(
    event: &Recorded,
    done: &str,
    id: KnowledgeBaseId,
    from: Option<&KnowledgeBase>,
    to: Option<&KnowledgeBase>,
) -> Description {
    let target = ("knowledge_base", id.to_string());
    let description = Description::of(event, &format!("knowledge_base.{done}"), target);
    let name = |base: Option<&KnowledgeBase>| base.map(|base| base.name.clone());
    renamed(description, "name", name(from), name(to))
}

fn describe_document(
    event: &Recorded,
    done: &str,
    id: DocumentId,
    from: Option<&KnowledgeDocument>,
    to: Option<&KnowledgeDocument>,
) -> Description {
    let target = ("document", id.to_string());
    let description = Description::of(event, &format!("document.{done}"), target);
    let title = |document: Option<&KnowledgeDocument>| document.map(|it| it.title.clone());
    let digest = |document: Option<&KnowledgeDocument>| document.map(|it| it.content.digest);
    let description = renamed(description, "title", title(from), title(to));
    match digest(from) == digest(to) {
        true => description,
        false => description.changed("text", json!(digest(from)), json!(digest(to))),
    }
}

/// Found by what it was called before and after, and called by the latter.
fn renamed(
    description: Description,
    path: &'static str,
    from: Option<String>,
    to: Option<String>,
) -> Description {
    let words: Vec<_> = from.iter().map(String::as_str).collect();
    let description = description.named(&words);
    let description = match to.as_ref().or(from.as_ref()) {
        Some(name) => description.called(name),
        None => description,
    };
    match from == to {
        true => description,
        false => description.changed(path, json!(from), json!(to)),
    }
}

/// What a promotion changed in a crew: the digests of what changed, by name.
fn describe_promoted(description: Description, promoted: &CrewPromoted) -> Description {
    let mut description =
        description.changed("promotion", Json::Null, promoted.promotion.to_string());
    for (kind, path) in [(ItemKind::Agent, "agents"), (ItemKind::Pathway, "pathways")] {
        let of_kind = promoted
            .changes
            .iter()
            .filter(|change| change.item.kind() == kind);
        let of_kind: Vec<&ItemChange> = of_kind.collect();
        if of_kind.is_empty() {
            continue;
        }
        let side = |item: fn(&ItemChange) -> Option<&Item>| {
            let items = of_kind.iter().filter_map(|change| item(change));
            let digests = items.map(|item| (item.name.clone(), json!(item.content.digest)));
            Json::Object(digests.collect())
        };
        let from = side(|change| change.from.as_ref());
        let to = side(|change| change.to.as_ref());
        description = description.changed(path, from, to);
    }
    description
}

/// What happened to a promotion.
fn describe_promotion(event: &Recorded, happened: &PromotionEvent) -> Description {
    let mut description = describe_step(event, happened);
    description.crew = Some(happened.target());
    description
}

fn describe_step(event: &Recorded, happened: &PromotionEvent) -> Description {
    use PromotionEvent as E;
    let of = |action| {
        let target = ("promotion", event.aggregate_id.clone());
        Description::of(event, action, target)
    };
    let status = |description: Description, status: PromotionStatus| {
        description.changed("status", Json::Null, status.name())
    };
    match happened {
        E::PromotionProposed {
            source,
            target,
            review,
            terms,
            ..
        } => reviewed(of("promotion.proposed"), review)
            .changed("source", Json::Null, json!(source))
            .changed("target", Json::Null, target.id.to_string())
            .changed("approvals_needed", Json::Null, terms.approvals_needed),
        E::PromotionRefreshed { review, .. } => reviewed(of("promotion.refreshed"), review),
        E::PromotionApproved { review, .. } => {
            of("promotion.approved").changed("plan", Json::Null, json!(review))
        }
        E::PromotionRejected { .. } => status(of("promotion.rejected"), PromotionStatus::Rejected),
        E::PromotionCancelled { .. } => {
            status(of("promotion.cancelled"), PromotionStatus::Cancelled)
        }
        E::PromotionScheduled { at, .. } => {
            of("promotion.scheduled").changed("at", Json::Null, at.to_rfc3339())
        }
        E::PromotionScheduleEnded { at, why, .. } => of("promotion.schedule_ended")
            .changed("at", at.to_rfc3339(), Json::Null)
            .changed("why", Json::Null, why.name()),
        E::PromotionApplied {
            version, scheduled, ..
        } => status(of("promotion.applied"), PromotionStatus::Applied)
            .changed("target_version", Json::Null, *version)
            .changed("scheduled", Json::Null, *scheduled),
        E::PromotionChecked {
            checks, verified, ..
        } => {
            let action = match verified {
                true => "promotion.verified",
                false => "promotion.check_failed",
            };
            let outcomes = checks
                .iter()
                .map(|it| (it.name.clone(), it.outcome.name().into()));
            of(action).changed("checks", Json::Null, Json::Object(outcomes.collect()))
        }
        E::PromotionRolledBack {
            version, forced, ..
        } => status(of("promotion.rolled_back"), PromotionStatus::RolledBack)
            .changed("target_version", Json::Null, *version)
            .changed("forced", Json::Null, *forced),
    }
}

fn reviewed(description: Description, review: &Review) -> Description {
    description
        .changed("target_version", Json::Null, review.target_version)
        .changed("bundle_digest", Json::Null, json!(review.bundle_digest))
        .changed("plan", Json::Null, json!(review.plan.digest))
}

/// About what joins a crew to the world: each of its fields.
fn describe_connection(event: &Recorded, done: &str) -> Description {
    let Some(happened) = of_connection(event) else {
        return of_crew(event, done);
    };
    let kind = happened.connection().kind().name();
    let target = (kind, happened.connection().to_string());
    let mut description = Description::of(event, &format!("{kind}.{done}"), target);
    let (from, to) = (happened.from(), happened.to());
    let value = |connection: Option<&Connection>, path| {
        let fields = connection.map(Connection::fields).unwrap_or_default();
        let found = fields.into_iter().find(|(name, _)| *name == path);
        found.map_or(Json::Null, |(_, value)| value)
    };
    let paths = to.or(from).map(Connection::fields).unwrap_or_default();
    for (path, _) in paths {
        let (before, after) = (value(from, path), value(to, path));
        if before != after {
            let words: Vec<_> = [&before, &after]
                .into_iter()
                .filter_map(Json::as_str)
                .collect();
            description = description.named(&words);
            description = description.changed(path, before, after);
        }
    }
    description
}

fn profile_changed(
    mut description: Description,
    from: &CrewProfile,
    to: &CrewProfile,
) -> Description {
    if from.name != to.name {
        let before = Some(&from.name).filter(|name| !name.is_empty());
        description = description.changed("name", json!(before), to.name.as_str());
    }
    if from.client != to.client {
        description = description.changed("client", json!(from.client), json!(to.client));
    }
    let words = [Some(&from.name), from.client.as_ref(), to.client.as_ref()];
    let words: Vec<_> = words.into_iter().flatten().map(String::as_str).collect();
    description.named(&words).called(&to.name)
}

/// An event about a key, found by the key's name and environment.
fn of_key(
    event: &Recorded,
    action: &str,
    key: KeyId,
    environment: Option<Environment>,
    name: &str,
) -> Description {
    let target = ("api_key", key.to_string());
    Description {
        environment,
        ..Description::of(event, action, target).called(name)
    }
}

fn key_created(event: &Recorded, created: &KeyCreated) -> Description {
    let mut description = of_key(
        event,
        "api_key.created",
        created.key,
        created.environment,
        &created.terms.name,
    )
    .changed("name", Json::Null, created.terms.name.as_str());
    if let Some(environment) = created.environment {
        description = description.changed("environment", Json::Null, environment.name());
    }
    if let Some(predecessor) = created.rotated_from {
        description = description.changed("rotated_from", Json::Null, predecessor.to_string());
    }
    terms_changed(description, &KeyTerms::default(), &created.terms)
}

fn key_updated(event: &Recorded, updated: &KeyUpdated) -> Description {
    let (from, to) = (&updated.from, &updated.to);
    let mut description = of_key(
        event,
        "api_key.updated",
        updated.key,
        updated.environment,
        &to.name,
    );
    if from.name != to.name {
        description = description
            .changed("name", from.name.as_str(), to.name.as_str())
            .named(&[&from.name]);
    }
    terms_changed(description, from, to)
}

/// What differs between terms, but for the name.
fn terms_changed(mut description: Description, from: &KeyTerms, to: &KeyTerms) -> Description {
    let end = |terms: &KeyTerms| terms.expires_at.map(Timestamp::to_rfc3339);
    if from.scopes != to.scopes {
        description = description.changed("scopes", json!(from.scopes), json!(to.scopes));
    }
    if from.crews != to.crews {
        description = description.changed("crews", json!(from.crews), json!(to.crews));
    }
    if from.allowed_cidrs != to.allowed_cidrs {
        let (from, to) = (json!(from.allowed_cidrs), json!(to.allowed_cidrs));
        description = description.changed("allowed_cidrs", from, to);
    }
    if from.expires_at != to.expires_at {
        description = description.changed("expires_at", json!(end(from)), json!(end(to)));
    }
    description
}

fn key_rotated(event: &Recorded, rotated: &KeyRotated) -> Description {
    let KeyRotated {
        key,
        name,
        environment,
        ..
    } = rotated;
    of_key(event, "api_key.rotated", *key, *environment, name)
        .changed("successor", Json::Null, rotated.successor.to_string())
        .changed("expires_at", Json::Null, rotated.expires_at.to_rfc3339())
}

fn key_revoked(event: &Recorded, revoked: &KeyRevoked) -> Description {
    let KeyRevoked {
        key,
        name,
        environment,
        ..
    } = revoked;
    of_key(event, "api_key.revoked", *key, *environment, name).changed(
        "status",
        "active",
        KeyEnd::Revoked.name(),
    )
}

fn key_expired(event: &Recorded, expired: &KeyExpired) -> Description {
    let KeyExpired {
        key,
        name,
        environment,
        ..
    } = expired;
    of_key(event, "api_key.expired", *key, *environment, name).changed(
        "status",
        "active",
        KeyEnd::Expired.name(),
    )
}

/// What happened to a key of the installation's operators.
fn describe_installation(event: &Recorded, happened: &InstallationEvent) -> Description {
    let of = |action, key: &KeyId, name: &str| {
        let target = ("operator_key", key.to_string());
        Description::of(event, action, target).called(name)
    };
    match happened {
        InstallationEvent::OperatorKeyCreated {
            key,
            name,
            expires_at,
            ..
        } => of("operator_key.created", key, name)
            .changed("name", Json::Null, name.as_str())
            .changed(
                "expires_at",
                Json::Null,
                json!(expires_at.map(Timestamp::to_rfc3339)),
            ),
        InstallationEvent::OperatorKeyRevoked { key, name } => of(
            "operator_key.revoked",
            key,
            name,
        )
        .changed("status", "active", KeyEnd::Revoked.name()),
    }
}

fn describe_attempt(event: &Recorded, happened: &AttemptsEvent) -> Description {
    match happened {
        AttemptsEvent::AttemptRefused { .. } => describe_refusal(event, happened),
        AttemptsEvent::AuditExported {
            actor,
            target,
            format,
            filters,
            ..
        } => {
            let target = (kind_of(target), target.clone());
            let mut description = Description::of(event, "audit.exported", target)
                .changed("format", Json::Null, format.as_str())
                .changed("filters", Json::Null, filters.clone());
            description.actor = *actor;
            description
        }
        AttemptsEvent::ReportRead {
            actor,
            action,
            target,
            question,
            ..
        } => {
            let mut description = Description::of(event, action, (kind_of(target), target.clone()));
            description.actor = *actor;
            description.environment = question.environment;
            if let Some(from) = question.from {
                description = description.changed("from", Json::Null, from);
            }
            if let Some(principal) = &question.principal {
                let words = [principal.as_str()];
                description = description
                    .changed("principal", Json::Null, principal.as_str())
                    .named(&words);
            }
            description.changed("position", Json::Null, question.position)
        }
    }
}

fn describe_refusal(event: &Recorded, happened: &AttemptsEvent) -> Description {
    let AttemptsEvent::AttemptRefused {
        actor,
        action,
        target,
        crew,
        environment,
        code,
        count,
        ..
    } = happened
    else {
        return describe_attempt(event, happened);
    };
    let mut description = Description::of(event, action, (kind_of(target), target.clone()))
        .changed("count", Json::Null, *count)
        .changed("code", Json::Null, code.as_str());
    description.actor = *actor;
    description.outcome = AuditOutcome::Denied;
    description.crew = *crew;
    description.environment = *environment;
    description
}

/// The kind of thing that an id names, from its prefix.
fn kind_of(id: &str) -> &'static str {
    match id.split_once('_').map_or("", |(prefix, _)| prefix) {
        "org" => "organization",
        "ws" => "workspace",
        "usr" => "user",
        "inv" => "invitation",
        "ses" => "session",
        "key" => "api_key",
        "crw" => "crew",
        "agt" => "agent",
        "pth" => "pathway",
        "num" => "phone_number",
        "whk" => "webhook_endpoint",
        "int" => "integration",
        "chn" => "channel",
        "pro" => "promotion",
        "rev" => "access_review",
        _ => "resource",
    }
}
