//! Entries as events of the Open Cybersecurity Schema Framework (OCSF), which security tools take
//! in: which class each is of, and where its parts go. `docs/ocsf.md` is printed from it.
//!
//! Every event of the log has its [`Activity`] in [`activity_of`]: a new one does not compile
//! before it has. What OCSF has no place for is kept in `unmapped`, so that nothing is lost.
//!
//! Never says more than the entry does.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value as Json, json};

use super::{AuditEntry, EntryActor, EntryTarget};
use crate::{
    domain::{
        attempts::AttemptsEvent, crew::CrewEvent, event::Event, installation::InstallationEvent,
        organization::OrganizationEvent, promotion::PromotionEvent, review::ReviewEvent,
        user::UserEvent, workspace::WorkspaceEvent,
    },
    projections::audit::AuditOutcome,
};

/// The version of the schema that events are of.
pub const VERSION: &str = "1.1.0";
const PRODUCT: &str = "Crewlog";

/// A class of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// What happens to a person's account.
    AccountChange,
    /// Sessions.
    Authentication,
    /// Everything that is made, changed and removed.
    EntityManagement,
    /// Who may what.
    UserAccess,
    /// What was refused, and what was taken out of the log.
    ApiActivity,
}

impl Class {
    /// `class_uid`; the category is its thousands.
    pub fn uid(self) -> u32 {
        match self {
            Self::AccountChange => 3001,
            Self::Authentication => 3002,
            Self::EntityManagement => 3004,
            Self::UserAccess => 3005,
            Self::ApiActivity => 6003,
        }
    }

    /// `class_name`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AccountChange => "Account Change",
            Self::Authentication => "Authentication",
            Self::EntityManagement => "Entity Management",
            Self::UserAccess => "User Access Management",
            Self::ApiActivity => "API Activity",
        }
    }

    fn category(self) -> (u32, &'static str) {
        match self {
            Self::AccountChange
            | Self::Authentication
            | Self::EntityManagement
            | Self::UserAccess => (3, "Identity & Access Management"),
            Self::ApiActivity => (6, "Application Activity"),
        }
    }
}

/// What happened, as OCSF knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    AccountCreate,
    PasswordChange,
    Logon,
    Logoff,
    EntityCreate,
    EntityUpdate,
    EntityDelete,
    AssignPrivileges,
    RevokePrivileges,
    ApiRead,
    ApiOther,
}

impl Activity {
    /// Its class.
    pub fn class(self) -> Class {
        match self {
            Self::AccountCreate | Self::PasswordChange => Class::AccountChange,
            Self::Logon | Self::Logoff => Class::Authentication,
            Self::EntityCreate | Self::EntityUpdate | Self::EntityDelete => Class::EntityManagement,
            Self::AssignPrivileges | Self::RevokePrivileges => Class::UserAccess,
            Self::ApiRead | Self::ApiOther => Class::ApiActivity,
        }
    }

    /// `activity_id`, and `activity_name`.
    pub fn id(self) -> (u32, &'static str) {
        match self {
            Self::AccountCreate => (1, "Create"),
            Self::PasswordChange => (3, "Password Change"),
            Self::Logon => (1, "Logon"),
            Self::Logoff => (2, "Logoff"),
            Self::EntityCreate => (1, "Create"),
            Self::EntityUpdate => (3, "Update"),
            Self::EntityDelete => (4, "Delete"),
            Self::AssignPrivileges => (1, "Assign Privileges"),
            Self::RevokePrivileges => (2, "Revoke Privileges"),
            Self::ApiRead => (2, "Read"),
            Self::ApiOther => (99, "Other"),
        }
    }

    /// `type_uid`.
    pub fn type_uid(self) -> u32 {
        self.class().uid() * 100 + self.id().0
    }
}

/// What an event of the log is to OCSF.
pub fn activity_of(event: &Event) -> Activity {
    match event {
        Event::User(happened) => of_user(happened),
        Event::Organization(happened) => of_organization(happened),
        Event::Workspace(happened) => of_workspace(happened),
        Event::Crew(happened) => of_crew(happened),
        Event::Promotion(happened) => of_promotion(happened),
        Event::Review(happened) => of_review(happened),
        Event::Installation(happened) => match happened {
            InstallationEvent::OperatorKeyCreated { .. } => Activity::EntityCreate,
            InstallationEvent::OperatorKeyRevoked { .. } => Activity::EntityDelete,
        },
        Event::Attempts(happened) => match happened {
            AttemptsEvent::AttemptRefused { .. } => Activity::ApiOther,
            AttemptsEvent::AuditExported { .. } | AttemptsEvent::ReportRead { .. } => {
                Activity::ApiRead
            }
        },
    }
}

fn of_user(happened: &UserEvent) -> Activity {
    match happened {
        UserEvent::UserSignedUp { .. } => Activity::AccountCreate,
        UserEvent::UserRenamed { .. }
        | UserEvent::UserEmailChanged { .. }
        | UserEvent::UserProfileShared { .. } => Activity::EntityUpdate,
        UserEvent::SessionStarted { .. } | UserEvent::SignInFailed { .. } => Activity::Logon,
        UserEvent::SessionRevoked { .. } => Activity::Logoff,
        UserEvent::PasswordChanged { .. } => Activity::PasswordChange,
        UserEvent::UserErased { .. } => Activity::EntityDelete,
    }
}

fn of_organization(happened: &OrganizationEvent) -> Activity {
    use OrganizationEvent as E;
    match happened {
        E::OrganizationCreated { .. } | E::OrganizationKeyCreated(_) => Activity::EntityCreate,
        E::OrganizationRenamed { .. }
        | E::PersonRecorded { .. }
        | E::WorkspaceHoldBegan { .. }
        | E::WorkspaceHoldEnded { .. }
        | E::PersonErasureScheduled { .. }
        | E::OrganizationSuspended { .. }
        | E::OrganizationResumed { .. }
        | E::OrganizationKeyUpdated(_)
        | E::OrganizationKeyRotated(_) => Activity::EntityUpdate,
        E::OrganizationKeyRevoked(_) | E::OrganizationKeyExpired(_) | E::PersonErased { .. } => {
            Activity::EntityDelete
        }
        E::OrganizationMemberAdded { .. } | E::OrganizationMemberRoleChanged { .. } => {
            Activity::AssignPrivileges
        }
        E::OrganizationMemberRemoved { .. } => Activity::RevokePrivileges,
    }
}

fn of_workspace(happened: &WorkspaceEvent) -> Activity {
    use WorkspaceEvent as E;
    match happened {
        E::WorkspaceCreated { .. }
        | E::MemberInvited { .. }
        | E::ApiKeyCreated(_)
        | E::CrewListed { .. } => Activity::EntityCreate,
        E::WorkspaceRenamed { .. }
        | E::PlanSelected { .. }
        | E::InvitationResent { .. }
        | E::InvitationAccepted { .. }
        | E::ApiKeyUpdated(_)
        | E::ApiKeyRotated(_)
        | E::OwnershipTransferred { .. }
        | E::WorkspaceRecovered { .. }
        | E::PolicyChanged { .. }
        | E::LegalHoldPlaced { .. }
        | E::LegalHoldLifted { .. }
        | E::LimitsChanged { .. }
        | E::UsageMonthClosed { .. } => Activity::EntityUpdate,
        E::InvitationDeclined { .. }
        | E::InvitationRevoked { .. }
        | E::InvitationExpired { .. }
        | E::ApiKeyRevoked(_)
        | E::ApiKeyExpired(_)
        | E::WorkspaceDeleted { .. }
        | E::CrewUnlisted { .. } => Activity::EntityDelete,
        E::MemberJoined { .. }
        | E::MemberRoleChanged { .. }
        | E::MembershipLimited { .. }
        | E::MembershipLimitLifted { .. }
        | E::AuditorGranted { .. } => Activity::AssignPrivileges,
        E::MemberRemoved { .. }
        | E::MemberLeft { .. }
        | E::MembershipLimitReached { .. }
        | E::AuditorRevoked { .. }
        | E::AuditorExpired { .. } => Activity::RevokePrivileges,
    }
}

fn of_crew(happened: &CrewEvent) -> Activity {
    use CrewEvent as E;
    match happened {
        E::CrewCreated { .. }
        | E::AgentCreated(_)
        | E::PathwayCreated(_)
        | E::ConnectionAdded(_)
        | E::KnowledgeBaseCreated(_)
        | E::DocumentCreated(_) => Activity::EntityCreate,
        E::CrewUpdated { .. }
        | E::AgentUpdated(_)
        | E::PathwayUpdated(_)
        | E::ConnectionChanged(_)
        | E::KnowledgeBaseUpdated(_)
        | E::DocumentUpdated(_)
        | E::CredentialSet(_)
        | E::CredentialRemoved(_)
        | E::CrewPromoted(_)
        | E::CrewRolledBack(_) => Activity::EntityUpdate,
        E::CrewArchived {}
        | E::AgentRemoved(_)
        | E::PathwayRemoved(_)
        | E::ConnectionRemoved(_)
        | E::KnowledgeBaseRemoved(_)
        | E::DocumentRemoved(_) => Activity::EntityDelete,
    }
}

fn of_promotion(happened: &PromotionEvent) -> Activity {
    use PromotionEvent as E;
    match happened {
        E::PromotionProposed { .. } => Activity::EntityCreate,
        E::PromotionRefreshed { .. }
        | E::PromotionApproved { .. }
        | E::PromotionScheduled { .. }
        | E::PromotionScheduleEnded { .. }
        | E::PromotionApplied { .. }
        | E::PromotionChecked { .. }
        | E::PromotionRolledBack { .. } => Activity::EntityUpdate,
        E::PromotionRejected { .. } | E::PromotionCancelled { .. } => Activity::EntityDelete,
    }
}

fn of_review(happened: &ReviewEvent) -> Activity {
    use ReviewEvent as E;
    match happened {
        E::ReviewOpened { .. } => Activity::EntityCreate,
        E::ReviewReminded { .. }
        | E::AccessDecided { .. }
        | E::ReviewClosing { .. }
        | E::AccessSettled { .. }
        | E::ReviewReopened { .. }
        | E::ReviewClosed { .. }
        | E::ReviewRecurred { .. }
        | E::ReviewRecurrenceStopped { .. } => Activity::EntityUpdate,
    }
}

/// An entry as an event of OCSF.
pub(super) fn event(entry: &AuditEntry) -> Json {
    let activity = entry.activity;
    let (class, (activity_id, activity_name)) = (activity.class(), activity.id());
    let mut event = classified(class, activity_id, activity_name);
    let (severity_id, severity) = severity(entry);
    let (status_id, status) = match entry.outcome {
        AuditOutcome::Ok => (1, "Success"),
        AuditOutcome::Denied => (2, "Failure"),
    };
    let more = json!({
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "time": entry.recorded_at.0.div_euclid(1_000),
        "message": entry.action,
        "actor": {"user": of_actor(&entry.actor)},
        "unmapped": unmapped(entry),
    });
    extend(&mut event, more);
    event["metadata"] = metadata();
    extend(
        &mut event["metadata"],
        json!({
            "uid": entry.id,
            "sequence": entry.position,
            "event_code": entry.action,
            "log_name": "audit",
        }),
    );
    if let Some(id) = &entry.request_id {
        event["metadata"]["correlation_uid"] = json!(id);
    }
    if let Some(agent) = &entry.user_agent {
        event["http_request"] = json!({"user_agent": agent});
    }
    match (&entry.ip, class) {
        (Some(ip), _) => event["src_endpoint"] = json!({"ip": ip}),
        // Where it is required.
        (None, Class::ApiActivity) => event["src_endpoint"] = json!({"name": "unknown"}),
        (None, _) => {}
    }
    extend(&mut event, of_class(class, entry));
    event
}

/// The last event of an export: what signs it. It is of no class, as OCSF has none for it.
pub(super) fn statement(statement: &str, checkpoint: &str, time_ms: i64) -> Json {
    json!({
        "activity_id": 99,
        "activity_name": "Other",
        "category_uid": 0,
        "category_name": "Uncategorized",
        "class_uid": 0,
        "class_name": "Base Event",
        "type_uid": 99,
        "severity_id": 1,
        "severity": "Informational",
        "time": time_ms,
        "message": "the end of an export, signed",
        "metadata": metadata(),
        "unmapped": {"statement": statement, "checkpoint": checkpoint},
    })
}

fn classified(class: Class, activity_id: u32, activity_name: &str) -> Json {
    let (category_uid, category_name) = class.category();
    json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class.uid(),
        "class_name": class.name(),
        "type_uid": class.uid() * 100 + activity_id,
        "type_name": format!("{}: {activity_name}", class.name()),
    })
}

fn metadata() -> Json {
    json!({
        "version": VERSION,
        "product": {
            "name": PRODUCT,
            "vendor_name": PRODUCT,
            "version": env!("CARGO_PKG_VERSION"),
        },
    })
}

fn severity(entry: &AuditEntry) -> (u32, &'static str) {
    // What nobody in the organization has a say in.
    let by_operator = entry.actor.kind == "operator_key";
    match (entry.outcome, entry.break_glass || by_operator) {
        (_, true) => (3, "Medium"),
        (AuditOutcome::Denied, false) => (2, "Low"),
        (AuditOutcome::Ok, false) => (1, "Informational"),
    }
}

/// What is particular to a class.
fn of_class(class: Class, entry: &AuditEntry) -> Json {
    let resource = of_thing(&entry.target);
    match class {
        Class::AccountChange => json!({"user": of_target(&entry.target)}),
        Class::Authentication => json!({
            "user": of_authenticated(entry),
            "service": {"name": PRODUCT},
        }),
        Class::EntityManagement => {
            let mut of_entity = json!({"entity": resource});
            if let Some(reason) = &entry.reason {
                of_entity["comment"] = json!(reason);
            }
            of_entity
        }
        Class::UserAccess => json!({
            "user": of_target(&entry.target),
            "privileges": privileges(entry),
            "resource": of_scope(entry),
        }),
        Class::ApiActivity => json!({
            "api": {"operation": entry.action, "service": {"name": PRODUCT}},
            "resources": [resource],
        }),
    }
}

fn of_actor(actor: &EntryActor) -> Json {
    let (type_id, kind) = match actor.kind {
        "user" => (1, "User"),
        "system" => (3, "System"),
        _ => (99, "Other"),
    };
    named(
        json!({"type_id": type_id, "type": kind}),
        actor.id.as_deref().or(Some(actor.kind)),
        actor.name.as_deref(),
    )
}

fn of_target(target: &EntryTarget) -> Json {
    let kind = json!({"type_id": 1, "type": "User"});
    named(kind, Some(&target.id), target.name.as_deref())
}

/// Whose session it is about: who signs in is who acts; where it was refused, whom it aimed at.
fn of_authenticated(entry: &AuditEntry) -> Json {
    match entry.target.kind {
        "user" => of_target(&entry.target),
        _ => of_actor(&entry.actor),
    }
}

fn of_thing(target: &EntryTarget) -> Json {
    let kind = json!({"type": target.kind});
    named(kind, Some(&target.id), target.name.as_deref())
}

fn of_scope(entry: &AuditEntry) -> Json {
    match (&entry.workspace, entry.organization) {
        (Some(id), _) => json!({"type": "workspace", "uid": id}),
        (None, Some(id)) => json!({"type": "organization", "uid": id}),
        (None, None) => json!({"type": "account", "uid": entry.target.id}),
    }
}

/// The role that was given, or the one that is gone.
fn privileges(entry: &AuditEntry) -> Json {
    let role = entry.changes.iter().find(|change| change.path == "role");
    let role = role.and_then(|change| change.to.as_str().or(change.from.as_str()));
    match (role, entry.action.split_once('.')) {
        (Some(role), _) => json!([role]),
        (None, Some(("auditor", _))) => json!(["auditor"]),
        (None, _) => json!([]),
    }
}

fn named(mut of: Json, uid: Option<&str>, name: Option<&str>) -> Json {
    for (place, value) in [("uid", uid), ("name", name)] {
        if let Some(value) = value {
            of[place] = json!(value);
        }
    }
    of
}

/// What there is no place for.
fn unmapped(entry: &AuditEntry) -> Json {
    let changes = entry
        .changes
        .iter()
        .map(|change| json!({"path": change.path, "from": change.from, "to": change.to}));
    let leaf = BASE64_STANDARD.encode(entry.leaf);
    let all = json!({
        "recorded_at": entry.recorded_at.to_rfc3339(),
        "target": of_thing(&entry.target),
        "actor_type": entry.actor.kind,
        "organization": entry.organization,
        "workspace": entry.workspace,
        "crew": entry.crew,
        "environment": entry.environment,
        "break_glass": entry.break_glass,
        "changes": changes.collect::<Vec<_>>(),
        "reason": entry.reason,
        "leaf": leaf,
    });
    match all {
        Json::Object(members) => {
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            Json::Object(there.collect())
        }
        other => other,
    }
}

fn extend(into: &mut Json, more: Json) {
    if let (Json::Object(into), Json::Object(more)) = (into, more) {
        let more: Map<String, Json> = more;
        into.extend(more);
    }
}
