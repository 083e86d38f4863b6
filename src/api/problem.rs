//! Every refusal that a client can meet, as an RFC 9457 `application/problem+json` answer.
//!
//! One table ([`ProblemCode`]) holds every code with its status, its title and what to do
//! about it. The answers, the pages at `/problems/{code}` and `docs/problems.md` are all
//! made from it. A problem never carries an inner error, a stack, a SQL text or a secret:
//! those go to the log, and the client gets the request id to find them by.
//!
//! To add a problem: one line in the table below. To add a [`Refusal`]: the compiler names
//! the match that maps it. Then `CREWLOG_BLESS=1 cargo test problem` rewrites the page.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    fields::{FieldCode, FieldError},
    request_id,
};
use crate::domain::Refusal;

/// The media type of every problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// At most this many places of a body are reported at once.
const ERRORS_MAX: usize = 20;

/// What the table says of one code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// The stable name, `snake_case`.
    pub code: &'static str,
    /// The HTTP status it is answered with.
    pub status: StatusCode,
    /// The same few words for every occurrence.
    pub title: &'static str,
    /// What a client should do about it.
    pub advice: &'static str,
}

macro_rules! problems {
    ($($name:ident = $code:literal $status:ident $title:literal $advice:literal;)+) => {
        /// The stable code of a problem: what clients match on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemCode {$(
            #[doc = $title]
            $name,
        )+}

        impl ProblemCode {
            /// Every code, in the order that the printed table has.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The row of the table.
            pub const fn kind(self) -> ProblemKind {
                match self {$(
                    Self::$name => ProblemKind {
                        code: $code,
                        status: StatusCode::$status,
                        title: $title,
                        advice: $advice,
                    },
                )+}
            }
        }
    };
}

problems! {
    MalformedJson = "malformed_json" BAD_REQUEST "The body is not JSON"
        "Send one JSON value in UTF-8, nested at most 32 deep. The detail names the line and the column.";
    InvalidRequest = "invalid_request" BAD_REQUEST "The request is malformed"
        "A header, a query parameter or a cursor is not what it must be; the detail says which.";
    Unauthenticated = "unauthenticated" UNAUTHORIZED "Sign in first"
        "Send `Authorization: Bearer …` with a session token or an API key that is valid.";
    InvalidCredentials = "invalid_credentials" UNAUTHORIZED "The e-mail address or the password is wrong"
        "Check both. Which of the two was wrong is not said on purpose.";
    SessionEnded = "session_ended" UNAUTHORIZED "The session has ended"
        "Sign in again with `POST /v1/sessions`.";
    NotPermitted = "not_permitted" FORBIDDEN "Your role does not allow this"
        "Ask somebody with the role that the detail names. The attempt is in the audit log.";
    ApiKeyEnded = "api_key_ended" UNAUTHORIZED "The API key counts no more"
        "It was revoked, rotated or has expired while the request was on its way. Use its successor.";
    NotForApiKeys = "not_for_api_keys" FORBIDDEN "Only people may do this"
        "No scope allows it: keys manage neither people nor keys nor money, and approve nothing. Sign in as somebody whose role allows it. The attempt is in the audit log.";
    ScopeMissing = "scope_missing" FORBIDDEN "The API key lacks a scope"
        "Use a key with the scope that the detail names. The attempt is in the audit log.";
    IpNotAllowed = "ip_not_allowed" FORBIDDEN "The API key may not be used from here"
        "Its `allowed_cidrs` say from where it may. The attempt is in the audit log.";
    RoleAboveOwn = "role_above_own" FORBIDDEN "The role is above your own"
        "Nobody gives, takes or touches a role above their own. Ask somebody who holds it.";
    OwnLimit = "own_limit" FORBIDDEN "Your own role ends by itself"
        "Nobody gives, to others or themselves, what lasts longer than their own role. Ask somebody whose role lasts, or give it for as long as you have it (`until`).";
    InvitationForAnother = "invitation_for_another" FORBIDDEN "The invitation is somebody else's"
        "Sign in with the e-mail address that the invitation was sent to.";
    WrongPassword = "wrong_password" FORBIDDEN "The present password is another one"
        "Send the password that you sign in with. Wrong ones are counted as failed sign-ins are.";
    OrganizationSuspended = "organization_suspended" FORBIDDEN "The organization is suspended"
        "The operator of this installation has suspended it: it is read and audited, access is taken away, and nothing else goes on. Turn to the operator; the detail says where, if they have said so. The owners and auditors of the organization read why in its audit log.";
    NotFound = "not_found" NOT_FOUND "Not found"
        "It does not exist, or you may not know that it does. Check the id, and who you are with `GET /v1/me`.";
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED "The method is not allowed here"
        "The `Allow` header lists the methods that this path has.";
    LastOwner = "last_owner" CONFLICT "This is the last owner"
        "Make somebody else an owner first, or hand the ownership over.";
    TooManyMemberships = "too_many_memberships" CONFLICT "There are too many memberships for this"
        "Leave some workspaces and organizations first: `DELETE …/members/{user}` with your own id.";
    UnderLegalHold = "under_legal_hold" CONFLICT "There is a legal hold"
        "Nothing that may be evidence is destroyed. An owner of the workspace lifts the hold with `DELETE …/legal-hold`.";
    OwnerIsThere = "owner_is_there" CONFLICT "An owner may still be there"
        "A workspace is recovered only where none of its owners has a live session, or has signed in within 30 days. Ask them to hand it over.";
    AlreadyMember = "already_member" CONFLICT "This person is a member already"
        "Change the member's role instead.";
    NotAMember = "not_a_member" CONFLICT "This person is not a member"
        "Invite them, and try again once they have come in.";
    TransferToOneself = "transfer_to_oneself" CONFLICT "The ownership is yours already"
        "Name another member of the workspace.";
    NoSuchAccount = "no_such_account" CONFLICT "Nobody has an account with this e-mail address"
        "Ask them to sign up first, or check the address.";
    AlreadyExists = "already_exists" CONFLICT "It exists already"
        "Read it with `GET`, or choose another id.";
    InvitationNotPending = "invitation_not_pending" CONFLICT "The invitation is not pending any more"
        "It was accepted, declined, revoked or has expired; send a new one where it is still wanted.";
    InvitationStillPending = "invitation_still_pending" CONFLICT "The invitation has not run out yet"
        "Wait until its time is over, or revoke it.";
    InvitationTokenReplaced = "invitation_token_replaced" CONFLICT "A newer token exists"
        "The invitation was sent again; use the token of the latest e-mail.";
    InvitationExceedsInviter = "invitation_exceeds_inviter" CONFLICT "The inviter may no longer give this role"
        "Ask somebody with at least that role for a new invitation.";
    TooManyInvitations = "too_many_invitations" CONFLICT "Too many pending invitations"
        "Revoke some, or wait until some are accepted or have expired.";
    ApiKeyNotActive = "api_key_not_active" CONFLICT "The API key is not active"
        "It is being rotated, was revoked or has expired; make a new one where one is still wanted.";
    TooManyApiKeys = "too_many_api_keys" CONFLICT "Too many API keys"
        "Revoke some that nobody uses: `last_used_at` tells which.";
    AlreadyClaimed = "already_claimed" CONFLICT "It is already in use"
        "Choose another one, or release it where it is used now.";
    ProductionApart = "production_apart" CONFLICT "Production shares nothing with other environments"
        "Use another one in this crew, or remove it from those of the other environments first.";
    ClaimRests = "claim_rests" CONFLICT "It was freed a while ago, and rests"
        "Try again after the time in the detail, or choose another one.";
    EmailTaken = "email_taken" CONFLICT "There is an account with this e-mail address"
        "Sign in with `POST /v1/sessions` instead.";
    ProfileMoved = "profile_moved" CONFLICT "The profile has changed meanwhile"
        "Read it again with `GET /v1/me`, and send the change again.";
    CrewArchived = "crew_archived" CONFLICT "The crew is archived"
        "Nothing in it changes any more. Make a new crew where it is still wanted.";
    TooManyCrews = "too_many_crews" CONFLICT "Too many crews"
        "Archive some that nobody uses any more.";
    ProductionProtected = "production_protected" CONFLICT "Production is changed by promotion"
        "Promote the change from another crew. An owner or admin may break glass: send `break_glass` with a reason, which every later review shows.";
    NameTaken = "name_taken" CONFLICT "The name is taken"
        "Names are unique among those of a kind in one crew; choose another one.";
    TooManyItems = "too_many_items" CONFLICT "Too many of one kind in the crew"
        "Remove some that nobody uses any more.";
    KnowledgeBaseFull = "knowledge_base_full" CONFLICT "The knowledge base is full"
        "Remove documents that nobody needs any more, or begin another knowledge base.";
    OwnProposal = "own_proposal" FORBIDDEN "Nobody approves what they proposed"
        "Ask somebody else who decides about promotions. A key counts as whoever made or last rotated it; the policy's `self_approval` may allow it.";
    CrewMoved = "crew_moved" CONFLICT "The target has changed since the review"
        "Nobody applies a diff that nobody saw: refresh the promotion, and have it approved anew.";
    SlotsMissing = "slots_missing" CONFLICT "The target lacks what the new contents need"
        "Give the target what the detail names, such as an integration of that name, and apply it again.";
    PromotionNotOpen = "promotion_not_open" CONFLICT "The promotion is over"
        "It was applied, rejected, cancelled or rolled back; propose a new one where one is still wanted.";
    PromotionNotApplied = "promotion_not_applied" CONFLICT "The promotion is not applied"
        "Only a promotion that is applied can be checked or rolled back.";
    ApprovalsMissing = "approvals_missing" CONFLICT "The promotion is not approved"
        "The detail says how many approvals count, by the stricter of the policies of its proposal and of now.";
    ChangedSince = "changed_since" CONFLICT "The target has changed since it was promoted"
        "The detail says what has changed. Send `force` with a `reason` to undo that too.";
    NothingToPromote = "nothing_to_promote" CONFLICT "There is nothing to promote"
        "The target has all of it already: `POST …/diff` shows what two crews differ in.";
    TooManyChanges = "too_many_changes" CONFLICT "Too much changes at once"
        "Promote it in parts: `include` names the agents and pathways that are meant.";
    NotPortable = "not_portable" CONFLICT "Ids mean something in one environment alone"
        "The detail says where they are. Name what they are by a slot, such as `{\"$slot\": \"integration/crm\"}`.";
    NotReviewer = "not_reviewer" FORBIDDEN "You are no reviewer of this campaign"
        "Its `reviewers` decide; the attempt is in the audit log. Open another campaign where others should.";
    SelfReview = "self_review" FORBIDDEN "Nobody reviews their own access"
        "The detail names what is yours: your membership or grant, or a key that you made, rotated or changed. Leave it to another reviewer.";
    ReviewNotOpen = "review_not_open" CONFLICT "The access review is over"
        "Its time has run out, or somebody has closed it. `GET …/access-reviews/{rev}/report` tells what became of each decision.";
    AccessChanged = "access_changed" CONFLICT "The access is not what you have seen"
        "Read the campaign again: `now` shows what it is. Send its `seen_at` with the decision, to say that you have looked at that.";
    AccessSettled = "access_settled" CONFLICT "The decision has been carried out"
        "It was applied when the campaign was closed before. Change the access itself where it should be otherwise.";
    LimitReached = "limit_reached" CONFLICT "A limit of the workspace is reached"
        "`GET …/limits` shows what is allowed and what there is. Remove something, raise the limit where it is the workspace's own, or choose a larger plan.";
    LimitExceeded = "limit_exceeded" CONFLICT "The workspace already exceeds it"
        "Each entry of `errors` names something that there is too much of. Remove that first, or choose a larger plan or limit.";
    MonthClosed = "month_closed" CONFLICT "A month takes no more usage"
        "Each entry of `errors` names a record of a month that is closed. None of the batch was kept: send the others without them.";
    UsageConflict = "usage_conflict" CONFLICT "Another record has this id"
        "Each entry of `errors` names a record whose id another one has, with something else in it. Those that were new were kept; give the named ones ids of their own.";
    IdempotencyInProgress = "idempotency_in_progress" CONFLICT "The first request with this key is still running"
        "Send the same request again after the seconds in `Retry-After`.";
    PreconditionFailed = "precondition_failed" PRECONDITION_FAILED "It has changed since you read it"
        "Read it again, decide again, and send its new `ETag` in `If-Match`.";
    BodyTooLarge = "body_too_large" PAYLOAD_TOO_LARGE "The body is too large"
        "The limit of each route is in the OpenAPI document; send less, or in several requests.";
    UnsupportedMediaType = "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body's media type is not supported"
        "Send `Content-Type: application/json`, uncompressed.";
    InvalidBody = "invalid_body" UNPROCESSABLE_ENTITY "Something in the body is wrong"
        "Each entry of `errors` points at a place in the body (RFC 6901), and says what is wrong there.";
    UnknownAction = "unknown_action" UNPROCESSABLE_ENTITY "There is no action of this name"
        "The detail names those there are; they are the permissions of `docs/permissions.md`.";
    IdempotencyKeyReused = "idempotency_key_reused" UNPROCESSABLE_ENTITY "The Idempotency-Key was used for another request"
        "Use a new key for every new request, and the same key only to repeat the same one.";
    TooManyAttempts = "too_many_attempts" TOO_MANY_REQUESTS "Too many attempts"
        "Wait for the seconds in `Retry-After`.";
    RateLimited = "rate_limited" TOO_MANY_REQUESTS "Too many requests"
        "Wait for the seconds in `Retry-After`, and spread requests: `RateLimit-Policy` says how many a minute there may be, `RateLimit` how many are left.";
    TooManyTails = "too_many_tails" TOO_MANY_REQUESTS "Too many tails of audit logs"
        "Close some that nobody reads, or come back after the seconds in `Retry-After`; a tail goes on from its `Last-Event-ID`.";
    Overloaded = "overloaded" SERVICE_UNAVAILABLE "Too much is waiting"
        "Nothing was done. Send it again after the seconds in `Retry-After`, waiting longer each time.";
    Unavailable = "unavailable" SERVICE_UNAVAILABLE "Crewlog cannot answer right now"
        "A write may or may not have happened: repeat it with the same `Idempotency-Key` after the seconds in `Retry-After`.";
    PositionNotReached = "position_not_reached" SERVICE_UNAVAILABLE "Not as new as you asked for"
        "This server has not reached the position in your `Crewlog-Position` yet. Ask again after the seconds in `Retry-After`.";
    ReadOnly = "read_only" SERVICE_UNAVAILABLE "This server only reads"
        "Nothing was done. It is a replica: it writes nothing, and refuses nobody by what it knows, which may be old. Send this to a server that writes.";
    Internal = "internal" INTERNAL_SERVER_ERROR "Something went wrong on our side"
        "Repeat it with the same `Idempotency-Key`. If it stays, tell the operator the `request_id`: the log has the cause under it.";
}

impl ProblemCode {
    /// The code's row, by its name.
    pub fn named(name: &str) -> Option<Self> {
        let named = |code: &&Self| code.kind().code == name;
        Self::ALL.iter().find(named).copied()
    }

    /// The problem that stands for a bare status, for answers that a library made.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::NotPermitted,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyAttempts,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            other if other.is_client_error() => Self::InvalidRequest,
            _ => Self::Internal,
        }
    }

    /// How long a client waits where nobody knows better; `None`: repeating is no use.
    const fn retry_after_default(self) -> Option<Duration> {
        match self {
            Self::IdempotencyInProgress
            | Self::RateLimited
            | Self::Overloaded
            | Self::PositionNotReached
            | Self::ReadOnly => Some(Duration::from_secs(1)),
            Self::Unavailable | Self::TooManyTails => Some(Duration::from_secs(5)),
            Self::TooManyAttempts => Some(Duration::from_secs(60)),
            _ => None,
        }
    }
}

impl From<&Refusal> for ProblemCode {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotFound { .. } => Self::NotFound,
            Refusal::SessionEnded => Self::SessionEnded,
            Refusal::NotPermitted { .. }
            | Refusal::NotPermittedInOrganization { .. }
            | Refusal::NotPermittedToAuditor { .. }
            | Refusal::OutOfReach => Self::NotPermitted,
            Refusal::NotForApiKeys => Self::NotForApiKeys,
            Refusal::RoleAboveOwn { .. } => Self::RoleAboveOwn,
            Refusal::LastOwner | Refusal::LastOrganizationOwner | Refusal::LastOwnerOf { .. } => {
                Self::LastOwner
            }
            Refusal::TooManyMemberships { .. } => Self::TooManyMemberships,
            Refusal::OrganizationSuspended { .. } => Self::OrganizationSuspended,
            Refusal::OwnerIsThere => Self::OwnerIsThere,
            Refusal::NotOperator | Refusal::NotForOperators => Self::NotPermitted,
            Refusal::AlreadyMember => Self::AlreadyMember,
            Refusal::UnderLegalHold => Self::UnderLegalHold,
            Refusal::AlreadyExists { .. } => Self::AlreadyExists,
            Refusal::InvitationNotPending { .. } => Self::InvitationNotPending,
            Refusal::InvitationStillPending { .. } => Self::InvitationStillPending,
            Refusal::InvitationTokenReplaced => Self::InvitationTokenReplaced,
            Refusal::InvitationForAnother => Self::InvitationForAnother,
            Refusal::InvitationExceedsInviter { .. } => Self::InvitationExceedsInviter,
            Refusal::TooManyInvitations { .. } => Self::TooManyInvitations,
            Refusal::AlreadyClaimed { .. } => Self::AlreadyClaimed,
            Refusal::ProductionApart { .. } => Self::ProductionApart,
            Refusal::ClaimRests { .. } => Self::ClaimRests,
            Refusal::ProfileMoved => Self::ProfileMoved,
            Refusal::EmailTaken => Self::EmailTaken,
            Refusal::ApiKeyEnded => Self::ApiKeyEnded,
            Refusal::ApiKeyNotActive { .. } => Self::ApiKeyNotActive,
            Refusal::ScopeMissing { .. } => Self::ScopeMissing,
            Refusal::AddressNotAllowed => Self::IpNotAllowed,
            Refusal::TooManyApiKeys { .. } => Self::TooManyApiKeys,
            Refusal::WrongPassword => Self::WrongPassword,
            Refusal::OwnLimit { .. } => Self::OwnLimit,
            Refusal::NotAMember => Self::NotAMember,
            Refusal::TransferToOneself => Self::TransferToOneself,
            Refusal::NoSuchAccount => Self::NoSuchAccount,
            Refusal::CrewArchived => Self::CrewArchived,
            Refusal::TooManyCrews { .. } => Self::TooManyCrews,
            Refusal::ProductionProtected => Self::ProductionProtected,
            Refusal::NameTaken { .. } => Self::NameTaken,
            Refusal::TooManyItems { .. } => Self::TooManyItems,
            Refusal::KnowledgeBaseFull => Self::KnowledgeBaseFull,
            Refusal::CrewMoved => Self::CrewMoved,
            Refusal::SlotsMissing { .. } => Self::SlotsMissing,
            Refusal::PromotionNotOpen { .. } => Self::PromotionNotOpen,
            Refusal::PromotionNotApplied { .. } => Self::PromotionNotApplied,
            Refusal::ApprovalsMissing { .. } => Self::ApprovalsMissing,
            Refusal::OwnProposal => Self::OwnProposal,
            Refusal::PromotionOfAnother => Self::NotPermitted,
            Refusal::ChangedSince { .. } => Self::ChangedSince,
            Refusal::NothingToPromote => Self::NothingToPromote,
            Refusal::TooManyChanges => Self::TooManyChanges,
            Refusal::NotPortable { .. } => Self::NotPortable,
            Refusal::NotReviewer => Self::NotReviewer,
            Refusal::SelfReview { .. } => Self::SelfReview,
            Refusal::ReviewNotOpen { .. } => Self::ReviewNotOpen,
            Refusal::AccessChanged { .. } => Self::AccessChanged,
            Refusal::AccessSettled { .. } => Self::AccessSettled,
            Refusal::LimitReached { .. } => Self::LimitReached,
            Refusal::LimitExceeded { .. } => Self::LimitExceeded,
            Refusal::WrongValue { .. } => Self::InvalidBody,
        }
    }
}

/// What went wrong, as handlers return it.
///
/// The request id is filled in when it becomes an answer, from the request that is being
/// served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: ProblemCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
}

/// The JSON of a problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URI reference that names the kind of problem; a page documents it there.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference", example = "/problems/last_owner")]
    kind: String,
    /// The same few words for every occurrence.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong this time, for a person to read.
    detail: Cow<'static, str>,
    /// The stable name of the problem: match on this.
    #[schema(pattern = "^[a-z_]+$", example = "last_owner")]
    code: &'static str,
    /// The id of the request, as in the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// What is wrong where in the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 20)]
    errors: Vec<FieldError>,
}

impl Problem {
    /// A problem with a detail for this occurrence. The detail must not repeat what a
    /// client sent, except for names of fields and parameters.
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: code.retry_after_default(),
        }
    }

    /// A problem that the table's advice says enough about.
    pub fn of(code: ProblemCode) -> Self {
        Self::new(code, code.kind().advice)
    }

    /// `400 invalid_request`: a header, a parameter or a cursor.
    pub fn invalid_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemCode::InvalidRequest, detail)
    }

    /// `401 unauthenticated`.
    pub fn unauthenticated(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemCode::Unauthenticated, detail)
    }

    /// `404 not_found`: the same words whether it is missing or hidden.
    pub fn not_found() -> Self {
        Self::new(
            ProblemCode::NotFound,
            "there is no such thing, or you may not see it",
        )
    }

    /// `422 invalid_body` with the places; the first twenty are kept.
    pub fn invalid_body(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(ERRORS_MAX);
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer_or_body(), only.detail()),
            several => format!(
                "{} places in the body are wrong; see `errors`",
                several.len()
            ),
        };
        Self {
            errors,
            ..Self::new(ProblemCode::InvalidBody, detail)
        }
    }

    /// `500 internal`: the whole chain of causes goes to the log, none of it to the client.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a request failed on our side");
        Self::of(ProblemCode::Internal)
    }

    /// `503 unavailable`: as [`Problem::internal`], for what passes by itself (the store is
    /// gone, the server is stopping).
    pub fn unavailable(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error = %Chain(error), "a request could not be served");
        Self::of(ProblemCode::Unavailable)
    }

    /// The same with what is wrong where; the first twenty are kept.
    pub fn with_errors(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(ERRORS_MAX);
        self.errors = errors;
        self
    }

    /// The same, to be repeated after `wait`, rounded up to whole seconds.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What clients match on.
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// What is wrong this time, for a person to read.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is wrong where in the body.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    fn body(self) -> ProblemBody {
        let kind = self.code.kind();
        ProblemBody {
            kind: format!("/problems/{}", kind.code),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: self.detail,
            code: kind.code,
            request_id: request_id::current().map(|id| id.as_str().to_owned()),
            errors: self.errors,
        }
    }
}

/// A refusal says why in its own words, which never tell hidden from missing.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::WrongValue { field, detail } = refusal {
            return FieldError::invalid(format!("/{field}"), detail).into();
        }
        let problem = Self::new(ProblemCode::from(&refusal), refusal.to_string());
        if let Refusal::LastOwnerOf { owned } = refusal {
            let error = |id: String| FieldError::new(FieldCode::LastOwner, "", id);
            return problem.with_errors(owned.into_iter().map(error).collect());
        }
        let Refusal::LimitExceeded { excess, by_plan } = refusal else {
            return problem;
        };
        let errors = excess.iter().map(|excess| {
            let pointer = match by_plan {
                true => "/plan".to_owned(),
                false => format!("/{}", excess.quota),
            };
            FieldError::new(FieldCode::LimitExceeded, pointer, excess.to_string())
        });
        Self {
            errors: errors.collect(),
            ..problem
        }
    }
}

impl From<Vec<FieldError>> for Problem {
    fn from(errors: Vec<FieldError>) -> Self {
        Self::invalid_body(errors)
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self::invalid_body(vec![error])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (code, retry_after) = (self.code, self.retry_after);
        let status = code.kind().status;
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(code);
        response
    }
}

/// An error and everything below it, in one line.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        api::testing::{json_of, text_of},
        domain::{
            Timestamp,
            authority::{OrganizationPermission, OrganizationRole, Permission, Role},
        },
    };

    /// `docs/problems.md`, as the table makes it.
    fn page() -> String {
        let mut page = String::from(
            "# Problems\n\nEvery refusal is an `application/problem+json` answer (RFC 9457). Match on `code`; \
             `type` is `/problems/<code>`, and a server answers this text there.\n\n\
             Made from the table in `src/api/problem.rs`; do not edit by hand.\n\n\
             | code | status | what it means | what to do |\n|---|---|---|---|\n",
        );
        for code in ProblemCode::ALL {
            let kind = code.kind();
            page.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                kind.code,
                kind.status.as_u16(),
                kind.title,
                kind.advice
            ));
        }
        page
    }

    #[test]
    fn the_printed_table_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/problems.md");
        if std::env::var_os("CREWLOG_BLESS").is_some() {
            std::fs::create_dir_all(path.with_file_name("")).expect("docs/ can be made");
            std::fs::write(&path, page()).expect("docs/problems.md can be written");
        }
        let printed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            printed == page(),
            "docs/problems.md is not current: run this test with CREWLOG_BLESS=1"
        );
    }

    #[test]
    fn codes_are_unique_and_fit_the_table() {
        let codes: BTreeSet<_> = ProblemCode::ALL
            .iter()
            .map(|code| code.kind().code)
            .collect();
        assert_eq!(codes.len(), ProblemCode::ALL.len());
        for code in ProblemCode::ALL {
            let kind = code.kind();
            assert_eq!(ProblemCode::named(kind.code), Some(*code));
            let snake = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            assert!(kind.code.bytes().all(snake), "{}", kind.code);
            assert!(!kind.advice.contains('|') && !kind.title.contains('|'));
        }
    }

    #[test]
    fn every_refusal_keeps_its_code_and_has_its_status() {
        let role = Role::Admin;
        let hidden = |hidden| Refusal::NotFound {
            what: "workspace",
            hidden,
        };
        let permission = Permission::SelectPlan;
        let elsewhere = Refusal::NotPermittedInOrganization {
            permission: OrganizationPermission::Rename,
            role: OrganizationRole::Billing,
        };
        let expires_at = Timestamp(0);
        let above = Refusal::RoleAboveOwn {
            role: Role::Owner,
            own: role,
        };
        let wrong_value = Refusal::WrongValue {
            field: "until",
            detail: "no",
        };
        let owned = ["ws_a", "org_b"].map(str::to_owned).to_vec();
        let owns = Refusal::LastOwnerOf { owned };
        let told = Problem::from(owns.clone());
        assert_eq!(told.errors().len(), 2, "each of them is told");
        assert!(told.errors()[1].detail().contains("org_b"));
        let too_many = Refusal::TooManyMemberships {
            places: 451,
            most: 450,
        };
        let problem = Problem::from(wrong_value.clone());
        assert_eq!(problem.errors()[0].pointer(), "/until");
        for (refusal, status) in [
            (hidden(true), 404),
            (hidden(false), 404),
            (Refusal::SessionEnded, 401),
            (Refusal::NotPermitted { permission, role }, 403),
            (elsewhere, 403),
            (above, 403),
            (Refusal::LastOwner, 409),
            (Refusal::OrganizationSuspended { contact: None }, 403),
            (Refusal::OwnerIsThere, 409),
            (Refusal::NotOperator, 403),
            (Refusal::NotForOperators, 403),
            (Refusal::AlreadyMember, 409),
            (Refusal::UnderLegalHold, 409),
            (owns.clone(), 409),
            (too_many, 409),
            (Refusal::AlreadyExists { what: "crew" }, 409),
            (Refusal::InvitationNotPending { status: "expired" }, 409),
            (Refusal::InvitationStillPending { expires_at }, 409),
            (Refusal::InvitationTokenReplaced, 409),
            (Refusal::InvitationForAnother, 403),
            (Refusal::InvitationExceedsInviter { role }, 409),
            (Refusal::TooManyInvitations { limit: 3 }, 409),
            (
                Refusal::AlreadyClaimed {
                    what: "number",
                    owner: None,
                },
                409,
            ),
            (
                Refusal::ProductionApart {
                    what: "channel",
                    owner: None,
                },
                409,
            ),
            (
                Refusal::ClaimRests {
                    what: "number",
                    until: Timestamp(5),
                },
                409,
            ),
            (Refusal::EmailTaken, 409),
            (Refusal::ProfileMoved, 409),
            (Refusal::WrongPassword, 403),
            (Refusal::NotPermittedToAuditor { permission }, 403),
            (Refusal::OwnLimit { until: expires_at }, 403),
            (Refusal::NotAMember, 409),
            (Refusal::TransferToOneself, 409),
            (Refusal::NoSuchAccount, 409),
            (Refusal::LastOrganizationOwner, 409),
            (Refusal::OutOfReach, 403),
            (Refusal::CrewArchived, 409),
            (Refusal::ProductionProtected, 409),
            (Refusal::NameTaken { what: "agent" }, 409),
            (
                Refusal::TooManyItems {
                    what: "agent",
                    limit: 3,
                },
                409,
            ),
            (Refusal::KnowledgeBaseFull, 409),
            (Refusal::TooManyCrews { limit: 3 }, 409),
            (
                Refusal::LimitReached {
                    quota: "members",
                    allowed: 5,
                    by_plan: true,
                },
                409,
            ),
            (
                Refusal::LimitExceeded {
                    excess: vec![],
                    by_plan: true,
                },
                409,
            ),
            (wrong_value, 422),
        ] {
            let kind = ProblemCode::from(&refusal).kind();
            assert_eq!((kind.code, kind.status.as_u16()), (refusal.code(), status));
        }
    }

    #[tokio::test]
    async fn hidden_answers_as_missing_does() {
        let answer = |hidden| {
            Problem::from(Refusal::NotFound {
                what: "workspace",
                hidden,
            })
        };
        let hidden = text_of(answer(true).into_response()).await;
        assert_eq!(hidden, text_of(answer(false).into_response()).await);
    }

    #[tokio::test]
    async fn a_problem_has_the_shape_of_rfc_9457() {
        let errors = vec![
            FieldError::too_long("/name", 120),
            FieldError::missing("/role"),
        ];
        let response = Problem::invalid_body(errors).into_response();
        assert_eq!(response.headers()["content-type"], PROBLEM_JSON);
        let body = json_of(response).await;
        assert_eq!(body["type"], "/problems/invalid_body");
        assert_eq!(body["status"], 422);
        assert_eq!(body["errors"][0]["pointer"], "/name");
        assert_eq!(body["errors"][0]["code"], "too_long");
        assert_eq!(body["errors"][1]["code"], "missing_field");

        let body = json_of(Problem::not_found().into_response()).await;
        assert_eq!(body.get("errors"), None);
    }

    #[test]
    fn headers_say_when_to_retry_and_how_to_sign_in() {
        let problem = Problem::of(ProblemCode::TooManyAttempts);
        let response = problem
            .retry_after(Duration::from_millis(2_100))
            .into_response();
        assert_eq!(response.headers()["retry-after"], "3");
        for code in ProblemCode::ALL {
            let response = Problem::of(*code).into_response();
            let status = response.status();
            let unsigned = status == StatusCode::UNAUTHORIZED;
            assert_eq!(
                response.headers().contains_key("www-authenticate"),
                unsigned
            );
            let busy = matches!(status.as_u16(), 429 | 503);
            assert!(!busy || response.headers().contains_key("retry-after"));
        }
    }

    #[tokio::test]
    async fn an_inner_error_stays_inside() {
        let error = std::io::Error::other("SELECT secret FROM credentials");
        let text = text_of(Problem::internal(&error).into_response()).await;
        assert!(!text.contains("SELECT"), "{text}");
        assert_eq!(Chain(&error).to_string(), "SELECT secret FROM credentials");
    }
}
