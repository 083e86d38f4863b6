//! Every route, with a request that succeeds: what the walks over all routes stand on.
//!
//! To add a route: its row in [`ROUTES`] and its request in [`World::fresh`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::DateTime;
use crewlog::journal::{Source, SystemSource};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::team::{
    Person, Team, Who, accept, address, grant, invite, invited, number, password, text,
};
use crate::support::operated::Operated;
use crate::support::server::{Call, Reply, Server};
use crate::support::witness;

/// What a route answers when it succeeds; the names are the fields of the resource.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// `201`, a new resource.
    Created(&'static [&'static str]),
    /// `200`, a resource with a version.
    Resource(&'static [&'static str]),
    /// `200`, something without a version.
    Unversioned(&'static [&'static str]),
    /// `200`, a page of resources.
    Page(&'static [&'static str]),
    /// `200`, a text that is streamed.
    Text,
    /// `204`.
    Nothing,
    /// `200`, about the server and not about anything in it.
    Server,
}

/// A route, and what it answers.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub answer: Answer,
}

/// A request that succeeds once.
#[derive(Debug, Clone)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub body: Option<Value>,
}

const fn route(method: &'static str, path: &'static str, answer: Answer) -> Route {
    Route {
        method,
        path,
        answer,
    }
}

use Answer::{Created, Nothing, Page, Resource, Server as OfServer, Text, Unversioned};

const SIGNED_UP: &[&str] = &["user", "organization", "workspace", "session"];
const ME: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "email",
    "name",
    "memberships",
    "organizations",
];
const ORGANIZATION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "name",
    "status",
    "suspended_at",
];
const STANDING: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "status",
    "suspended_at",
];
const RECOVERED: &[&str] = &["id", "version", "created_at", "updated_at", "owner"];
const WORKSPACE: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "name",
    "plan",
    "created_by",
];
const SESSION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "user",
    "expires_at",
    "current",
];
const NEW_SESSION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "user",
    "expires_at",
    "current",
    "token",
];
const MEMBER: &[&str] = &[
    "user",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "email",
    "name",
    "role",
    "since",
    "invited_by",
    "until",
    "afterwards",
];
const ORGANIZATION_MEMBER: &[&str] = &[
    "user",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "email",
    "name",
    "role",
    "since",
];
const POLICY: &[&str] = &[
    "workspace",
    "version",
    "created_at",
    "updated_at",
    "production_changes",
    "approvals_needed",
    "self_approval",
    "key_rotation_days",
];
const USED: &[&str] = &[
    "workspace",
    "month",
    "closed",
    "plan",
    "meters",
    "amounts",
    "crews",
];
const STATEMENT: &[&str] = &[
    "workspace",
    "month",
    "version",
    "created_at",
    "updated_at",
    "plan",
    "meters",
    "amounts",
    "records_digest",
];
const USED_TOGETHER: &[&str] = &[
    "organization",
    "month",
    "meters",
    "amounts",
    "workspaces",
    "next_cursor",
];
const LIMITS: &[&str] = &[
    "workspace",
    "version",
    "created_at",
    "updated_at",
    "plan",
    "of_plan",
    "limits",
    "allowed",
    "used",
];
const AUDITOR: &[&str] = &[
    "user",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "email",
    "name",
    "expires_at",
    "granted_by",
];
const INVITATION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "email",
    "role",
    "status",
    "expires_at",
    "invited_by",
];
const NEW_INVITATION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "email",
    "role",
    "status",
    "expires_at",
    "invited_by",
    "token",
    "accept_url",
];
const ENTRY: &[&str] = &[
    "position",
    "id",
    "recorded_at",
    "action",
    "outcome",
    "actor",
    "target",
    "organization",
    "workspace",
    "crew",
    "environment",
    "break_glass",
    "changes",
    "reason",
    "request_id",
    "ip",
    "user_agent",
    "leaf",
];
const ONE_ENTRY: &[&str] = &[
    "position",
    "id",
    "recorded_at",
    "action",
    "outcome",
    "actor",
    "target",
    "organization",
    "workspace",
    "crew",
    "environment",
    "break_glass",
    "changes",
    "reason",
    "request_id",
    "ip",
    "user_agent",
    "leaf",
    "canonical",
];
const API_KEY: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "workspace",
    "name",
    "environment",
    "scopes",
    "crews",
    "allowed_cidrs",
    "status",
    "prefix",
    "last_used_at",
    "expires_at",
    "rotation_due_at",
    "created_by",
];
const NEW_API_KEY: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "workspace",
    "name",
    "environment",
    "scopes",
    "crews",
    "allowed_cidrs",
    "status",
    "prefix",
    "last_used_at",
    "expires_at",
    "rotation_due_at",
    "created_by",
    "secret",
];
const ROTATED_API_KEY: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "workspace",
    "name",
    "environment",
    "scopes",
    "crews",
    "allowed_cidrs",
    "status",
    "prefix",
    "last_used_at",
    "expires_at",
    "rotation_due_at",
    "created_by",
    "rotated_from",
    "predecessor",
    "secret",
];
const VERDICT: &[&str] = &[
    "valid",
    "code",
    "key_id",
    "organization",
    "workspace",
    "environment",
    "scopes",
    "crews",
    "expires_at",
];
const CREW: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "organization",
    "workspace",
    "name",
    "environment",
    "client",
    "description",
    "status",
];
const ITEM: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "name",
    "digest",
    "size",
];
const ONE_ITEM: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "name",
    "digest",
    "size",
    "config",
];
const ITEM_VERSION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "workspace",
    "crew",
    "name",
    "digest",
    "size",
];
const ONE_ITEM_VERSION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "workspace",
    "crew",
    "name",
    "digest",
    "size",
    "config",
];
const BASE: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "name",
];
const DOCUMENT: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "knowledge_base",
    "title",
    "digest",
    "size",
];
const DOCUMENT_WITH_TEXT: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "knowledge_base",
    "title",
    "digest",
    "size",
    "text",
];
const PHONE_NUMBER: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "number",
];
const CHANNEL: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "kind",
    "address",
];
const PROMOTION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "source",
    "source_version",
    "target",
    "environment",
    "target_version",
    "status",
    "include",
    "bundle_digest",
    "plan_digest",
    "summary",
    "proposed_by",
    "reason",
    "approvals_needed",
    "approvals",
    "scheduled_for",
    "schedule_ended",
    "applied",
    "checks",
    "ended",
];
const WHOLE_PROMOTION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "source",
    "source_version",
    "target",
    "environment",
    "target_version",
    "status",
    "include",
    "bundle_digest",
    "plan_digest",
    "summary",
    "proposed_by",
    "reason",
    "approvals_needed",
    "approvals",
    "scheduled_for",
    "schedule_ended",
    "applied",
    "checks",
    "ended",
    "diff",
];
const REVIEW: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "name",
    "scope",
    "reviewers",
    "due_at",
    "undecided",
    "recurrence",
    "status",
    "opened_by",
    "pinned_at",
    "item_count",
    "decided_count",
    "reminded",
    "closed",
    "previous",
    "next",
];
const WHOLE_REVIEW: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "name",
    "scope",
    "reviewers",
    "due_at",
    "undecided",
    "recurrence",
    "status",
    "opened_by",
    "pinned_at",
    "item_count",
    "decided_count",
    "reminded",
    "closed",
    "previous",
    "next",
    "items",
];
const DIFF: &[&str] = &[
    "target_version",
    "added",
    "removed",
    "changed",
    "missing_slots",
    "patch",
];
const CHANGE: &[&str] = &[
    "change",
    "at",
    "version",
    "promotion",
    "by",
    "proposed_by",
    "source",
    "bundle_digest",
    "reason",
    "approved_by",
    "checks",
    "added",
    "changed",
    "removed",
];
const WEBHOOK_ENDPOINT: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "url",
    "events",
    "secret_set_at",
    "former_secret_until",
];
const NEW_WEBHOOK_ENDPOINT: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "url",
    "events",
    "secret_set_at",
    "former_secret_until",
    "secret",
];
const INTEGRATION: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "workspace",
    "crew",
    "name",
    "kind",
    "account",
    "credentials_set_at",
];
const PLAN: &[&str] = &["name", "title", "quotas", "prices"];

const PASSWORD: &str = "/v1/me/password";
const ERASE: &str = "/v1/me/erase";
const ORG: &str = "/v1/organizations/{org}";
const WS: &str = "/v1/workspaces/{ws}";
const MEMBERS: &str = "/v1/workspaces/{ws}/members";
const ONE_MEMBER: &str = "/v1/workspaces/{ws}/members/{user}";
const INVITATIONS: &str = "/v1/workspaces/{ws}/invitations";
const ONE_INVITATION: &str = "/v1/workspaces/{ws}/invitations/{inv}";
const RESEND: &str = "/v1/workspaces/{ws}/invitations/{inv}/resend";
const ORGANIZATION_MEMBERS: &str = "/v1/organizations/{org}/members";
const ONE_ORGANIZATION_MEMBER: &str = "/v1/organizations/{org}/members/{user}";
const TRANSFER: &str = "/v1/workspaces/{ws}/transfer-ownership";
const POLICY_OF: &str = "/v1/workspaces/{ws}/policy";
const USAGE: &str = "/v1/workspaces/{ws}/usage";
const STATEMENTS: &str = "/v1/workspaces/{ws}/statements";
const ONE_STATEMENT: &str = "/v1/workspaces/{ws}/statements/{month}";
const ORGANIZATION_USAGE: &str = "/v1/organizations/{org}/usage";
const HOLD: &str = "/v1/workspaces/{ws}/legal-hold";
const LIMITS_OF: &str = "/v1/workspaces/{ws}/limits";
const TAIL: &str = "/v1/workspaces/{ws}/audit/stream";
const TAIL_OF_ORGANIZATION: &str = "/v1/organizations/{org}/audit/stream";
const AUDITORS: &str = "/v1/workspaces/{ws}/auditors";
const ONE_AUDITOR: &str = "/v1/workspaces/{ws}/auditors/{user}";
const CAN: &str = "/v1/workspaces/{ws}/can";

const CREWS: &str = "/v1/workspaces/{ws}/crews";
const ONE_CREW: &str = "/v1/workspaces/{ws}/crews/{crew}";
const ARCHIVE: &str = "/v1/workspaces/{ws}/crews/{crew}/archive";

const AGENTS: &str = "/v1/workspaces/{ws}/crews/{crew}/agents";
const ONE_AGENT: &str = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}";
const AGENT_VERSIONS: &str = "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions";
const ONE_AGENT_VERSION: &str =
    "/v1/workspaces/{ws}/crews/{crew}/agents/{agent}/versions/{version}";
const PATHWAYS: &str = "/v1/workspaces/{ws}/crews/{crew}/pathways";
const ONE_PATHWAY: &str = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}";
const PATHWAY_VERSIONS: &str = "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions";
const ONE_PATHWAY_VERSION: &str =
    "/v1/workspaces/{ws}/crews/{crew}/pathways/{pathway}/versions/{version}";

const BASES: &str = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases";
const ONE_BASE: &str = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}";
const SEARCH: &str = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/search";
const DOCUMENTS: &str = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents";
const ONE_DOCUMENT: &str = "/v1/workspaces/{ws}/crews/{crew}/knowledge-bases/{kb}/documents/{doc}";

const ACTIVITY: &str = "/v1/workspaces/{ws}/crews/{crew}/activity";
const PHONE_NUMBERS: &str = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers";
const ONE_PHONE_NUMBER: &str = "/v1/workspaces/{ws}/crews/{crew}/phone-numbers/{number}";
const CHANNELS: &str = "/v1/workspaces/{ws}/crews/{crew}/channels";
const ONE_CHANNEL: &str = "/v1/workspaces/{ws}/crews/{crew}/channels/{channel}";
const ENDPOINTS: &str = "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints";
const ONE_ENDPOINT: &str = "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}";
const ROTATE_ENDPOINT: &str =
    "/v1/workspaces/{ws}/crews/{crew}/webhook-endpoints/{endpoint}/rotate";
const INTEGRATIONS: &str = "/v1/workspaces/{ws}/crews/{crew}/integrations";
const ONE_INTEGRATION: &str = "/v1/workspaces/{ws}/crews/{crew}/integrations/{integration}";

pub const EXPORT: &str = "/v1/workspaces/{ws}/crews/{crew}/export";
const COMPARE: &str = "/v1/workspaces/{ws}/crews/{crew}/diff";
const CHANGELOG: &str = "/v1/workspaces/{ws}/crews/{crew}/changelog";
const ROLL_OUT: &str = "/v1/workspaces/{ws}/crews/{crew}/promotions";
const PROMOTIONS: &str = "/v1/workspaces/{ws}/promotions";
const ONE_PROMOTION: &str = "/v1/workspaces/{ws}/promotions/{promotion}";
const APPROVE: &str = "/v1/workspaces/{ws}/promotions/{promotion}/approve";
const REJECT: &str = "/v1/workspaces/{ws}/promotions/{promotion}/reject";
const REFRESH: &str = "/v1/workspaces/{ws}/promotions/{promotion}/refresh";
const CANCEL: &str = "/v1/workspaces/{ws}/promotions/{promotion}/cancel";
const APPLY: &str = "/v1/workspaces/{ws}/promotions/{promotion}/apply";
const VERIFY_PROMOTION: &str = "/v1/workspaces/{ws}/promotions/{promotion}/verify";
const ROLL_BACK: &str = "/v1/workspaces/{ws}/promotions/{promotion}/rollback";

const REVIEWS: &str = "/v1/workspaces/{ws}/access-reviews";
const ONE_REVIEW: &str = "/v1/workspaces/{ws}/access-reviews/{review}";
const DECISIONS: &str = "/v1/workspaces/{ws}/access-reviews/{review}/decisions";
const CLOSE_REVIEW: &str = "/v1/workspaces/{ws}/access-reviews/{review}/close";
const REPORT_REVIEW: &str = "/v1/workspaces/{ws}/access-reviews/{review}/report";

const KEYS: &str = "/v1/workspaces/{ws}/api-keys";
const ONE_KEY: &str = "/v1/workspaces/{ws}/api-keys/{key}";
const ROTATE_KEY: &str = "/v1/workspaces/{ws}/api-keys/{key}/rotate";
const ORG_KEYS: &str = "/v1/organizations/{org}/api-keys";
const ONE_ORG_KEY: &str = "/v1/organizations/{org}/api-keys/{key}";
const ROTATE_ORG_KEY: &str = "/v1/organizations/{org}/api-keys/{key}/rotate";
const INCLUSION: &str = "/v1/log/proof/inclusion";
const CONSISTENCY: &str = "/v1/log/proof/consistency";
const COSIGNATURES: &str = "/v1/log/cosignatures";
const VERIFY_KEY: &str = "/v1/api-keys/verify";

/// What whoever asks is gone by: a walk that is answered, and asks as the same people again and
/// again, cannot take it; those that are refused take [`all`]. What it answers is told of in
/// [`super::erasure`].
const ASKED_ONCE: &[Route] = &[route("POST", ERASE, Nothing)];
const SUSPEND: &str = "/v1/operator/organizations/{org}/suspend";
const RESUME: &str = "/v1/operator/organizations/{org}/resume";
const RECOVER: &str = "/v1/operator/workspaces/{ws}/recover";

/// Every route.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(ASKED_ONCE)
}

/// Every route but [`ASKED_ONCE`].
pub const ROUTES: &[Route] = &[
    route("POST", "/v1/signup", Created(SIGNED_UP)),
    route("POST", "/v1/sessions", Created(NEW_SESSION)),
    route("GET", "/v1/sessions", Page(SESSION)),
    route("DELETE", "/v1/sessions/{id}", Nothing),
    route("GET", "/v1/me", Resource(ME)),
    route("PATCH", "/v1/me", Resource(ME)),
    route("POST", PASSWORD, Nothing),
    route("GET", "/v1/plans", Page(PLAN)),
    route("POST", "/v1/organizations", Created(ORGANIZATION)),
    route("GET", "/v1/organizations", Page(ORGANIZATION)),
    route("GET", ORG, Resource(ORGANIZATION)),
    route("PATCH", ORG, Resource(ORGANIZATION)),
    route(
        "POST",
        "/v1/organizations/{org}/workspaces",
        Created(WORKSPACE),
    ),
    route("GET", "/v1/workspaces", Page(WORKSPACE)),
    route("GET", WS, Resource(WORKSPACE)),
    route("PATCH", WS, Resource(WORKSPACE)),
    route("PUT", "/v1/workspaces/{ws}/plan", Resource(WORKSPACE)),
    route("GET", MEMBERS, Page(MEMBER)),
    route("GET", ONE_MEMBER, Resource(MEMBER)),
    route("PATCH", ONE_MEMBER, Resource(MEMBER)),
    route("DELETE", ONE_MEMBER, Nothing),
    route("POST", INVITATIONS, Created(NEW_INVITATION)),
    route("GET", INVITATIONS, Page(INVITATION)),
    route("GET", ONE_INVITATION, Resource(INVITATION)),
    route("DELETE", ONE_INVITATION, Resource(INVITATION)),
    route("POST", RESEND, Resource(NEW_INVITATION)),
    route("POST", KEYS, Created(NEW_API_KEY)),
    route("GET", KEYS, Page(API_KEY)),
    route("GET", ONE_KEY, Resource(API_KEY)),
    route("PATCH", ONE_KEY, Resource(API_KEY)),
    route("DELETE", ONE_KEY, Resource(API_KEY)),
    route("POST", ROTATE_KEY, Created(ROTATED_API_KEY)),
    route("POST", ORG_KEYS, Created(NEW_API_KEY)),
    route("GET", ORG_KEYS, Page(API_KEY)),
    route("GET", ONE_ORG_KEY, Resource(API_KEY)),
    route("DELETE", ONE_ORG_KEY, Resource(API_KEY)),
    route("POST", ROTATE_ORG_KEY, Created(ROTATED_API_KEY)),
    route("POST", VERIFY_KEY, Unversioned(VERDICT)),
    route("POST", "/v1/invitations/accept", Resource(MEMBER)),
    route("POST", "/v1/invitations/decline", Resource(INVITATION)),
    route("POST", CREWS, Created(CREW)),
    route("GET", CREWS, Page(CREW)),
    route("GET", ONE_CREW, Resource(CREW)),
    route("PATCH", ONE_CREW, Resource(CREW)),
    route("POST", ARCHIVE, Resource(CREW)),
    route("POST", AGENTS, Created(ONE_ITEM)),
    route("GET", AGENTS, Page(ITEM)),
    route("GET", ONE_AGENT, Resource(ONE_ITEM)),
    route("PUT", ONE_AGENT, Resource(ONE_ITEM)),
    route("DELETE", ONE_AGENT, Nothing),
    route("GET", AGENT_VERSIONS, Page(ITEM_VERSION)),
    route("GET", ONE_AGENT_VERSION, Resource(ONE_ITEM_VERSION)),
    route("POST", PATHWAYS, Created(ONE_ITEM)),
    route("GET", PATHWAYS, Page(ITEM)),
    route("GET", ONE_PATHWAY, Resource(ONE_ITEM)),
    route("PUT", ONE_PATHWAY, Resource(ONE_ITEM)),
    route("DELETE", ONE_PATHWAY, Nothing),
    route("GET", PATHWAY_VERSIONS, Page(ITEM_VERSION)),
    route("GET", ONE_PATHWAY_VERSION, Resource(ONE_ITEM_VERSION)),
    route("POST", BASES, Created(BASE)),
    route("GET", BASES, Page(BASE)),
    route("GET", ONE_BASE, Resource(BASE)),
    route("PUT", ONE_BASE, Resource(BASE)),
    route("DELETE", ONE_BASE, Nothing),
    route("POST", DOCUMENTS, Created(DOCUMENT_WITH_TEXT)),
    route("GET", DOCUMENTS, Page(DOCUMENT)),
    route("GET", ONE_DOCUMENT, Resource(DOCUMENT_WITH_TEXT)),
    route("PUT", ONE_DOCUMENT, Resource(DOCUMENT_WITH_TEXT)),
    route("DELETE", ONE_DOCUMENT, Nothing),
    route("GET", SEARCH, Unversioned(&["data"])),
    route(
        "POST",
        ACTIVITY,
        Unversioned(&["accepted", "known", "expired"]),
    ),
    route(
        "GET",
        ACTIVITY,
        Page(&["id", "at", "kind", "level", "message", "data"]),
    ),
    route("POST", PHONE_NUMBERS, Created(PHONE_NUMBER)),
    route("GET", PHONE_NUMBERS, Page(PHONE_NUMBER)),
    route("GET", ONE_PHONE_NUMBER, Resource(PHONE_NUMBER)),
    route("PUT", ONE_PHONE_NUMBER, Resource(PHONE_NUMBER)),
    route("DELETE", ONE_PHONE_NUMBER, Nothing),
    route("POST", CHANNELS, Created(CHANNEL)),
    route("GET", CHANNELS, Page(CHANNEL)),
    route("GET", ONE_CHANNEL, Resource(CHANNEL)),
    route("PUT", ONE_CHANNEL, Resource(CHANNEL)),
    route("DELETE", ONE_CHANNEL, Nothing),
    route("POST", ENDPOINTS, Created(NEW_WEBHOOK_ENDPOINT)),
    route("GET", ENDPOINTS, Page(WEBHOOK_ENDPOINT)),
    route("GET", ONE_ENDPOINT, Resource(WEBHOOK_ENDPOINT)),
    route("PUT", ONE_ENDPOINT, Resource(WEBHOOK_ENDPOINT)),
    route("DELETE", ONE_ENDPOINT, Nothing),
    route("POST", ROTATE_ENDPOINT, Resource(NEW_WEBHOOK_ENDPOINT)),
    route("POST", INTEGRATIONS, Created(INTEGRATION)),
    route("GET", INTEGRATIONS, Page(INTEGRATION)),
    route("GET", ONE_INTEGRATION, Resource(INTEGRATION)),
    route("PUT", ONE_INTEGRATION, Resource(INTEGRATION)),
    route("DELETE", ONE_INTEGRATION, Nothing),
    // A bundle, whose tag is its digest.
    route("GET", EXPORT, OfServer),
    route("POST", COMPARE, Unversioned(DIFF)),
    route("GET", CHANGELOG, Page(CHANGE)),
    route("POST", ROLL_OUT, Unversioned(&["data"])),
    route("POST", PROMOTIONS, Created(WHOLE_PROMOTION)),
    route("GET", PROMOTIONS, Page(PROMOTION)),
    route("GET", ONE_PROMOTION, Resource(WHOLE_PROMOTION)),
    route("POST", APPROVE, Resource(PROMOTION)),
    route("POST", REJECT, Resource(PROMOTION)),
    route("POST", REFRESH, Resource(WHOLE_PROMOTION)),
    route("POST", CANCEL, Resource(PROMOTION)),
    route("POST", APPLY, Resource(PROMOTION)),
    route("POST", VERIFY_PROMOTION, Resource(PROMOTION)),
    route("POST", ROLL_BACK, Resource(PROMOTION)),
    route("POST", REVIEWS, Created(WHOLE_REVIEW)),
    route("GET", REVIEWS, Page(REVIEW)),
    route("GET", ONE_REVIEW, Resource(WHOLE_REVIEW)),
    route("POST", DECISIONS, Resource(REVIEW)),
    route("POST", CLOSE_REVIEW, Resource(REVIEW)),
    route("GET", REPORT_REVIEW, Text),
    route("GET", "/v1/workspaces/{ws}/audit", Page(ENTRY)),
    route(
        "GET",
        "/v1/workspaces/{ws}/audit/{position}",
        Unversioned(ONE_ENTRY),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access",
        Unversioned(&["at", "position", "principals"]),
    ),
    route(
        "GET",
        "/v1/workspaces/{ws}/access/diff",
        Unversioned(&["from", "to", "added", "removed", "changed"]),
    ),
    route("GET", "/v1/organizations/{org}/audit", Page(ENTRY)),
    route(
        "GET",
        "/v1/organizations/{org}/audit/{position}",
        Unversioned(ONE_ENTRY),
    ),
    route("GET", ORGANIZATION_MEMBERS, Page(ORGANIZATION_MEMBER)),
    route(
        "GET",
        ONE_ORGANIZATION_MEMBER,
        Resource(ORGANIZATION_MEMBER),
    ),
    route(
        "PUT",
        ONE_ORGANIZATION_MEMBER,
        Resource(ORGANIZATION_MEMBER),
    ),
    route("DELETE", ONE_ORGANIZATION_MEMBER, Nothing),
    route("POST", TRANSFER, Resource(WORKSPACE)),
    route("DELETE", WS, Nothing),
    route("GET", POLICY_OF, Resource(POLICY)),
    route("PUT", POLICY_OF, Resource(POLICY)),
    route("GET", LIMITS_OF, Resource(LIMITS)),
    route("PUT", LIMITS_OF, Resource(LIMITS)),
    route("POST", USAGE, Unversioned(&["accepted", "known"])),
    route("GET", USAGE, Unversioned(USED)),
    route("GET", STATEMENTS, Page(STATEMENT)),
    route("GET", ONE_STATEMENT, Resource(STATEMENT)),
    route("GET", ORGANIZATION_USAGE, Unversioned(USED_TOGETHER)),
    route("PUT", HOLD, Nothing),
    route("DELETE", HOLD, Nothing),
    route("POST", AUDITORS, Created(AUDITOR)),
    route("GET", AUDITORS, Page(AUDITOR)),
    route("GET", ONE_AUDITOR, Resource(AUDITOR)),
    route("DELETE", ONE_AUDITOR, Nothing),
    route("POST", CAN, Unversioned(&["allowed", "because"])),
    route("GET", "/v1/workspaces/{ws}/audit/export", Text),
    route("GET", "/v1/organizations/{org}/audit/export", Text),
    route("GET", TAIL, Text),
    route("GET", TAIL_OF_ORGANIZATION, Text),
    route("POST", SUSPEND, Resource(STANDING)),
    route("POST", RESUME, Resource(STANDING)),
    route("POST", RECOVER, Resource(RECOVERED)),
    route("GET", "/v1/log/checkpoint", OfServer),
    route(
        "GET",
        "/v1/log/keys",
        Page(&["verifier", "created_at", "signs_until"]),
    ),
    route("GET", "/v1/log/tile/{tile}", OfServer),
    route(
        "GET",
        INCLUSION,
        Unversioned(&["tree_size", "leaf_index", "leaf", "hashes"]),
    ),
    route("GET", CONSISTENCY, Unversioned(&["from", "to", "hashes"])),
    route("POST", COSIGNATURES, Unversioned(&["size", "checkpoint"])),
    route("GET", "/healthz", OfServer),
    route("GET", "/readyz", OfServer),
    route("GET", "/metrics", OfServer),
    route("GET", "/version", OfServer),
    route("GET", "/openapi.json", OfServer),
    route("GET", "/problems/{code}", OfServer),
];

impl Route {
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Whether it is for operators of the installation, who may what it does to anybody.
    pub fn is_operators(&self) -> bool {
        self.path.starts_with("/v1/operator/")
    }

    /// Whether what is asked for is made for who asks: it would be another for somebody else.
    pub fn is_of_the_caller(&self) -> bool {
        [("POST", TRANSFER), ("DELETE", WS)].contains(&(self.method, self.path))
    }

    /// Whether it takes an `Idempotency-Key`; asking whether somebody may does not.
    pub fn writes(&self) -> bool {
        self.takes_a_body() && ![CAN, VERIFY_KEY, COMPARE, COSIGNATURES].contains(&self.path)
    }

    pub fn takes_a_body(&self) -> bool {
        self.method != "GET"
    }

    /// Whether anybody may, without a session.
    pub fn is_open(&self) -> bool {
        (matches!(self.answer, OfServer) && self.path != EXPORT)
            || matches!(
                (self.method, self.path),
                ("POST", "/v1/signup" | "/v1/sessions" | VERIFY_KEY) | ("GET", "/v1/plans")
            )
            || self.path.starts_with("/v1/invitations/")
            || self.path.starts_with("/v1/log/")
    }

    /// Whether it answers in pages: a list, or a report or a campaign that has one.
    pub fn is_paged(&self) -> bool {
        let names = |fields: &[&str]| fields.contains(&"next_cursor");
        self.is_list()
            || matches!(self.answer, Unversioned(fields) if names(fields))
            || (self.method, self.path) == ("GET", ONE_REVIEW)
    }

    pub fn is_list(&self) -> bool {
        matches!(self.answer, Page(_)) && !["/v1/plans", "/v1/log/keys"].contains(&self.path)
    }

    /// Whether it changes something that has a version.
    pub fn takes_if_match(&self) -> bool {
        match self.answer {
            Resource(_) => self.writes() && !self.path.starts_with("/v1/invitations/"),
            Created(_) if self.path.ends_with("/rotate") => true,
            // A password has no version, and whoever is erased has none either.
            Nothing => ![PASSWORD, ERASE].contains(&self.path),
            Created(_) | Unversioned(_) | Page(_) | Text | OfServer => false,
        }
    }
}

/// A team on a server, and what the requests need beside it.
pub struct World {
    pub server: Server,
    pub team: Team,
    /// Comes and goes as a viewer of the workspace.
    guest: Person,
    /// Of whom a change was made ready: what their password may be by now, the newest first.
    passwords: Mutex<HashMap<String, Vec<String>>>,
    /// Comes and goes as an auditor of the workspace.
    reviewer: Person,
    /// A month that has its statement.
    stated: OnceCell<String>,
}

impl World {
    pub async fn on(server: Server) -> Self {
        let team = Team::make(&server).await;
        let guest = team.joined(&server, "viewer").await;
        let reviewer = Person::sign_up(&server, "reviewer").await;
        Self {
            server,
            team,
            guest,
            passwords: Mutex::default(),
            reviewer,
            stated: OnceCell::new(),
        }
    }

    /// A month that ended long ago, with its statement; there are two before it.
    async fn stated(&self) -> &str {
        let made = self.stated.get_or_init(async || {
            let crew = self.team.crew(&self.server, "production").await;
            let months = ["2025-11", "2025-12", "2026-01"];
            for month in months {
                usage_of_then(&self.server, &self.team, &crew, month, &[3]).await;
            }
            let path = self.team.path("/statements");
            super::eventually("the months to be closed", async || {
                let list = self.server.get(&path).bearer(&self.team.owner.token).await;
                let closed = list.body["data"].as_array().map(Vec::len);
                (closed == Some(months.len())).then_some(())
            })
            .await;
            months[2].to_owned()
        });
        made.await
    }

    /// Somebody with their present password: a request that was made ready may have changed it.
    async fn as_now(&self, person: &Person) -> Person {
        let known = || {
            self.passwords
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let maybe = known().get(&person.user).cloned().unwrap_or_default();
        let mut now = person.clone();
        let several = maybe.len() > 1;
        for password in maybe {
            now.password = password;
            if !several {
                break;
            }
            let body = json!({"email": now.email, "password": now.password});
            if self.server.post("/v1/sessions").json(body).await.status == 201 {
                break;
            }
        }
        known().insert(now.user.clone(), vec![now.password.clone()]);
        now
    }

    /// A change of somebody's password.
    async fn new_password(&self, person: &Person) -> Value {
        let now = self.as_now(person).await;
        let new = password();
        let mut passwords = self
            .passwords
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        passwords.insert(now.user, vec![new.clone(), now.password.clone()]);
        json!({"current_password": now.password, "new_password": new})
    }

    /// Who may use a route.
    pub fn entitled(&self, route: &Route) -> Who {
        if route.is_operators() {
            Who::Operator
        } else if route.path.starts_with(ORG) {
            Who::OrganizationOwner
        } else {
            Who::Owner
        }
    }

    /// A path with its ids; `{id}`, `{inv}` and `{position}` must be known.
    fn filled(&self, path: &str, more: &[(&str, &str)]) -> String {
        let known = [
            ("{ws}", self.team.workspace.as_str()),
            ("{org}", self.team.organization.as_str()),
            ("{user}", self.guest.user.as_str()),
            ("{code}", "last_owner"),
        ];
        let filled = known
            .iter()
            .chain(more)
            .fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        assert!(!filled.contains('{'), "{filled} lacks an id");
        filled
    }

    /// A request to a route that succeeds, once, where `caller` may.
    pub async fn fresh(&self, route: &Route, caller: &Person) -> Ask {
        let path = |more: &[(&str, &str)]| self.filled(route.path, more);
        let (path, body) = match (route.method, route.path) {
            ("POST", "/v1/signup") => (path(&[]), Some(self.new_account())),
            ("POST", "/v1/sessions") => {
                let now = self.as_now(caller).await;
                let body = json!({"email": now.email, "password": now.password});
                (path(&[]), Some(body))
            }
            ("POST", ERASE) => {
                let body = json!({"password": caller.password});
                (path(&[]), Some(body))
            }
            ("POST", PASSWORD) => (path(&[]), Some(self.new_password(caller).await)),
            ("DELETE", "/v1/sessions/{id}") => {
                let now = self.as_now(caller).await;
                let session = now.sign_in(&self.server).await.session;
                (path(&[("{id}", &session)]), None)
            }
            ("PATCH", "/v1/me") => {
                let name = format!("Renamed {}", number());
                (path(&[]), Some(json!({"name": name})))
            }
            ("PATCH", ORG | WS)
            | ("POST", "/v1/organizations" | "/v1/organizations/{org}/workspaces") => {
                let name = format!("Named {}", number());
                (path(&[]), Some(json!({"name": name})))
            }
            ("POST", SUSPEND) => (self.standing(route, false).await, Some(why())),
            ("POST", RESUME) => (self.standing(route, true).await, Some(why())),
            ("POST", RECOVER) => {
                let workspace = self.operated().workspace();
                let path = route.path.replace("{ws}", workspace);
                let body = json!({"user": self.guest.user, "reason": "nobody is there"});
                (path, Some(body))
            }
            ("PUT", "/v1/workspaces/{ws}/plan") => (path(&[]), Some(json!({"plan": "enterprise"}))),
            (_, ONE_ORGANIZATION_MEMBER) => {
                let path = path(&[]);
                let body = json!({"role": "billing"});
                let call = self.server.put(&path);
                let call = call.bearer(&self.team.organization_owner.token);
                call.json(&body).await.expect(200);
                (path, (route.method == "PUT").then_some(body))
            }
            ("POST", TRANSFER) => {
                let (workspace, _) = self.elsewhere(caller).await;
                let path = route.path.replace("{ws}", &workspace);
                (path, Some(json!({"user": self.guest.user})))
            }
            ("DELETE", WS) => {
                let (workspace, name) = self.elsewhere(caller).await;
                let path = route.path.replace("{ws}", &workspace);
                (path, Some(json!({"confirm": name})))
            }
            ("PUT", POLICY_OF) => {
                let body = json!({
                    "production_changes": "direct", "approvals_needed": 2,
                    "self_approval": true, "key_rotation_days": 90,
                });
                (path(&[]), Some(body))
            }
            (_, HOLD) => {
                let body = json!({"reason": format!("case {}", number())});
                (path(&[]), Some(body))
            }
            ("PUT", LIMITS_OF) => {
                let members = 5_000 + number();
                (path(&[]), Some(json!({"members": members})))
            }
            ("POST", AUDITORS) => {
                self.reviewer_is(false).await;
                let Person { email, later, .. } = &self.reviewer;
                let body = json!({"email": email, "expires_at": later});
                (path(&[]), Some(body))
            }
            (_, ONE_AUDITOR) => {
                self.reviewer_is(true).await;
                let path = route.path.replace("{user}", &self.reviewer.user);
                (self.filled(&path, &[]), None)
            }
            ("POST", CAN) => {
                let body = json!({"principal": self.guest.user, "action": "member.invite"});
                (path(&[]), Some(body))
            }
            ("PATCH", ONE_MEMBER) => {
                self.guest_is_in().await;
                (path(&[]), Some(json!({"role": "viewer"})))
            }
            (_, ONE_MEMBER) => {
                self.guest_is_in().await;
                (path(&[]), None)
            }
            ("POST", INVITATIONS) => {
                let body = json!({"email": address("invitee"), "role": "viewer"});
                (path(&[]), Some(body))
            }
            (_, ONE_INVITATION | RESEND) => {
                let id = text(&self.invitation().await.body, "/id");
                (path(&[("{inv}", &id)]), None)
            }
            ("POST", "/v1/invitations/accept") => {
                let token = text(&self.invitation().await.body, "/token");
                let name = format!("Newcomer {}", number());
                let body = json!({"token": token, "name": name, "password": password()});
                (path(&[]), Some(body))
            }
            ("POST", "/v1/invitations/decline") => {
                let token = text(&self.invitation().await.body, "/token");
                (path(&[]), Some(json!({"token": token})))
            }
            // One that ends.
            (_, TAIL | TAIL_OF_ORGANIZATION) => (format!("{}?after=0&before=9", path(&[])), None),
            ("GET", "/v1/workspaces/{ws}/audit/{position}") => {
                let position = self
                    .an_entry(&self.team.path("/audit"), &self.team.owner)
                    .await;
                (path(&[("{position}", &position)]), None)
            }
            ("GET", "/v1/organizations/{org}/audit/{position}") => {
                let list = self.filled("/v1/organizations/{org}/audit", &[]);
                let position = self.an_entry(&list, &self.team.organization_owner).await;
                (path(&[("{position}", &position)]), None)
            }
            ("POST", CREWS) => {
                let name = format!("Client {} - Production", number());
                let body = json!({
                    "name": name, "environment": "production", "client": "Client",
                    "description": "What clients call.",
                });
                (path(&[]), Some(body))
            }
            ("PATCH", ONE_CREW) => {
                let crew = self.team.crew(&self.server, "production").await;
                let body = json!({"name": format!("Renamed {}", number())});
                (path(&[("{crew}", &crew)]), Some(body))
            }
            (_, ONE_CREW | ARCHIVE) => {
                let crew = self.team.crew(&self.server, "production").await;
                (path(&[("{crew}", &crew)]), None)
            }
            ("POST", AGENTS | PATHWAYS) => {
                let crew = self.team.crew(&self.server, "development").await;
                (path(&[("{crew}", &crew)]), Some(new_item()))
            }
            (
                method,
                AGENTS | ONE_AGENT | AGENT_VERSIONS | ONE_AGENT_VERSION | PATHWAYS | ONE_PATHWAY
                | PATHWAY_VERSIONS | ONE_PATHWAY_VERSION,
            ) => {
                let made = self.items(route.path).await;
                let [crew, item, version] = &made;
                let names = [
                    ("{crew}", crew.as_str()),
                    ("{agent}", item),
                    ("{pathway}", item),
                    ("{version}", version),
                ];
                (path(&names), (method == "PUT").then(new_item))
            }
            ("POST", BASES) => {
                let crew = self.team.crew(&self.server, "development").await;
                (path(&[("{crew}", &crew)]), Some(new_base()))
            }
            (method, BASES | ONE_BASE | DOCUMENTS | ONE_DOCUMENT | SEARCH) => {
                let [crew, base, document] = &self.documents().await;
                let names = [
                    ("{crew}", crew.as_str()),
                    ("{kb}", base),
                    ("{doc}", document),
                ];
                let (path, is_of_document) = (path(&names), route.path.contains("/documents"));
                match (method, route.path) {
                    ("GET", SEARCH) => (format!("{path}?q=hello"), None),
                    ("POST" | "PUT", _) if is_of_document => (path, Some(new_document())),
                    ("PUT", _) => (path, Some(new_base())),
                    _ => (path, None),
                }
            }
            ("GET", STATEMENTS) => {
                self.stated().await;
                (path(&[]), None)
            }
            ("GET", ONE_STATEMENT) => (path(&[("{month}", self.stated().await)]), None),
            ("POST", USAGE) => {
                let crew = self.team.crew(&self.server, "production").await;
                let record = json!({
                    "id": format!("call-{}", number()), "crew": crew, "meter": "messages",
                    "quantity": 3, "at": SystemSource.now().to_rfc3339(),
                });
                (path(&[]), Some(json!({"records": [record]})))
            }
            (method, ACTIVITY) => {
                let crew = self.team.crew(&self.server, "production").await;
                let path = path(&[("{crew}", &crew)]);
                if method == "GET" {
                    let call = self.server.post(&path).bearer(&self.team.owner.token);
                    call.json(new_activity()).await.expect(200);
                }
                (path, (method == "POST").then(new_activity))
            }
            ("POST", PHONE_NUMBERS | CHANNELS | ENDPOINTS | INTEGRATIONS) => {
                let crew = self.team.crew(&self.server, "development").await;
                let body = new_connection(kind_of(route.path));
                (path(&[("{crew}", &crew)]), Some(body))
            }
            (
                method,
                PHONE_NUMBERS | ONE_PHONE_NUMBER | CHANNELS | ONE_CHANNEL | ENDPOINTS
                | ONE_ENDPOINT | ROTATE_ENDPOINT | INTEGRATIONS | ONE_INTEGRATION,
            ) => {
                let kind = kind_of(route.path);
                let [crew, id] = &self.connections(kind).await;
                let names = [
                    ("{crew}", crew.as_str()),
                    ("{number}", id),
                    ("{channel}", id),
                    ("{endpoint}", id),
                    ("{integration}", id),
                ];
                let body = match (method, route.path) {
                    (_, ROTATE_ENDPOINT) => Some(json!({"grace_seconds": 60})),
                    ("PUT", _) => Some(new_connection(kind)),
                    _ => None,
                };
                (path(&names), body)
            }
            ("GET", EXPORT) => {
                let [crew, ..] = &self.items(AGENTS).await;
                (path(&[("{crew}", crew)]), None)
            }
            ("POST", COMPARE) => {
                let [crew, ..] = &self.items(AGENTS).await;
                (
                    path(&[("{crew}", crew)]),
                    Some(json!({"bundle": new_bundle()})),
                )
            }
            ("GET", CHANGELOG) => {
                let mut crew = String::new();
                for _ in 0..3 {
                    let (_, target) = self.promotion("apply", Some(&crew)).await;
                    crew = target;
                }
                (path(&[("{crew}", &crew)]), None)
            }
            ("POST", ROLL_OUT) => {
                let [crew, ..] = &self.items(AGENTS).await;
                let target = self.team.crew(&self.server, "development").await;
                let body = json!({"targets": [target], "reason": "To all clients"});
                (path(&[("{crew}", crew)]), Some(body))
            }
            ("POST", PROMOTIONS) => {
                let target = self.team.crew(&self.server, "development").await;
                let body = json!({"bundle": new_bundle(), "target": target, "reason": "New words"});
                (path(&[]), Some(body))
            }
            ("GET", PROMOTIONS) => {
                self.promotion("", None).await;
                (path(&[]), None)
            }
            (
                _,
                ONE_PROMOTION | APPROVE | REJECT | REFRESH | CANCEL | APPLY | VERIFY_PROMOTION
                | ROLL_BACK,
            ) => {
                let stage = match route.path {
                    APPLY => "approve",
                    VERIFY_PROMOTION | ROLL_BACK => "apply",
                    _ => "",
                };
                let (id, _) = self.promotion(stage, None).await;
                let checks = json!({"checks": [{"name": "A call", "outcome": "passed"}]});
                let body = (route.path == VERIFY_PROMOTION).then_some(checks);
                (path(&[("{promotion}", &id)]), body)
            }
            ("POST", REVIEWS) => (path(&[]), Some(self.new_review())),
            ("GET", REVIEWS) => {
                self.review().await;
                (path(&[]), None)
            }
            (_, ONE_REVIEW | DECISIONS | CLOSE_REVIEW | REPORT_REVIEW) => {
                let id = self.review().await;
                let item = &self.team.viewer.user;
                let decided = json!({"item": item, "decision": "keep", "reason": "Needed"});
                let body = json!({"decisions": [decided]});
                let body = (route.path == DECISIONS).then_some(body);
                (path(&[("{review}", &id)]), body)
            }
            ("POST", KEYS) => (path(&[]), Some(new_key())),
            ("POST", ORG_KEYS) => (path(&[]), Some(new_organization_key())),
            ("PATCH", ONE_KEY) => {
                let id = text(&self.key().await, "/id");
                let body = json!({"name": format!("Renamed {}", number())});
                (path(&[("{key}", &id)]), Some(body))
            }
            ("POST", ROTATE_KEY) => {
                let id = text(&self.key().await, "/id");
                let body = json!({"grace_seconds": 60});
                (path(&[("{key}", &id)]), Some(body))
            }
            ("POST", ROTATE_ORG_KEY) => {
                let id = text(&self.organization_key().await, "/id");
                let body = json!({"grace_seconds": 60});
                (path(&[("{key}", &id)]), Some(body))
            }
            (_, ONE_KEY) => {
                let id = text(&self.key().await, "/id");
                (path(&[("{key}", &id)]), None)
            }
            (_, ONE_ORG_KEY) => {
                let id = text(&self.organization_key().await, "/id");
                (path(&[("{key}", &id)]), None)
            }
            ("POST", VERIFY_KEY) => {
                let secret = text(&self.key().await, "/secret");
                (path(&[]), Some(json!({"key": secret})))
            }
            ("GET", "/v1/log/tile/{tile}") => (path(&[("{tile}", "0/000.p/1")]), None),
            ("GET", INCLUSION) => (format!("{INCLUSION}?position=1"), None),
            ("GET", CONSISTENCY) => (format!("{CONSISTENCY}?from=1"), None),
            ("POST", COSIGNATURES) => {
                let checkpoint = self.server.get("/v1/log/checkpoint").await.expect(200).text;
                let size: u64 = checkpoint
                    .lines()
                    .nth(1)
                    .map(|size| size.parse().expect("a size"))
                    .expect("a size");
                let line = witness::cosign(&checkpoint, 1_764_000_000);
                (path(&[]), Some(json!({"size": size, "signatures": [line]})))
            }
            ("GET", _) => (path(&[]), None),
            (method, path) => panic!("{method} {path} has no request in `World::fresh`"),
        };
        let method = route.method;
        Ask { method, path, body }
    }

    /// A development crew with three agents or pathways, the last of them in three versions: its
    /// id, and the last's with its version.
    async fn items(&self, path: &str) -> [String; 3] {
        let kind = match path.contains("agents") {
            true => "agents",
            false => "pathways",
        };
        let (server, token) = (&self.server, &self.team.owner.token);
        let crew = self.team.crew(server, "development").await;
        let list = self.team.path(&format!("/crews/{crew}/{kind}"));
        let mut made = Value::Null;
        for _ in 0..3 {
            let call = server.post(&list).bearer(token).json(new_item());
            made = call.await.expect(201).body;
        }
        let one = format!("{list}/{}", text(&made, "/id"));
        for _ in 0..2 {
            let call = server.put(&one).bearer(token).json(new_item());
            made = call.await.expect(200).body;
        }
        [crew, text(&made, "/id"), made["version"].to_string()]
    }

    /// A development crew with three connections of a kind: its id, and that of the last.
    async fn connections(&self, kind: &str) -> [String; 2] {
        let (server, token) = (&self.server, &self.team.owner.token);
        let crew = self.team.crew(server, "development").await;
        let list = self.team.path(&format!("/crews/{crew}/{kind}"));
        let mut made = Value::Null;
        for _ in 0..3 {
            let call = server.post(&list).bearer(token).json(new_connection(kind));
            made = call.await.expect(201).body;
        }
        [crew, text(&made, "/id")]
    }

    /// A development crew with three knowledge bases, the last of them with three documents: its
    /// id, and those of the last of both.
    async fn documents(&self) -> [String; 3] {
        let (server, token) = (&self.server, &self.team.owner.token);
        let crew = self.team.crew(server, "development").await;
        let list = self.team.path(&format!("/crews/{crew}/knowledge-bases"));
        let make = async |list: &str, body: fn() -> Value| {
            let mut made = Value::Null;
            for _ in 0..3 {
                let call = server.post(list).bearer(token).json(body());
                made = call.await.expect(201).body;
            }
            text(&made, "/id")
        };
        let base = make(&list, new_base).await;
        let document = make(&format!("{list}/{base}/documents"), new_document).await;
        [crew, base, document]
    }

    /// A campaign over the members, of whom the owner and the admin review.
    fn new_review(&self) -> Value {
        let team = &self.team;
        json!({
            "name": format!("Review {}", number()),
            "scope": {"principals": ["members"]},
            "reviewers": [team.owner.user, team.admin.user],
            "due_at": team.owner.later, "undecided": "keep",
        })
    }

    pub async fn review(&self) -> String {
        let call = self.server.post(&self.team.path("/access-reviews"));
        let call = call.bearer(&self.team.owner.token).json(self.new_review());
        text(&call.await.expect(201).body, "/id")
    }

    /// A promotion into a development crew, which the member proposed; as far as it is asked for.
    async fn promotion(&self, stage: &str, target: Option<&str>) -> (String, String) {
        let (server, team) = (&self.server, &self.team);
        let target = match target.filter(|target| !target.is_empty()) {
            Some(target) => target.to_owned(),
            None => team.crew(server, "development").await,
        };
        let body = json!({"bundle": new_bundle(), "target": target, "reason": "New words"});
        let call = server.post(&team.path("/promotions"));
        let made = call.bearer(&team.member.token).json(body).await.expect(201);
        let id = text(&made.body, "/id");
        for step in ["approve", "apply"] {
            if stage.is_empty() {
                break;
            }
            let path = team.path(&format!("/promotions/{id}/{step}"));
            for person in [&team.owner, &team.admin] {
                let call = server.post(&path).bearer(&person.token).await;
                let is_again = step == "apply" && call.status == 409;
                assert!(call.status == 200 || is_again, "{step}: {}", call.text);
            }
            if step == stage {
                break;
            }
        }
        (id, target)
    }

    fn new_account(&self) -> Value {
        json!({
            "email": address("new"),
            "password": password(),
            "name": format!("New {}", number()),
            "organization": {"name": format!("Org {}", number())},
            "workspace": {"name": format!("Team {}", number()), "plan": "team"},
        })
    }

    async fn guest_is_in(&self) {
        let path = self.team.path(&format!("/members/{}", self.guest.user));
        let reply = self.server.get(&path).bearer(&self.team.owner.token).await;
        if reply.status == 404 {
            let team = &self.team;
            let email = &self.guest.email;
            let token = invited(&self.server, &team.workspace, &team.owner, email, "viewer").await;
            accept(&self.server, &self.guest, &token).await.expect(200);
        }
    }

    /// Sees to it that the reviewer has a grant, or has none.
    async fn reviewer_is(&self, granted: bool) {
        let (server, team) = (&self.server, &self.team);
        let path = team.path(&format!("/auditors/{}", self.reviewer.user));
        let found = server.get(&path).bearer(&team.owner.token).await;
        match (found.status, granted) {
            (404, true) => {
                let call = grant(server, &team.workspace, &team.owner, &self.reviewer);
                call.await.expect(201);
            }
            (200, false) => {
                server
                    .delete(&path)
                    .bearer(&team.owner.token)
                    .await
                    .expect(204);
            }
            (404, false) | (200, true) => {}
            (status, _) => panic!("a grant is read with {status}"),
        }
    }

    fn operated(&self) -> &Operated {
        self.server.operated().expect("a store with an operator")
    }

    /// The path to suspend the operator's organization, or let it go on, when it is not, or is,
    /// suspended.
    async fn standing(&self, route: &Route, is_suspended: bool) -> String {
        let operated = self.operated();
        let before = match is_suspended {
            true => SUSPEND,
            false => RESUME,
        };
        let path = |of: &str| of.replace("{org}", &operated.organization);
        let call = self.server.post(&path(before)).bearer(&operated.secret);
        call.json(why()).await.expect(200);
        path(route.path)
    }

    /// The `ETag` of what an operator's request would change.
    pub async fn operators_version(&self, ask: &Ask) -> String {
        let operated = self.operated();
        if let Some(version) = operated.version_of(&ask.path) {
            return format!("\"{version}\"");
        }
        // What changes nothing tells it as well.
        let path = match ask.path.ends_with("/resume") {
            true => ask.path.replace("/resume", "/suspend"),
            false => ask.path.replace("/suspend", "/resume"),
        };
        let call = self.server.post(&path).bearer(&operated.secret);
        let told = call.json(why()).await.expect(200);
        told.header("etag").expect("a version").to_owned()
    }

    /// A workspace that can be handed over or deleted: with its owner and the guest, and
    /// with the caller as what they are in the team's own; and its name.
    async fn elsewhere(&self, caller: &Person) -> (String, String) {
        let (server, team) = (&self.server, &self.team);
        let maker = &team.organization_owner;
        let name = format!("Elsewhere {}", number());
        let path = format!("/v1/organizations/{}/workspaces", team.organization);
        let made = server.post(&path).bearer(&maker.token);
        let made = made.json(json!({"name": name})).await.expect(201);
        let workspace = text(&made.body, "/id");
        for (person, role) in [
            (&team.owner, "owner"),
            (&self.guest, "viewer"),
            (&team.admin, "admin"),
            (&team.member, "member"),
            (&team.viewer, "viewer"),
        ] {
            if person.user == caller.user || [&team.owner, &self.guest].contains(&person) {
                let token = invited(server, &workspace, maker, &person.email, role).await;
                accept(server, person, &token).await.expect(200);
            }
        }
        if caller.user == team.auditor.user {
            grant(server, &workspace, maker, caller).await.expect(201);
        }
        let own = format!("/v1/workspaces/{workspace}/members/{}", maker.user);
        server.delete(&own).bearer(&maker.token).await.expect(204);
        (workspace, name)
    }

    /// A new invitation of somebody without an account.
    pub async fn invitation(&self) -> Reply {
        let (team, email) = (&self.team, address("invitee"));
        let reply = invite(&self.server, &team.workspace, &team.owner, &email, "viewer");
        reply.await.expect(201)
    }

    /// A new production key of the workspace.
    pub async fn key(&self) -> Value {
        let call = self.server.post(&self.team.path("/api-keys"));
        let reply = call.bearer(&self.team.owner.token).json(new_key());
        reply.await.expect(201).body
    }

    pub async fn organization_key(&self) -> Value {
        let path = self.filled(ORG_KEYS, &[]);
        let call = self.server.post(&path).json(new_organization_key());
        let reply = call.bearer(&self.team.organization_owner.token);
        reply.await.expect(201).body
    }

    async fn an_entry(&self, list: &str, reader: &Person) -> String {
        let page = self
            .server
            .get(&format!("{list}?limit=1"))
            .bearer(&reader.token)
            .await
            .expect(200);
        page.body["data"][0]["position"].to_string()
    }

    /// The request, by nobody yet.
    pub fn send(&self, ask: &Ask) -> Call {
        ask.to(&self.server)
    }
}

/// What a crew used of `messages` in a month that is over, as a server that was stopped since then
/// would have it: one record for each quantity. The month is due.
pub async fn usage_of_then(
    server: &Server,
    team: &Team,
    crew: &str,
    month: &str,
    quantities: &[u64],
) {
    let [workspace, organization] = [&team.workspace, &team.organization];
    let first = DateTime::parse_from_rfc3339(&format!("{month}-01T00:00:00Z")).expect("a time");
    let at = first.timestamp_micros();
    let opened = format!(
        "INSERT INTO usage_months (workspace, month, organization, closes_at)
         VALUES ('{workspace}', '{month}', '{organization}', 1)"
    );
    let record = |(place, quantity): (usize, &u64)| {
        format!(
            "INSERT INTO usage_records (workspace, id, month, crew, meter, quantity, at)
             VALUES ('{workspace}', '{month}-{place}', '{month}', '{crew}', 'messages',
                     {quantity}, {at})"
        )
    };
    let records = quantities.iter().enumerate().map(record);
    // One transaction: a month is not closed between.
    let begun = ["BEGIN".to_owned()]
        .into_iter()
        .chain(records)
        .chain([opened]);
    let all: Vec<_> = begun.chain(["COMMIT".to_owned()]).collect();
    server.behind_its_back(&all).await;
}

/// What an operator always says.
fn why() -> Value {
    json!({"reason": "a walk over all routes"})
}

fn new_key() -> Value {
    json!({
        "name": format!("Key {}", number()), "environment": "production",
        "scopes": ["audit:read"],
    })
}

fn new_item() -> Value {
    json!({
        "name": format!("Item {}", number()),
        "config": {"prompt": "Hello", "tools": [{"$slot": "integration/crm"}], "n": number()},
    })
}

fn new_base() -> Value {
    json!({"name": format!("Base {}", number())})
}

fn new_document() -> Value {
    json!({"title": format!("Document {}", number()), "text": format!("Hello {}", number())})
}

fn new_bundle() -> Value {
    let agent = json!({"prompt": "Hello", "steps": [{"id": "a", "n": number()}]});
    let name = format!("Agent {}", number());
    json!({
        "format": "crewlog/bundle/1", "agents": {name: agent},
        "pathways": {"Intake": {"n": number()}},
    })
}

/// Three records that happened just now.
fn new_activity() -> Value {
    let at = SystemSource.now().to_rfc3339();
    let record = |_| {
        json!({
            "id": format!("record-{}", number()), "at": at, "kind": "call.ended",
            "level": "info", "message": "Hello", "data": {"seconds": 3},
        })
    };
    json!({"records": (0..3).map(record).collect::<Vec<_>>()})
}

/// What a route below a crew is about.
pub fn kind_of(path: &str) -> &str {
    let inside = path.split("/{crew}/").nth(1).expect("a route below a crew");
    inside.split('/').next().unwrap_or(inside)
}

/// A connection that nobody else has.
pub fn new_connection(kind: &str) -> Value {
    let which = number();
    match kind {
        "phone-numbers" => json!({"number": phone_number(which)}),
        "channels" => json!({"kind": "email", "address": format!("inbox-{which}@example.com")}),
        "webhook-endpoints" => json!({
            "url": format!("https://hooks.example.com/{which}"), "events": ["call.ended"],
        }),
        "integrations" => json!({
            "name": format!("crm-{which}"), "kind": "salesforce",
            "account": format!("acme-{which}"),
            "credentials": {"token": format!("their token {which}")},
        }),
        kind => panic!("{kind} are no connections"),
    }
}

/// One of some million numbers that can be called.
pub fn phone_number(which: impl Into<u64>) -> String {
    format!("+1202{}", 3_000_000 + which.into() % 1_000_000)
}

fn new_organization_key() -> Value {
    json!({"name": format!("Key {}", number()), "scopes": ["workspaces:create"]})
}

impl Ask {
    /// The request, without its body.
    pub fn bare(&self, server: &Server) -> Call {
        let method = Method::from_bytes(self.method.as_bytes()).expect("a method");
        server.call(method, &self.path)
    }

    pub fn to(&self, server: &Server) -> Call {
        let call = self.bare(server);
        match &self.body {
            Some(body) => call.json(body),
            None => call,
        }
    }

    /// The same with another path.
    pub fn at(&self, path: String) -> Self {
        Self {
            path,
            ..self.clone()
        }
    }

    /// The same with another body.
    pub fn saying(&self, body: Value) -> Self {
        Self {
            body: Some(body),
            ..self.clone()
        }
    }
}

/// That a reply is a problem of this status and code, complete, and says nothing of our insides.
#[track_caller]
pub fn problem(reply: &Reply, status: u16, code: &str) {
    let Reply { request, text, .. } = reply;
    assert_eq!(
        (reply.status, reply.body["code"].as_str()),
        (status, Some(code)),
        "{request}: {text}"
    );
    whole_problem(reply);
}

/// That a reply is a complete problem and says nothing of our insides.
#[track_caller]
pub fn whole_problem(reply: &Reply) {
    let Reply {
        request,
        text,
        body,
        status,
        ..
    } = reply;
    assert!(*status >= 400, "{request} is refused: {status} {text}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{request}: {text}"
    );
    let allowed = [
        "type",
        "title",
        "status",
        "detail",
        "code",
        "request_id",
        "errors",
    ];
    let fields = body.as_object().expect("a problem is an object");
    for name in fields.keys() {
        assert!(
            allowed.contains(&name.as_str()),
            "{request}: {name} in {text}"
        );
    }
    for name in &allowed[..6] {
        assert!(fields.contains_key(*name), "{request}: no {name} in {text}");
    }
    let code = body["code"].as_str().expect("a code");
    assert_eq!(
        body["type"],
        format!("/problems/{code}"),
        "{request}: {text}"
    );
    assert_eq!(body["status"], *status, "{request}: {text}");
    assert_eq!(
        body["request_id"].as_str(),
        reply.header("x-request-id"),
        "{request}: {text}"
    );
    let unsigned = *status == 401;
    assert_eq!(
        reply.header("www-authenticate").is_some(),
        unsigned,
        "{request}: WWW-Authenticate with {status}"
    );
    let busy = matches!(status, 429 | 503);
    assert!(
        !busy || reply.header("retry-after").is_some(),
        "{request}: Retry-After with {status}"
    );
    for inside in [
        "SELECT ",
        "INSERT ",
        "UPDATE ",
        "DELETE FROM",
        "log_head",
        "documents_",
        "session_tokens",
        "sqlx",
        "rusqlite",
        "panicked",
        "src/",
        "postgres://",
    ] {
        assert!(
            !text.contains(inside),
            "{request} tells of {inside}: {text}"
        );
    }
}

/// That one of the errors in a body is at this place.
#[track_caller]
pub fn points_at(reply: &Reply, pointer: &str, codes: &[&str]) {
    problem(reply, 422, "invalid_body");
    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
    let there = errors.iter().any(|error| {
        error["pointer"] == pointer
            && error["code"]
                .as_str()
                .is_some_and(|code| codes.contains(&code))
            && error["detail"].is_string()
    });
    assert!(
        there,
        "{}: none of {codes:?} at {pointer:?} in {}",
        reply.request, reply.text
    );
}
