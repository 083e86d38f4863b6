//! What makes access worth a look, and what is recommended for it.

use chrono::TimeDelta;

use super::Decision;
use crate::domain::{Timestamp, access::Through, authority::Role};

/// How long access may lie unused.
const UNUSED_AFTER: TimeDelta = TimeDelta::days(90);
/// How young access may be that was never used.
const NEVER_USED_AFTER: TimeDelta = TimeDelta::days(7);

/// What is known of how access was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    pub last_used_at: Option<Timestamp>,
    /// The least role that allows all that was done; none where nothing was.
    pub role_used: Option<Role>,
    pub broke_glass: bool,
    /// Of a key: it is older than the workspace's policy wants.
    pub is_past_rotation: bool,
    /// Of a key: who made it is no member any more.
    pub creator_is_gone: bool,
}

/// One thing that makes access worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    NeverUsed,
    UnusedFor90Days,
    BrokeGlass,
    PastRotation,
    CreatorIsGone,
    /// Less would have been enough for what was done.
    RoleAboveUse(Role),
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
        | Finding::CreatorIsGone => None,
    });
    match (findings, lower) {
        ([], _) => Some(Decision::Keep),
        ([_], Some(role)) => Some(Decision::Change { role }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600 * 1_000_000;

    fn told(through: Through, since_days: i64, evidence: Evidence) -> Vec<&'static str> {
        let found = findings(through, Timestamp((100 - since_days) * DAY), &evidence, Timestamp(100 * DAY));
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
        assert_eq!(told(Through::ApiKey, 7, Evidence::default()), ["never_used"]);
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
        ] {
            assert_eq!(recommended(found), decision, "{found:?}");
        }
    }
}
