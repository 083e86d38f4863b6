//! Why a command was refused. Knows nothing of HTTP: `api::problem` maps each to a status.

use super::{
    api_keys::KeyScope,
    authority::{OrganizationPermission, OrganizationRole, Permission, Role},
    contents::slots::Slot,
    crew::{DOCUMENTS_MAX, KNOWLEDGE_BASE_BYTES_MAX},
    ids::{CrewId, PrincipalId},
    plans::Excess,
    time::Timestamp,
    user::GONE_AFTER,
};

/// A rule that said no. A refused command has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not exist, or the caller may not know that it does.
    #[error("there is no such {what}, or you may not see it")]
    NotFound {
        /// What was looked for: `workspace`, `invitation`, …
        what: &'static str,
        /// Whether it exists, and this is said to somebody with no right to know.
        hidden: bool,
    },
    /// The session is over, or was never there.
    #[error("the session has ended; sign in again")]
    SessionEnded,
    /// A member without the permission.
    #[error("a {} may not do this; it takes the role {}", role.name(), names(permission.roles()))]
    NotPermitted { permission: Permission, role: Role },
    /// A member of the organization without the permission.
    #[error("the organization role {} does not allow this", role.name())]
    NotPermittedInOrganization {
        permission: OrganizationPermission,
        role: OrganizationRole,
    },
    /// Giving, taking or touching a role above one's own.
    #[error("the role {} is above your own, {}", role.name(), own.name())]
    RoleAboveOwn { role: Role, own: Role },
    /// The workspace would be left without an owner.
    #[error("this is the last owner of the workspace; make somebody else an owner first")]
    LastOwner,
    /// What somebody who erases their account would leave without an owner: all of it.
    #[error(
        "{} would be left without an owner; hand them over, or delete them, first",
        few(owned)
    )]
    LastOwnerOf {
        /// Ids of workspaces and organizations.
        owned: Vec<String>,
    },
    /// More than one unit can leave.
    #[error(
        "an account with at most {most} memberships, grants and roles is erased at once, and there are {places}; leave some first"
    )]
    TooManyMemberships { places: usize, most: usize },
    /// What is to be destroyed may be evidence.
    #[error("there is a legal hold: nothing of this is destroyed until it is lifted")]
    UnderLegalHold,
    /// The organization is suspended, and this is not among what goes on.
    #[error(
        "the organization is suspended: it is read and audited, and access is taken away, and \
         nothing else goes on; turn to the operator of this installation{}",
        to(contact.as_deref())
    )]
    OrganizationSuspended {
        /// Where the operator is to be found, where they have said so.
        contact: Option<String>,
    },
    /// Somebody who owns the workspace may still be there.
    #[error(
        "an owner of the workspace has a session, or has signed in within {} days: ask them",
        GONE_AFTER.num_days()
    )]
    OwnerIsThere,
    /// What operators of the installation alone do.
    #[error("only an operator of the installation may do this, with a key of theirs")]
    NotOperator,
    /// A key of an operator where it may nothing.
    #[error("an operator's key reads and changes nothing of anybody's")]
    NotForOperators,
    /// The person is a member already.
    #[error("this person is already a member of the workspace")]
    AlreadyMember,
    /// The id was used before.
    #[error("this {what} exists already")]
    AlreadyExists { what: &'static str },
    /// The invitation is not pending any more.
    #[error("the invitation is {status}")]
    InvitationNotPending {
        /// `accepted`, `declined`, `revoked` or `expired`.
        status: &'static str,
    },
    /// The invitation's time has not run out yet.
    #[error("the invitation lives until {}", expires_at.to_rfc3339())]
    InvitationStillPending { expires_at: Timestamp },
    /// There is a newer token.
    #[error("this token was replaced by a newer one; use the latest e-mail")]
    InvitationTokenReplaced,
    /// Somebody else's invitation.
    #[error("this invitation was sent to another e-mail address; sign in with that one")]
    InvitationForAnother,
    /// Who invited may no longer give that role.
    #[error("whoever sent this invitation may no longer give the role {}", role.name())]
    InvitationExceedsInviter { role: Role },
    /// Too many pending invitations.
    #[error("the workspace has {limit} pending invitations, which is the most there may be")]
    TooManyInvitations { limit: usize },
    /// A claim that somebody else holds.
    #[error(
        "a {what} has one owner in the whole installation, and this one is in use{}",
        by(*owner)
    )]
    AlreadyClaimed {
        what: &'static str,
        /// The crew that has it, to whom may see it.
        owner: Option<CrewId>,
    },
    /// Production and others would share something.
    #[error(
        "production never shares a {what} with development or staging, and this one is in use{}",
        by(*owner)
    )]
    ProductionApart {
        what: &'static str,
        /// A crew that has it, to whom may see it.
        owner: Option<CrewId>,
    },
    /// Another workspace had it until a while ago.
    #[error(
        "a {what} that was freed rests for a day before another workspace can have it, this one \
         until {}",
        until.to_rfc3339()
    )]
    ClaimRests {
        what: &'static str,
        until: Timestamp,
    },
    /// The profile is not the one that the change was made from.
    #[error("the profile has changed meanwhile; read it and try again")]
    ProfileMoved,
    /// Somebody has an account with this address.
    #[error("there is an account with this e-mail address already; sign in instead")]
    EmailTaken,
    /// The key is over, or was never there.
    #[error("the API key is unknown, revoked or expired")]
    ApiKeyEnded,
    /// The key is not one that this can be done to any more.
    #[error("the API key is {status}")]
    ApiKeyNotActive {
        /// `rotating`, `expired` or `revoked`.
        status: &'static str,
    },
    /// A key where only people may.
    #[error("an API key may not do this; only people may")]
    NotForApiKeys,
    /// A key without the scope.
    #[error("the API key lacks the scope {scope}")]
    ScopeMissing { scope: KeyScope },
    /// A key that is used from elsewhere.
    #[error("the API key may not be used from this address")]
    AddressNotAllowed,
    /// Too many live keys.
    #[error("there are {limit} API keys, which is the most there may be; revoke some")]
    TooManyApiKeys { limit: usize },
    /// The present password is another one.
    #[error("the present password is another one")]
    WrongPassword,
    /// An auditor, whose grant does not hold the permission.
    #[error("an auditor may not do this; it takes the role {}", names(permission.roles()))]
    NotPermittedToAuditor { permission: Permission },
    /// Giving, to oneself or to others, what lasts longer than one's own role.
    #[error(
        "your own role ends at {}, and you can give nothing that lasts longer; ask somebody whose role lasts",
        until.to_rfc3339()
    )]
    OwnLimit { until: Timestamp },
    /// The person is no member.
    #[error("this person is not a member of the workspace")]
    NotAMember,
    /// Handing the ownership over to oneself.
    #[error("the ownership is handed over to somebody else, not to oneself")]
    TransferToOneself,
    /// Nobody has an account with this address.
    #[error("nobody has an account with this e-mail address")]
    NoSuchAccount,
    /// The organization would be left without an owner.
    #[error("this is the last owner of the organization; make somebody else an owner first")]
    LastOrganizationOwner,
    /// A key of another environment, or one that is bound to other crews.
    #[error("the API key reaches its own environment and the crews that it names, nothing else")]
    OutOfReach,
    /// Nothing in an archived crew changes.
    #[error("the crew is archived, and nothing in it changes any more")]
    CrewArchived,
    /// A production crew is changed by promotion.
    #[error(
        "a production crew is changed by promotion; its workspace's policy does not allow this"
    )]
    ProductionProtected,
    /// Two of a kind with one name in one crew.
    #[error("there is another {what} of this name in the crew")]
    NameTaken { what: &'static str },
    /// Too many of a kind in one crew.
    #[error("the crew has {limit} of the kind {what}, which is the most there may be")]
    TooManyItems { what: &'static str, limit: usize },
    /// A knowledge base can hold no more.
    #[error(
        "a knowledge base has at most {DOCUMENTS_MAX} documents, of {} MiB together",
        KNOWLEDGE_BASE_BYTES_MAX >> 20
    )]
    KnowledgeBaseFull,
    /// Too many crews.
    #[error("the workspace has {limit} crews, which is the most there may be; archive some")]
    TooManyCrews { limit: usize },
    /// The contents of a crew are not those that were looked at.
    #[error("the agents and pathways of the target have changed since the review; refresh it")]
    CrewMoved,
    /// A crew lacks what its new contents would need.
    #[error("the target lacks what the new contents need: {}", listed(slots))]
    SlotsMissing { slots: Vec<Slot> },
    /// A promotion that cannot be applied any more.
    #[error("the promotion is {status}")]
    PromotionNotOpen { status: &'static str },
    /// A promotion that was not applied, or was rolled back.
    #[error("the promotion is {status}; only one that is applied can be checked or rolled back")]
    PromotionNotApplied { status: &'static str },
    /// Too few approvals that count.
    #[error("it takes {needed} approvals, and {given} count")]
    ApprovalsMissing { given: usize, needed: usize },
    /// Who proposed it, or the key that did, does not approve it.
    #[error("whoever proposed a promotion, or made the key that did, does not approve it")]
    OwnProposal,
    /// Who neither proposed it nor decides about promotions.
    #[error("a promotion is taken back by whoever proposed it, or decides about promotions")]
    PromotionOfAnother,
    /// A crew has changed since a promotion was applied to it.
    #[error("the target has changed since: {}; force it with a reason, and they go too", changes.join(", "))]
    ChangedSince { changes: Vec<String> },
    /// Both sides are the same.
    #[error("there is nothing to promote: the target has all of it already")]
    NothingToPromote,
    /// More than one unit can hold.
    #[error("too much changes for one promotion; promote it in parts, with `include`")]
    TooManyChanges,
    /// Contents with ids that mean something in one environment alone.
    #[error("ids mean something in one environment alone: {}; name what they are by slots", places.join(", "))]
    NotPortable { places: Vec<String> },
    /// An access review that is closing, or closed.
    #[error("the access review is {status}, and nothing is decided in it any more")]
    ReviewNotOpen { status: &'static str },
    /// Somebody who is no reviewer of the campaign.
    #[error("its reviewers decide in an access review; you are none of them")]
    NotReviewer,
    /// A reviewer of their own access: theirs, or of a key that they made, rotated or changed.
    #[error("nobody reviews their own access, and {item} is yours or counts as you")]
    SelfReview { item: PrincipalId },
    /// Access that is not what the reviewer has seen.
    #[error("{item} has changed since, or is gone; look at it again, and send what you have seen")]
    AccessChanged { item: PrincipalId },
    /// Access that a campaign has done with.
    #[error("what was decided about {item} has been carried out")]
    AccessSettled { item: PrincipalId },
    /// As much as the plan, or the workspace's own limit, allows.
    #[error("{} `{quota}` of this workspace is {allowed}, and it is reached", of_whom(*by_plan))]
    LimitReached {
        /// The quota's name on the wire.
        quota: &'static str,
        allowed: u64,
        /// Whether it is the plan's; else the owners have set it.
        by_plan: bool,
    },
    /// A plan, or limits, that the workspace already exceeds.
    #[error("the workspace already exceeds it: {}", joined(excess))]
    LimitExceeded {
        /// What exceeds: all of it.
        excess: Vec<Excess>,
        /// Whether it was a plan that was chosen; else limits were set.
        by_plan: bool,
    },
    /// A value that is right or wrong only by the newest state or the time of the decision.
    #[error("{field}: {detail}")]
    WrongValue {
        /// The field of the command that has it.
        field: &'static str,
        detail: &'static str,
    },
}

fn listed(slots: &[Slot]) -> String {
    let names: Vec<_> = slots.iter().map(Slot::to_string).collect();
    names.join(", ")
}

fn to(contact: Option<&str>) -> String {
    contact.map_or_else(String::new, |contact| format!(": {contact}"))
}

fn by(owner: Option<CrewId>) -> String {
    owner.map_or_else(String::new, |owner| format!(" by {owner}"))
}

/// The first twenty; of the rest how many they are.
fn few(ids: &[String]) -> String {
    let (told, rest) = ids.split_at(ids.len().min(20));
    match rest.len() {
        0 => told.join(", "),
        rest => format!("{} and {rest} more", told.join(", ")),
    }
}

fn of_whom(by_plan: bool) -> &'static str {
    match by_plan {
        true => "the plan's limit on",
        false => "the limit that its owners have set on",
    }
}

fn joined(excess: &[Excess]) -> String {
    let words: Vec<_> = excess.iter().map(Excess::to_string).collect();
    words.join("; ")
}

fn names(roles: &[Role]) -> String {
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    names.join(" or ")
}

impl Refusal {
    /// The stable code, `snake_case`, that clients match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::SessionEnded => "session_ended",
            Self::NotPermitted { .. }
            | Self::NotPermittedInOrganization { .. }
            | Self::NotPermittedToAuditor { .. }
            | Self::NotOperator
            | Self::NotForOperators
            | Self::OutOfReach => "not_permitted",
            Self::NotForApiKeys => "not_for_api_keys",
            Self::RoleAboveOwn { .. } => "role_above_own",
            Self::LastOwner | Self::LastOrganizationOwner | Self::LastOwnerOf { .. } => {
                "last_owner"
            }
            Self::TooManyMemberships { .. } => "too_many_memberships",
            Self::OrganizationSuspended { .. } => "organization_suspended",
            Self::OwnerIsThere => "owner_is_there",
            Self::AlreadyMember => "already_member",
            Self::UnderLegalHold => "under_legal_hold",
            Self::AlreadyExists { .. } => "already_exists",
            Self::InvitationNotPending { .. } => "invitation_not_pending",
            Self::InvitationStillPending { .. } => "invitation_still_pending",
            Self::InvitationTokenReplaced => "invitation_token_replaced",
            Self::InvitationForAnother => "invitation_for_another",
            Self::InvitationExceedsInviter { .. } => "invitation_exceeds_inviter",
            Self::TooManyInvitations { .. } => "too_many_invitations",
            Self::AlreadyClaimed { .. } => "already_claimed",
            Self::ProductionApart { .. } => "production_apart",
            Self::ClaimRests { .. } => "claim_rests",
            Self::ProfileMoved => "profile_moved",
            Self::EmailTaken => "email_taken",
            Self::ApiKeyEnded => "api_key_ended",
            Self::ApiKeyNotActive { .. } => "api_key_not_active",
            Self::ScopeMissing { .. } => "scope_missing",
            Self::AddressNotAllowed => "ip_not_allowed",
            Self::TooManyApiKeys { .. } => "too_many_api_keys",
            Self::WrongPassword => "wrong_password",
            Self::OwnLimit { .. } => "own_limit",
            Self::NotAMember => "not_a_member",
            Self::TransferToOneself => "transfer_to_oneself",
            Self::NoSuchAccount => "no_such_account",
            Self::CrewArchived => "crew_archived",
            Self::TooManyCrews { .. } => "too_many_crews",
            Self::ProductionProtected => "production_protected",
            Self::NameTaken { .. } => "name_taken",
            Self::TooManyItems { .. } => "too_many_items",
            Self::KnowledgeBaseFull => "knowledge_base_full",
            Self::CrewMoved => "crew_moved",
            Self::SlotsMissing { .. } => "slots_missing",
            Self::PromotionNotOpen { .. } => "promotion_not_open",
            Self::PromotionNotApplied { .. } => "promotion_not_applied",
            Self::ApprovalsMissing { .. } => "approvals_missing",
            Self::OwnProposal => "own_proposal",
            Self::PromotionOfAnother => "not_permitted",
            Self::ChangedSince { .. } => "changed_since",
            Self::NothingToPromote => "nothing_to_promote",
            Self::TooManyChanges => "too_many_changes",
            Self::NotPortable { .. } => "not_portable",
            Self::ReviewNotOpen { .. } => "review_not_open",
            Self::NotReviewer => "not_reviewer",
            Self::SelfReview { .. } => "self_review",
            Self::AccessChanged { .. } => "access_changed",
            Self::AccessSettled { .. } => "access_settled",
            Self::LimitReached { .. } => "limit_reached",
            Self::LimitExceeded { .. } => "limit_exceeded",
            Self::WrongValue { .. } => "invalid_body",
        }
    }

    /// Whether this is a matter of authority, which the audit log of what was aimed at
    /// keeps as a refused attempt.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::NotFound { hidden, .. } => *hidden,
            Self::NotPermitted { .. }
            | Self::NotPermittedInOrganization { .. }
            | Self::NotPermittedToAuditor { .. }
            | Self::RoleAboveOwn { .. }
            | Self::OwnLimit { .. }
            | Self::InvitationForAnother
            | Self::InvitationExceedsInviter { .. }
            | Self::NotForApiKeys
            | Self::ScopeMissing { .. }
            | Self::AddressNotAllowed
            | Self::OutOfReach
            | Self::OwnProposal
            | Self::PromotionOfAnother
            | Self::NotReviewer
            | Self::SelfReview { .. }
            | Self::SessionEnded
            | Self::ApiKeyEnded
            | Self::OrganizationSuspended { .. }
            | Self::OwnerIsThere
            | Self::NotOperator
            | Self::NotForOperators
            | Self::ProductionProtected => true,
            Self::LastOwner
            | Self::AlreadyMember
            | Self::LastOwnerOf { .. }
            | Self::TooManyMemberships { .. }
            | Self::UnderLegalHold
            | Self::AlreadyExists { .. }
            | Self::InvitationNotPending { .. }
            | Self::InvitationStillPending { .. }
            | Self::InvitationTokenReplaced
            | Self::TooManyInvitations { .. }
            | Self::AlreadyClaimed { .. }
            | Self::ProductionApart { .. }
            | Self::ClaimRests { .. }
            | Self::ProfileMoved
            | Self::EmailTaken
            | Self::ApiKeyNotActive { .. }
            | Self::TooManyApiKeys { .. }
            | Self::WrongPassword
            | Self::NotAMember
            | Self::TransferToOneself
            | Self::NoSuchAccount
            | Self::LastOrganizationOwner
            | Self::CrewArchived
            | Self::TooManyCrews { .. }
            | Self::NameTaken { .. }
            | Self::TooManyItems { .. }
            | Self::KnowledgeBaseFull
            | Self::CrewMoved
            | Self::SlotsMissing { .. }
            | Self::PromotionNotOpen { .. }
            | Self::PromotionNotApplied { .. }
            | Self::ApprovalsMissing { .. }
            | Self::ChangedSince { .. }
            | Self::NothingToPromote
            | Self::TooManyChanges
            | Self::NotPortable { .. }
            | Self::ReviewNotOpen { .. }
            | Self::AccessChanged { .. }
            | Self::AccessSettled { .. }
            | Self::LimitReached { .. }
            | Self::LimitExceeded { .. }
            | Self::WrongValue { .. } => false,
        }
    }
}
