//! What makes access worth a look, and what is recommended for it.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::Decision;
use crate::domain::{Timestamp, access::Through, authority::Role};

/// How long what somebody did says which role they need.
pub const EVIDENCE_COUNTS_FOR: TimeDelta = TimeDelta::days(90);

/// How long access may lie unused.
const UNUSED_AFTER: TimeDelta = TimeDelta::days(90);
/// How young access may be that was never used.
const NEVER_USED_AFTER: TimeDelta = TimeDelta::days(7);

/// What is known of how access was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    pub last_used_at: Option<Timestamp>,
    /// The least role that allows all that was done lately; none where nothing was.
    pub role_used: Option<Role>,
    pub broke_glass: bool,
    /// Of a key: it is older than the workspace's policy wants.
    pub is_past_rotation: bool,
    /// Of a key: who made it is no member any more.
    pub creator_is_gone: bool,
    /// Of a member: without them the workspace would have no owner.
    pub is_last_owner: bool,
}

/// One thing that makes access worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    NeverUsed,
    #[serde(rename = "unused_90_days")]
    UnusedFor90Days,
    BrokeGlass,
    PastRotation,
    CreatorIsGone,
    /// Less would have been enough for what was done.
    RoleAboveUse(Role),
    /// It cannot end.
    LastOwner,
}

impl Finding {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::NeverUsed => "never_used",
            Self::UnusedFor90Days => "unused_90_days",
            Self::BrokeGlass => "broke_glass",
            Self::PastRotation => "past_rotation",
            Self::CreatorIsGone => "creator_is_gone",
            Self::RoleAboveUse(_) => "role_above_use",
            Self::LastOwner => "last_owner",
        }
    }

    /// The same for a person to read.
    pub fn words(self) -> String {
        match self {
            Self::NeverUsed => "never used since it was given".to_owned(),
            Self::UnusedFor90Days => "not used for 90 days".to_owned(),
            Self::BrokeGlass => "broke glass in production".to_owned(),
            Self::PastRotation => "older than the policy has keys rotated".to_owned(),
            Self::CreatorIsGone => "nobody who made or changed it is a member any more".to_owned(),
            Self::RoleAboveUse(role) => {
                format!(
                    "the role {} allows all that was done in 90 days",
                    role.name()
                )
            }
            Self::LastOwner => "the last owner, whom the workspace cannot be without".to_owned(),
        }
    }
}

/// Everything that makes access worth a look, of access that counts since `since`, at `now`.
pub fn findings(
    through: Through,
    since: Timestamp,
    evidence: &Evidence,
    now: Timestamp,
) -> Vec<Finding> {
    let mut found = Vec::new();
    match evidence.last_used_at {
        None if since.plus(NEVER_USED_AFTER) <= now => found.push(Finding::NeverUsed),
        Some(used) if used.plus(UNUSED_AFTER) <= now => found.push(Finding::UnusedFor90Days),
        None | Some(_) => {}
    }
    if evidence.broke_glass {
        found.push(Finding::BrokeGlass);
    }
    if evidence.is_past_rotation {
        found.push(Finding::PastRotation);
    }
    if evidence.creator_is_gone {
        found.push(Finding::CreatorIsGone);
    }
    if evidence.is_last_owner {
        found.push(Finding::LastOwner);
    }
    // What was given a moment ago had no time to be used.
    let is_settled_in = since.plus(UNUSED_AFTER) <= now;
    if let Through::Membership(role) = through
        && is_settled_in
        && let Some(used) = evidence.role_used.filter(|used| *used < role)
    {
        found.push(Finding::RoleAboveUse(used));
    }
    found
}

/// What is recommended: none where somebody has to look, as nothing follows by itself.
pub fn recommended(findings: &[Finding]) -> Option<Decision> {
    if findings.contains(&Finding::LastOwner) {
        return Some(Decision::Keep);
    }
    let unused = [Finding::NeverUsed, Finding::UnusedFor90Days];
    if findings.iter().any(|finding| unused.contains(finding)) {
        return Some(Decision::Revoke);
    }
    let lower = findings.iter().find_map(|finding| match finding {
        Finding::RoleAboveUse(role) => Some(*role),
        Finding::NeverUsed
        | Finding::UnusedFor90Days
        | Finding::BrokeGlass
        | Finding::PastRotation
        | Finding::CreatorIsGone
        | Finding::LastOwner => None,
    });
    match (findings, lower) {
        ([], _) => Some(Decision::Keep),
        ([_], Some(role)) => Some(Decision::Change { role }),
        _ => None,
    }
}

/// The least role that an action of the audit log takes, by the thing that it was done to.
pub fn needed_for(action: &str) -> Role {
    let (thing, done) = action.split_once('.').unwrap_or((action, ""));
    match (thing, done) {
        // What anybody does to come and go.
        ("member", "joined" | "left") | ("invitation", _) | ("session" | "user", _) => Role::Viewer,
        ("workspace" | "plan" | "policy" | "limits" | "ownership" | "statement", _) => Role::Owner,
        ("crew", "created" | "archived" | "listed" | "unlisted" | "promoted" | "rolled_back")
        | ("promotion", "approved" | "rejected" | "applied" | "scheduled" | "rolled_back") => {
            Role::Admin
        }
        ("member" | "api_key" | "auditor" | "access" | "access_review" | "audit", _)
        | ("phone_number" | "channel" | "integration" | "webhook_endpoint", _) => Role::Admin,
        (
            "crew" | "agent" | "pathway" | "knowledge_base" | "document" | "promotion" | "activity",
            _,
        ) => Role::Member,
        _ => Role::Viewer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000_000;

    fn told(through: Through, since_days: i64, evidence: Evidence) -> Vec<&'static str> {
        let found = findings(
            through,
            Timestamp((100 - since_days) * DAY),
            &evidence,
            Timestamp(100 * DAY),
        );
        found.into_iter().map(Finding::name).collect()
    }

    fn used(days_ago: i64) -> Evidence {
        Evidence {
            last_used_at: Some(Timestamp((100 - days_ago) * DAY)),
            ..Evidence::default()
        }
    }

    #[test]
    fn what_is_not_used_is_found() {
        assert_eq!(
            told(Through::ApiKey, 7, Evidence::default()),
            ["never_used"]
        );
        assert!(told(Through::ApiKey, 6, Evidence::default()).is_empty());
        assert_eq!(told(Through::ApiKey, 99, used(90)), ["unused_90_days"]);
        assert!(told(Through::ApiKey, 99, used(89)).is_empty());
    }

    #[test]
    fn a_role_that_is_higher_than_its_use_is_found_when_it_had_time() {
        let evidence = Evidence {
            role_used: Some(Role::Member),
            ..used(1)
        };
        let admin = Through::Membership(Role::Admin);
        assert_eq!(told(admin, 90, evidence), ["role_above_use"]);
        assert!(told(admin, 89, evidence).is_empty());
        assert!(told(Through::Membership(Role::Member), 90, evidence).is_empty());
    }

    #[test]
    fn only_what_follows_by_itself_is_recommended() {
        use Finding as F;
        let change = Decision::Change { role: Role::Viewer };
        for (found, decision) in [
            (&[][..], Some(Decision::Keep)),
            (&[F::NeverUsed, F::PastRotation], Some(Decision::Revoke)),
            (&[F::UnusedFor90Days], Some(Decision::Revoke)),
            (&[F::RoleAboveUse(Role::Viewer)], Some(change)),
            (&[F::BrokeGlass, F::RoleAboveUse(Role::Viewer)], None),
            (&[F::PastRotation], None),
            (&[F::CreatorIsGone], None),
            (&[F::NeverUsed, F::LastOwner], Some(Decision::Keep)),
        ] {
            assert_eq!(recommended(found), decision, "{found:?}");
        }
    }

    #[test]
    fn an_action_takes_the_least_role_that_may() {
        for (action, role) in [
            ("policy.changed", Role::Owner),
            ("member.invited", Role::Admin),
            ("member.joined", Role::Viewer),
            ("promotion.applied", Role::Admin),
            ("promotion.proposed", Role::Member),
            ("agent.updated", Role::Member),
            ("crew.created", Role::Admin),
            ("session.started", Role::Viewer),
        ] {
            assert_eq!(needed_for(action), role, "{action}");
        }
    }
}
