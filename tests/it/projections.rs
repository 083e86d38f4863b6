//! The read models equal a fold of the log that shares no code with the one that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crewlog::domain::Name;
use crewlog::domain::Timestamp;
use crewlog::domain::attempts::{Attempts, AttemptsCommand};
use crewlog::domain::authority::{Actor, OrganizationRole, Permission, Role};
use crewlog::domain::contents::{Content, Digest};
use crewlog::domain::crew::{
    Connection, ConnectionCommand, ConnectionKind, Crew, CrewCommand, CrewPlace, CrewProfile,
    DescriptionChange, Item, ItemChange, ItemCommand, ItemId, KnowledgeCommand, ProfileChange,
};
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::{
    AgentId, CredentialId, CrewId, DocumentId, EventId, InvitationId, KnowledgeBaseId, PathwayId,
    PrincipalId, PromotionId, ReviewId, SessionId, UserId,
};
use crewlog::domain::organization::{Organization, OrganizationCommand};
use crewlog::domain::plans::Quotas;
use crewlog::domain::promotion::{
    ApprovalTerms, CheckOutcome, CheckResult, Circumstances, Promotion, PromotionCommand,
    PromotionSource, Review, ScheduleEnd,
};
use crewlog::domain::review::{
    DecideAccess, Decision, Finding, Review as AccessReview, ReviewCommand, ReviewTerms, Reviewed,
    Settlement, Undecided,
};
use crewlog::domain::sealed::{KeyOwner, Sealed};
use crewlog::domain::user::{User, UserCommand};
use crewlog::domain::workspace::{Policy, Workspace, WorkspaceCommand};
use crewlog::journal::stores::{
    self, AUDIT_COLUMNS, AuditRow, AuditRows, Sheet, Statement, Store, StoreKind,
};
use crewlog::journal::{JournalSettings, Source, StreamRef, SubmitError, Unit};
use crewlog::projections::audit_index::{self, Column, Order, Search};
use crewlog::projections::{self, By, Crews, Engine, check, rebuild};
use serde_json::{Value, json};

use crate::support::journal::{
    Fixture, Person, Team, command, done, name, open_store, organization_stream, rename,
    token_hash, unit,
};
use crate::support::ledger;
use crate::support::scratch;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both(
            "projections",
            "documents_are_the_log",
            documents_are_the_log,
        ),
        both("projections", "a_check_finds_what_was_changed", check_finds),
        both("projections", "a_rebuild_restores", rebuild_restores),
        both(
            "projections",
            "how_far_the_audit_index_is_cannot_be_told",
            index_and_tail,
        ),
        both(
            "projections",
            "no_search_of_the_audit_index_reads_all_of_it",
            index_plans,
        ),
        both(
            "projections",
            "what_somebody_did_is_found_along_what_they_did",
            deeds_plans,
        ),
        both(
            "projections",
            "no_list_of_documents_reads_all_of_them",
            list_plans,
        ),
        both(
            "projections",
            "a_search_looks_at_so_many_rows",
            bounded_search,
        ),
        both(
            "projections",
            "two_bring_the_audit_index_on_as_one",
            indexed_by_two,
        ),
        both(
            "projections",
            "a_rebuild_goes_on_beside_writers",
            rebuild_beside_writers,
        ),
        both(
            "projections",
            "a_broken_rebuild_is_put_away",
            broken_rebuild,
        ),
        both(
            "projections",
            "lists_and_deadlines_are_found",
            found_by_columns,
        ),
        both(
            "projections",
            "a_newer_projection_is_left_alone",
            newer_projection,
        ),
    ]
}

/// Documents by key, as JSON.
pub type Documents = BTreeMap<String, Value>;

/// Every read model, as the log's rows say, without any type of the program.
#[derive(Debug, Default)]
struct Naive {
    documents: BTreeMap<&'static str, Documents>,
    /// Position, organization, workspace, actor, action, target, outcome.
    audit: Vec<[Option<String>; 7]>,
}

/// A row of the log.
struct Entry {
    position: u64,
    sequence: u64,
    recorded_at: i64,
    kind: String,
    stream: String,
    id: String,
    scope: String,
    event_type: String,
    body: Value,
    metadata: Value,
}

impl Naive {
    async fn of(store: &dyn Store) -> Self {
        let sql = "SELECT position, sequence, recorded_at, aggregate_type, aggregate_id, id,
                          event_type, CAST(payload AS TEXT), CAST(metadata AS TEXT), scope
                     FROM events ORDER BY position";
        let mut naive = Self::default();
        for name in projections::names() {
            if name != "audit" {
                naive.documents.insert(name, Documents::new());
            }
        }
        for row in store.query(sql, vec![]).await.expect("the log") {
            let text = |column| row.text(column).expect("text").to_owned();
            let json = |column| -> Value { serde_json::from_str(&text(column)).expect("JSON") };
            let (event_type, payload) = (text(6), json(7));
            naive.take(&Entry {
                position: row.count(0).expect("a position"),
                sequence: row.count(1).expect("a sequence"),
                recorded_at: row.integer(2).expect("a time"),
                kind: text(3),
                stream: text(4),
                id: text(5),
                scope: text(9),
                body: payload[&event_type].clone(),
                metadata: json(8),
                event_type,
            });
        }
        naive
    }

    fn take(&mut self, entry: &Entry) {
        self.audit.push(audit_row(entry));
        match entry.kind.as_str() {
            "user" => self.user(entry),
            "organization" => self.organization(entry),
            "workspace" => self.workspace(entry),
            "crew" => self.crew(entry),
            "promotion" => self.promotion(entry),
            "review" => self.review(entry),
            "attempts" => {}
            "installation" => self.installation(entry),
            other => panic!("an aggregate of the type {other}"),
        }
    }

    fn put(&mut self, projection: &str, key: impl Into<String>, document: Value) {
        let documents = self.documents.get_mut(projection).expect(projection);
        documents.insert(key.into(), document);
    }

    fn change(&mut self, projection: &str, key: &str, change: impl FnOnce(&mut Value)) {
        let documents = self.documents.get_mut(projection).expect(projection);
        change(documents.get_mut(key).expect(key));
    }

    fn remove(&mut self, projection: &str, key: &str) {
        let documents = self.documents.get_mut(projection).expect(projection);
        documents.remove(key).expect(key);
    }

    /// Whatever gives access to a workspace goes; how invitations ended stays.
    fn workspace_deleted(&mut self, entry: &Entry) {
        let workspace = entry.stream.as_str();
        let keys = self.documents.get_mut("api_keys").expect("keys");
        let of_workspace =
            |key: &&mut Value| key["workspace"] == workspace && key["ended"].is_null();
        for key in keys.values_mut().filter(of_workspace) {
            key["ended"] = json!("revoked");
            entry.stamp(key);
        }
        self.remove("workspaces", workspace);
        self.remove("policies", workspace);
        self.remove("limits", workspace);
        for crew in body_list(&entry.body["crews"]) {
            self.remove("crews", &crew);
        }
        for projection in ["members", "auditors"] {
            let documents = self.documents.get_mut(projection).expect(projection);
            documents.retain(|_, document| document["workspace"] != workspace);
        }
        let invitations = self.documents.get_mut("invitations").expect("invitations");
        invitations.retain(|_, document| {
            document["workspace"] != workspace || document["status"] != "pending"
        });
    }

    fn person(&mut self, entry: &Entry, realm: &str, user: &str, field: &str) {
        let key = format!("{realm}/{user}/{field}/{:020}", entry.position);
        let document = json!({
            "realm": realm, "user": user, "field": field, "since": entry.position,
            "value": {"event": entry.id, "field": field, "sealed": entry.body[field]},
        });
        self.put("people", key, document);
    }

    fn user(&mut self, entry: &Entry) {
        let (user, body) = (entry.stream.as_str(), &entry.body);
        match entry.event_type.as_str() {
            "user_signed_up" => {
                for field in ["name", "email"] {
                    self.person(entry, "account", user, field);
                }
                let document = json!({
                    "id": user, "version": 1, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "profile_shared": 0, "sessions": {},
                });
                self.put("users", user, document);
            }
            "user_renamed" | "user_email_changed" => {
                let field = if entry.event_type == "user_renamed" {
                    "name"
                } else {
                    "email"
                };
                self.person(entry, "account", user, field);
                self.change("users", user, |document| entry.stamp(document));
            }
            "user_profile_shared" => self.change("users", user, |document| {
                document["profile_shared"] = body["profile_sequence"].clone();
            }),
            "session_started" => self.change("users", user, |document| {
                let sessions = document["sessions"].as_object_mut().expect("sessions");
                let started = body["started_at"].as_i64();
                sessions.retain(|_, session| session["expires_at"].as_i64() > started);
                let session = json!({
                    "started_at": body["started_at"], "expires_at": body["expires_at"],
                    "version": entry.sequence,
                });
                sessions.insert(text(&body["session"]), session);
            }),
            "session_revoked" => self.change("users", user, |document| {
                let sessions = document["sessions"].as_object_mut().expect("sessions");
                sessions.remove(&text(&body["session"]));
            }),
            "user_erased" => self.change("users", user, |document| {
                document["sessions"] = json!({});
                document["profile_shared"] = json!(entry.sequence);
                entry.stamp(document);
            }),
            "sign_in_failed" | "password_changed" => {}
            other => panic!("a user event {other}"),
        }
    }

    fn organization(&mut self, entry: &Entry) {
        let (organization, body) = (entry.stream.as_str(), &entry.body);
        match entry.event_type.as_str() {
            "organization_created" => {
                let document = json!({
                    "id": organization, "version": 1, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "name": body["name"], "suspended_at": null,
                });
                self.put("organizations", organization, document);
            }
            "organization_renamed" => self.change("organizations", organization, |document| {
                document["name"] = body["to"].clone();
                entry.stamp(document);
            }),
            "organization_suspended" => self.change("organizations", organization, |document| {
                document["suspended_at"] = body["suspended_at"].clone();
                entry.stamp(document);
            }),
            "organization_resumed" => self.change("organizations", organization, |document| {
                document["suspended_at"] = Value::Null;
                entry.stamp(document);
            }),
            "organization_member_added" => {
                let user = text(&body["user"]);
                let document = json!({
                    "organization": organization, "user": user, "role": body["role"],
                    "since": entry.recorded_at, "updated_at": entry.recorded_at,
                    "version": entry.sequence, "granted_at": entry.position,
                });
                self.put(
                    "organization_members",
                    format!("{organization}/{user}"),
                    document,
                );
            }
            "organization_member_role_changed" => {
                let key = format!("{organization}/{}", text(&body["user"]));
                self.change("organization_members", &key, |document| {
                    document["role"] = body["to"].clone();
                    document["granted_at"] = json!(entry.position);
                    entry.stamp(document);
                });
            }
            "organization_member_removed" => {
                let key = format!("{organization}/{}", text(&body["user"]));
                self.remove("organization_members", &key);
            }
            "person_recorded" => {
                for field in ["name", "email"] {
                    self.person(entry, organization, &text(&body["user"]), field);
                }
            }
            "workspace_hold_began"
            | "workspace_hold_ended"
            | "person_erasure_scheduled"
            | "person_erased" => {}
            of_key if of_key.starts_with("organization_key_") => self.key(entry),
            other => panic!("an organization event {other}"),
        }
    }

    fn workspace(&mut self, entry: &Entry) {
        let (workspace, body) = (entry.stream.as_str(), &entry.body);
        let member = format!("{workspace}/{}", body["user"].as_str().unwrap_or_default());
        let invitation = body["invitation"].as_str().unwrap_or_default();
        match entry.event_type.as_str() {
            "workspace_created" => {
                let document = json!({
                    "id": workspace, "version": 1, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "organization": body["organization"],
                    "name": body["name"], "plan": null, "created_by": body["created_by"],
                });
                self.put("workspaces", workspace, document);
                let policy = json!({
                    "production_changes": "promotion_only", "approvals_needed": 1,
                    "self_approval": false, "key_rotation_days": null,
                });
                let document = json!({
                    "workspace": workspace, "version": 1, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "policy": policy,
                });
                self.put("policies", workspace, document);
                let limits = json!({
                    "members": null, "crews_per_environment": null, "api_keys": null,
                    "requests_per_minute": null,
                });
                let document = json!({
                    "workspace": workspace, "version": 1, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "plan": null, "limits": limits,
                });
                self.put("limits", workspace, document);
            }
            "workspace_renamed" | "plan_selected" => {
                let what = if entry.event_type == "plan_selected" {
                    "plan"
                } else {
                    "name"
                };
                self.change("workspaces", workspace, |document| {
                    document[what] = body["to"].clone();
                    entry.stamp(document);
                });
                if what == "plan" {
                    self.change("limits", workspace, |document| {
                        document["plan"] = body["to"].clone();
                        entry.stamp(document);
                    });
                }
            }
            "member_joined" => {
                let document = json!({
                    "workspace": workspace, "organization": entry.metadata["organization"],
                    "user": body["user"], "role": body["role"], "since": entry.recorded_at,
                    "updated_at": entry.recorded_at, "version": entry.sequence,
                    "invited_by": body["source"]["invitation"]["invited_by"],
                    "granted_at": entry.position, "limit": null,
                });
                self.put("members", member, document);
            }
            "member_role_changed" => self.change("members", &member, |document| {
                document["role"] = body["to"].clone();
                document["granted_at"] = json!(entry.position);
                document["limit"] = Value::Null;
                entry.stamp(document);
            }),
            "workspace_recovered" if body["from"].is_null() => {
                let document = json!({
                    "workspace": workspace, "organization": entry.metadata["organization"],
                    "user": body["user"], "role": "owner", "since": entry.recorded_at,
                    "updated_at": entry.recorded_at, "version": entry.sequence,
                    "invited_by": null, "granted_at": entry.position, "limit": null,
                });
                self.put("members", member, document);
            }
            "workspace_recovered" => self.change("members", &member, |document| {
                document["role"] = json!("owner");
                document["granted_at"] = json!(entry.position);
                document["limit"] = Value::Null;
                entry.stamp(document);
            }),
            "member_removed" | "member_left" => self.remove("members", &member),
            "membership_limited" => self.change("members", &member, |document| {
                document["limit"] = json!({
                    "until": body["until"], "afterwards": body["afterwards"],
                    "decided_at": entry.position,
                });
                entry.stamp(document);
            }),
            "membership_limit_lifted" => self.change("members", &member, |document| {
                document["limit"] = Value::Null;
                entry.stamp(document);
            }),
            "membership_limit_reached" if body["afterwards"].is_null() => {
                self.remove("members", &member);
            }
            "membership_limit_reached" => self.change("members", &member, |document| {
                document["role"] = body["afterwards"].clone();
                document["granted_at"] = document["limit"]["decided_at"].clone();
                document["limit"] = Value::Null;
                entry.stamp(document);
            }),
            "auditor_granted" => {
                let document = json!({
                    "workspace": workspace, "organization": entry.metadata["organization"],
                    "user": body["user"], "since": entry.recorded_at,
                    "expires_at": body["expires_at"], "granted_by": body["granted_by"],
                    "version": entry.sequence, "granted_at": entry.position,
                });
                self.put("auditors", member, document);
            }
            "auditor_revoked" | "auditor_expired" => self.remove("auditors", &member),
            "policy_changed" => self.change("policies", workspace, |document| {
                document["policy"] = body["to"].clone();
                entry.stamp(document);
            }),
            "limits_changed" => self.change("limits", workspace, |document| {
                document["limits"] = body["to"].clone();
                entry.stamp(document);
            }),
            "usage_month_closed" => {
                let statement = &body["statement"];
                let key = format!("{workspace}/{}", text(&statement["month"]));
                let document = json!({
                    "workspace": workspace, "organization": entry.metadata["organization"],
                    "version": entry.sequence, "created_at": entry.recorded_at,
                    "statement": statement,
                });
                self.put("statements", key, document);
            }
            "ownership_transferred" | "crew_listed" | "crew_unlisted" => {}
            "legal_hold_placed" | "legal_hold_lifted" => {}
            "workspace_deleted" => self.workspace_deleted(entry),
            "member_invited" => {
                let document = json!({
                    "id": invitation, "version": entry.sequence, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "workspace": workspace,
                    "organization": entry.metadata["organization"],
                    "email": {"event": entry.id, "field": "email", "sealed": body["email"]},
                    "role": body["role"], "invited_by": body["invited_by"], "status": "pending",
                    "expires_at": body["expires_at"], "token_hash": body["token_hash"],
                    "accepted_by": null,
                });
                self.put("invitations", invitation, document);
            }
            "invitation_resent" => self.change("invitations", invitation, |document| {
                document["token_hash"] = body["token_hash"].clone();
                document["expires_at"] = body["expires_at"].clone();
                entry.stamp(document);
            }),
            of_key if of_key.starts_with("api_key_") => self.key(entry),
            ended => {
                let status = ended
                    .strip_prefix("invitation_")
                    .expect("an invitation event");
                self.change("invitations", invitation, |document| {
                    document["status"] = json!(status);
                    if status == "accepted" {
                        document["accepted_by"] = body["user"].clone();
                    }
                    entry.stamp(document);
                });
            }
        }
    }
}

impl Naive {
    fn installation(&mut self, entry: &Entry) {
        let (key, body) = (text(&entry.body["key"]), &entry.body);
        match entry.event_type.as_str() {
            "operator_key_created" => {
                self.key_name(entry, &key, &body["name"]);
                let document = json!({
                    "id": key, "name": body["name"], "created_at": entry.recorded_at,
                    "token_hash": body["token_hash"], "prefix": body["prefix"],
                    "expires_at": body["expires_at"], "revoked_at": null,
                });
                self.put("operator_keys", key, document);
            }
            "operator_key_revoked" => self.change("operator_keys", &key, |document| {
                document["revoked_at"] = json!(entry.recorded_at);
            }),
            other => panic!("an event of the installation {other}"),
        }
    }

    fn key_name(&mut self, entry: &Entry, key: &str, name: &Value) {
        let document = json!({"key": key, "since": entry.position, "name": name});
        self.put(
            "key_names",
            format!("{key}/{:020}", entry.position),
            document,
        );
    }

    fn crew(&mut self, entry: &Entry) {
        let (crew, body) = (entry.stream.as_str(), &entry.body);
        match entry.event_type.as_str() {
            "crew_created" => {
                let document = json!({
                    "place": body["crew"], "version": entry.sequence,
                    "created_at": entry.recorded_at, "updated_at": entry.recorded_at,
                    "organization": body["organization"], "workspace": body["workspace"],
                    "profile": body["profile"], "status": "active",
                    "description": entry.sealed("description", &body["description"]),
                });
                self.put("crews", crew, document);
            }
            "crew_updated" => self.change("crews", crew, |document| {
                document["profile"] = body["to"].clone();
                if !(body["previous"].is_null() && body["description"].is_null()) {
                    let description = entry.sealed("description", &body["description"]);
                    document["description"] = description;
                }
                entry.stamp(document);
            }),
            "crew_archived" => self.change("crews", crew, |document| {
                document["status"] = json!("archived");
                entry.stamp(document);
            }),
            "agent_removed" | "pathway_removed" | "agent_created" | "pathway_created"
            | "agent_updated" | "pathway_updated" => {
                self.item(entry, body);
                self.contents(entry);
            }
            "crew_promoted" | "crew_rolled_back" => {
                for change in body["changes"].as_array().expect("changes") {
                    self.item(entry, change);
                }
                self.contents(entry);
            }
            "connection_added" => {
                let document = json!({
                    "id": body["connection"], "crew": crew, "workspace": entry.scope,
                    "version": entry.sequence, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "connection": body["to"],
                });
                self.put("crew_connections", text(&body["connection"]), document);
            }
            "connection_changed" => {
                self.change("crew_connections", &text(&body["connection"]), |document| {
                    document["connection"] = body["to"].clone();
                    entry.stamp(document);
                });
            }
            "connection_removed" => {
                self.remove("crew_connections", &text(&body["connection"]));
            }
            "knowledge_base_created" => {
                let document = json!({
                    "id": body["knowledge_base"], "crew": crew, "workspace": entry.scope,
                    "version": entry.sequence, "created_at": entry.recorded_at,
                    "updated_at": entry.recorded_at, "base": body["to"],
                });
                self.put("knowledge_bases", text(&body["knowledge_base"]), document);
            }
            "knowledge_base_updated" => {
                self.change(
                    "knowledge_bases",
                    &text(&body["knowledge_base"]),
                    |document| {
                        document["base"] = body["to"].clone();
                        entry.stamp(document);
                    },
                );
            }
            "knowledge_base_removed" => {
                self.remove("knowledge_bases", &text(&body["knowledge_base"]));
                for document in body["documents"].as_array().expect("documents") {
                    self.remove("knowledge_documents", &text(document));
                }
            }
            "document_created" => {
                let document = json!({
                    "id": body["document"], "knowledge_base": body["knowledge_base"],
                    "crew": crew, "workspace": entry.scope, "version": entry.sequence,
                    "created_at": entry.recorded_at, "updated_at": entry.recorded_at,
                    "document": body["to"],
                });
                self.put("knowledge_documents", text(&body["document"]), document);
            }
            "document_updated" => {
                self.change(
                    "knowledge_documents",
                    &text(&body["document"]),
                    |document| {
                        document["document"] = body["to"].clone();
                        entry.stamp(document);
                    },
                );
            }
            "document_removed" => {
                self.remove("knowledge_documents", &text(&body["document"]));
            }
            "credential_set" => {
                self.change("crew_connections", &text(&body["connection"]), |document| {
                    document["credential"] =
                        json!({"set_at": entry.recorded_at, "former_until": body["from_until"]});
                    entry.stamp(document);
                });
            }
            "credential_removed" => {
                self.change("crew_connections", &text(&body["connection"]), |document| {
                    document
                        .as_object_mut()
                        .expect("a document")
                        .remove("credential");
                    entry.stamp(document);
                });
            }
            other => panic!("a crew event {other}"),
        }
    }

    /// An agent or a pathway comes, changes or goes.
    fn item(&mut self, entry: &Entry, change: &Value) {
        let (item, to) = (text(&change["item"]), &change["to"]);
        if to.is_null() {
            return self.remove("crew_items", &item);
        }
        let version = json!({
            "id": item, "crew": entry.stream, "workspace": entry.scope,
            "version": entry.sequence, "created_at": entry.recorded_at, "item": to,
        });
        let key = format!("{item}/{:020}", entry.sequence);
        self.put("crew_item_versions", key, version.clone());
        if change["from"].is_null() {
            self.put("crew_items", item.clone(), version);
        }
        self.change("crew_items", &item, |document| {
            document["item"] = to.clone();
            entry.stamp(document);
        });
    }

    fn contents(&mut self, entry: &Entry) {
        let document = json!({
            "crew": entry.stream, "workspace": entry.scope, "version": entry.sequence,
            "updated_at": entry.recorded_at,
        });
        self.put("crew_contents", entry.stream.clone(), document);
    }

    fn promotion(&mut self, entry: &Entry) {
        let (promotion, body) = (entry.stream.as_str(), &entry.body);
        let waiting = |terms: &Value| match terms["approvals_needed"].as_u64() {
            Some(0) => "approved",
            _ => "proposed",
        };
        let sealed = |field: &str, sealed: &Value| entry.sealed(field, sealed);
        let reason = sealed("metadata.reason", &entry.metadata["reason"]);
        if entry.event_type == "promotion_proposed" {
            let document = json!({
                "id": promotion, "version": 1, "created_at": entry.recorded_at,
                "updated_at": entry.recorded_at, "workspace": body["workspace"],
                "source": body["source"], "target": body["target"], "review": body["review"],
                "terms": body["terms"], "status": waiting(&body["terms"]),
                "proposed_by": body["proposed_by"], "reason": reason, "approvals": [],
                "schedule": null, "schedule_ended": null, "applied": null, "checks": [],
                "ended": null,
            });
            return self.put("promotions", promotion, document);
        }
        let user = json!({"type": "user", "id": body["user"]});
        let ended = |by: &Value, forced: &Value| {
            json!({
                "by": by, "at": entry.recorded_at, "reason": reason,
                "forced": forced.as_bool().unwrap_or_default(),
            })
        };
        self.change("promotions", promotion, |document| {
            match entry.event_type.as_str() {
                "promotion_refreshed" => {
                    for field in ["source", "review", "terms"] {
                        document[field] = body[field].clone();
                    }
                    document["approvals"] = json!([]);
                    document["schedule"] = Value::Null;
                    document["schedule_ended"] = Value::Null;
                    document["status"] = json!(waiting(&body["terms"]));
                }
                "promotion_approved" => {
                    let approval = json!({"user": body["user"], "at": entry.recorded_at});
                    let approvals = document["approvals"].as_array_mut().expect("approvals");
                    approvals.push(approval);
                    if body["suffices"] == true && document["status"] == "proposed" {
                        document["status"] = json!("approved");
                    }
                }
                "promotion_rejected" => {
                    document["status"] = json!("rejected");
                    document["schedule"] = Value::Null;
                    document["ended"] = ended(&user, &Value::Null);
                }
                "promotion_cancelled" => {
                    document["status"] = json!("cancelled");
                    document["schedule"] = Value::Null;
                    document["ended"] = ended(&body["cancelled_by"], &Value::Null);
                }
                "promotion_scheduled" => {
                    document["status"] = json!("scheduled");
                    document["schedule"] = json!({"at": body["at"], "user": body["user"]});
                    document["schedule_ended"] = Value::Null;
                }
                "promotion_schedule_ended" => {
                    document["status"] = json!("approved");
                    document["schedule"] = Value::Null;
                    document["schedule_ended"] = json!({"at": body["at"], "why": body["why"]});
                }
                "promotion_applied" => {
                    document["status"] = json!("applied");
                    document["schedule"] = Value::Null;
                    document["applied"] = json!({
                        "user": body["user"], "at": entry.recorded_at,
                        "version": body["version"], "scheduled": body["scheduled"],
                    });
                }
                "promotion_checked" => {
                    let status = match body["verified"] == true {
                        true => "verified",
                        false => "applied",
                    };
                    document["status"] = json!(status);
                    let known = document["checks"].as_array_mut().expect("checks");
                    for check in body["checks"].as_array().expect("checks") {
                        known.retain(|other| other["check"]["name"] != check["name"]);
                        known.push(json!({
                            "check": check, "by": body["checked_by"], "at": entry.recorded_at,
                            "evidence": sealed("evidence", &body["evidence"]),
                        }));
                    }
                }
                "promotion_rolled_back" => {
                    document["status"] = json!("rolled_back");
                    document["ended"] = ended(&user, &body["forced"]);
                }
                other => panic!("a promotion event {other}"),
            }
            entry.stamp(document);
        });
        let change = match entry.event_type.as_str() {
            "promotion_applied" => "promoted",
            "promotion_rolled_back" => "rolled_back",
            _ => return,
        };
        let (crew, version) = (text(&body["target"]), body["version"].as_u64());
        let version = version.expect("a version");
        let document = json!({
            "crew": crew, "version": version, "promotion": promotion, "change": change,
            "at": entry.recorded_at,
        });
        self.put("changelog", format!("{crew}/{version:020}"), document);
    }

    fn review(&mut self, entry: &Entry) {
        let (review, body) = (entry.stream.as_str(), &entry.body);
        if entry.event_type == "review_opened" {
            let document = json!({
                "id": review, "version": 1, "created_at": entry.recorded_at,
                "updated_at": entry.recorded_at, "workspace": body["workspace"],
                "organization": body["organization"], "terms": body["terms"], "status": "open",
                "opened_by": body["opened_by"], "pinned_at": body["pinned_at"],
                "items": body["items"], "decided": 0, "reminded": [],
                "previous": body["previous"], "closing": null, "closed": null,
                "has_recurred": false, "next": null,
            });
            return self.put("access_reviews", review.to_owned(), document);
        }
        self.change("access_reviews", review, |document| {
            match entry.event_type.as_str() {
                "review_reminded" => {
                    let told = document["reminded"].as_array_mut().expect("a list");
                    told.push(body["days_left"].clone());
                }
                "access_decided" => {
                    let more = u64::from(body["again"] == false);
                    document["decided"] =
                        json!(document["decided"].as_u64().expect("a count") + more);
                }
                "review_closing" => {
                    document["status"] = json!("closing");
                    document["closing"] = json!({"event": entry.id, "by": body["closed_by"]});
                }
                "access_settled" => {}
                "review_reopened" => {
                    let returned = body["returned"].as_array().expect("a list").len() as u64;
                    document["status"] = json!("open");
                    document["closing"] = Value::Null;
                    let decided = document["decided"].as_u64().expect("a count") - returned;
                    document["decided"] = json!(decided);
                }
                "review_closed" => {
                    document["status"] = json!("closed");
                    document["closed"] = json!({
                        "position": entry.position, "at": entry.recorded_at,
                        "timed_out": body["timed_out"], "kept": body["kept"],
                        "applied": body["applied"], "not_applied": body["not_applied"],
                    });
                }
                "review_recurred" => {
                    document["has_recurred"] = json!(true);
                    document["next"] = body["next"].clone();
                }
                "review_recurrence_stopped" => document["has_recurred"] = json!(true),
                other => panic!("an event of a review {other}"),
            }
            entry.stamp(document);
        });
    }

    fn key(&mut self, entry: &Entry) {
        let body = &entry.body;
        let key = text(&body["key"]);
        let (_, happened) = entry.event_type.rsplit_once('_').expect("what happened");
        if happened == "created" {
            let workspace = entry.stream.starts_with("ws_").then(|| json!(entry.stream));
            let document = json!({
                "id": key, "version": entry.sequence, "created_at": entry.recorded_at,
                "updated_at": entry.recorded_at, "organization": entry.metadata["organization"],
                "workspace": workspace, "environment": body["environment"],
                "terms": body["terms"], "token_hash": body["token_hash"],
                "prefix": body["prefix"], "created_by": body["created_by"],
                "rotated_from": body["rotated_from"], "successor": null, "ended": null,
                "granted_at": entry.position,
            });
            self.key_name(entry, &key, &body["terms"]["name"]);
            return self.put("api_keys", key, document);
        }
        if happened == "updated" && body["from"]["name"] != body["to"]["name"] {
            self.key_name(entry, &key, &body["to"]["name"]);
        }
        self.change("api_keys", &key, |document| {
            match happened {
                "updated" => {
                    document["terms"] = body["to"].clone();
                    document["granted_at"] = json!(entry.position);
                }
                "rotated" => {
                    document["successor"] = body["successor"].clone();
                    document["terms"]["expires_at"] = body["expires_at"].clone();
                }
                ended => document["ended"] = json!(ended),
            }
            entry.stamp(document);
        });
    }
}

impl Entry {
    /// Marks a document as last changed by this entry.
    /// A sealed field with the place that it was sealed for; none where there is none.
    fn sealed(&self, field: &str, sealed: &Value) -> Value {
        match sealed {
            Value::Null => Value::Null,
            sealed => json!({"event": self.id, "field": field, "sealed": sealed}),
        }
    }

    fn stamp(&self, document: &mut Value) {
        document["version"] = json!(self.sequence);
        document["updated_at"] = json!(self.recorded_at);
    }
}

fn body_list(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

/// Of which kind a connection is, by its id.
const CONNECTIONS: [(&str, &str); 4] = [
    ("num_", "phone_number"),
    ("chn_", "channel"),
    ("whk_", "webhook_endpoint"),
    ("int_", "integration"),
];

fn audit_row(entry: &Entry) -> [Option<String>; 7] {
    let body = &entry.body;
    let of_connection: String;
    let (action, target) = match entry.event_type.as_str() {
        "user_signed_up" => ("user.signed_up", entry.stream.clone()),
        "user_renamed" => ("user.renamed", entry.stream.clone()),
        "user_email_changed" => ("user.email_changed", entry.stream.clone()),
        "user_profile_shared" => ("user.profile_shared", entry.stream.clone()),
        "session_started" => ("session.started", text(&body["session"])),
        "session_revoked" => ("session.revoked", text(&body["session"])),
        "sign_in_failed" => ("session.refused", entry.stream.clone()),
        "password_changed" => ("password.changed", entry.stream.clone()),
        "organization_created" => ("organization.created", entry.stream.clone()),
        "organization_renamed" => ("organization.renamed", entry.stream.clone()),
        "organization_member_added" => ("organization_member.added", text(&body["user"])),
        "person_recorded" => ("person.recorded", text(&body["user"])),
        "organization_member_role_changed" => {
            ("organization_member.role_changed", text(&body["user"]))
        }
        "organization_member_removed" => ("organization_member.removed", text(&body["user"])),
        "organization_suspended" => ("organization.suspended", entry.stream.clone()),
        "organization_resumed" => ("organization.resumed", entry.stream.clone()),
        "workspace_recovered" => ("workspace.recovered", entry.stream.clone()),
        "operator_key_created" => ("operator_key.created", text(&body["key"])),
        "operator_key_revoked" => ("operator_key.revoked", text(&body["key"])),
        "ownership_transferred" => ("ownership.transferred", entry.stream.clone()),
        "workspace_deleted" => ("workspace.deleted", entry.stream.clone()),
        "policy_changed" => ("policy.changed", entry.stream.clone()),
        "limits_changed" => ("limits.changed", entry.stream.clone()),
        "usage_month_closed" => ("usage_month.closed", entry.stream.clone()),
        "legal_hold_placed" => ("legal_hold.placed", entry.stream.clone()),
        "legal_hold_lifted" => ("legal_hold.lifted", entry.stream.clone()),
        "workspace_hold_began" => ("workspace_hold.began", text(&body["workspace"])),
        "workspace_hold_ended" => ("workspace_hold.ended", text(&body["workspace"])),
        "user_erased" => ("user.erased", entry.stream.clone()),
        "person_erasure_scheduled" => ("person.erasure_scheduled", text(&body["user"])),
        "person_erased" => ("person.erased", text(&body["user"])),
        "membership_limited" => ("member.limited", text(&body["user"])),
        "membership_limit_lifted" => ("member.limit_lifted", text(&body["user"])),
        "membership_limit_reached" => ("member.limit_reached", text(&body["user"])),
        "auditor_granted" => ("auditor.granted", text(&body["user"])),
        "auditor_revoked" => ("auditor.revoked", text(&body["user"])),
        "auditor_expired" => ("auditor.expired", text(&body["user"])),
        "workspace_created" => ("workspace.created", entry.stream.clone()),
        "workspace_renamed" => ("workspace.renamed", entry.stream.clone()),
        "plan_selected" => ("plan.selected", entry.stream.clone()),
        "member_joined" => ("member.joined", text(&body["user"])),
        "member_role_changed" => ("member.role_changed", text(&body["user"])),
        "member_removed" => ("member.removed", text(&body["user"])),
        "member_left" => ("member.left", text(&body["user"])),
        "member_invited" => ("member.invited", text(&body["invitation"])),
        "invitation_resent" => ("invitation.resent", text(&body["invitation"])),
        "invitation_accepted" => ("invitation.accepted", text(&body["invitation"])),
        "invitation_declined" => ("invitation.declined", text(&body["invitation"])),
        "invitation_revoked" => ("invitation.revoked", text(&body["invitation"])),
        "invitation_expired" => ("invitation.expired", text(&body["invitation"])),
        "api_key_created" | "organization_key_created" => ("api_key.created", text(&body["key"])),
        "api_key_updated" | "organization_key_updated" => ("api_key.updated", text(&body["key"])),
        "api_key_rotated" | "organization_key_rotated" => ("api_key.rotated", text(&body["key"])),
        "api_key_revoked" | "organization_key_revoked" => ("api_key.revoked", text(&body["key"])),
        "api_key_expired" | "organization_key_expired" => ("api_key.expired", text(&body["key"])),
        "crew_listed" => ("crew.listed", text(&body["crew"])),
        "crew_unlisted" => ("crew.unlisted", text(&body["crew"])),
        "crew_created" => ("crew.created", entry.stream.clone()),
        "crew_updated" => ("crew.updated", entry.stream.clone()),
        "crew_archived" => ("crew.archived", entry.stream.clone()),
        "agent_created" => ("agent.created", text(&body["item"])),
        "agent_updated" => ("agent.updated", text(&body["item"])),
        "agent_removed" => ("agent.removed", text(&body["item"])),
        "pathway_created" => ("pathway.created", text(&body["item"])),
        "pathway_updated" => ("pathway.updated", text(&body["item"])),
        "pathway_removed" => ("pathway.removed", text(&body["item"])),
        "connection_added" | "connection_changed" | "connection_removed" | "credential_set"
        | "credential_removed" => {
            let id = text(&body["connection"]);
            let (_, kind) = CONNECTIONS
                .iter()
                .find(|(prefix, _)| id.starts_with(prefix))
                .expect("a known kind");
            let happened = entry.event_type.strip_prefix("connection_");
            of_connection = format!("{kind}.{}", happened.unwrap_or(&entry.event_type));
            (of_connection.as_str(), id)
        }
        "knowledge_base_created" => ("knowledge_base.created", text(&body["knowledge_base"])),
        "knowledge_base_updated" => ("knowledge_base.updated", text(&body["knowledge_base"])),
        "knowledge_base_removed" => ("knowledge_base.removed", text(&body["knowledge_base"])),
        "document_created" => ("document.created", text(&body["document"])),
        "document_updated" => ("document.updated", text(&body["document"])),
        "document_removed" => ("document.removed", text(&body["document"])),
        "crew_promoted" => ("crew.promoted", entry.stream.clone()),
        "crew_rolled_back" => ("crew.rolled_back", entry.stream.clone()),
        "promotion_proposed" => ("promotion.proposed", entry.stream.clone()),
        "promotion_refreshed" => ("promotion.refreshed", entry.stream.clone()),
        "promotion_approved" => ("promotion.approved", entry.stream.clone()),
        "promotion_rejected" => ("promotion.rejected", entry.stream.clone()),
        "promotion_cancelled" => ("promotion.cancelled", entry.stream.clone()),
        "promotion_scheduled" => ("promotion.scheduled", entry.stream.clone()),
        "promotion_schedule_ended" => ("promotion.schedule_ended", entry.stream.clone()),
        "promotion_applied" => ("promotion.applied", entry.stream.clone()),
        "promotion_checked" if body["verified"] == true => {
            ("promotion.verified", entry.stream.clone())
        }
        "promotion_checked" => ("promotion.check_failed", entry.stream.clone()),
        "promotion_rolled_back" => ("promotion.rolled_back", entry.stream.clone()),
        "review_opened" => ("access_review.opened", entry.stream.clone()),
        "review_reminded" => ("access_review.reminded", entry.stream.clone()),
        "access_decided" if body["again"] == true => {
            ("access_review.redecided", entry.stream.clone())
        }
        "access_decided" => ("access_review.decided", entry.stream.clone()),
        "review_closing" => ("access_review.closing", entry.stream.clone()),
        "access_settled" => ("access_review.settled", entry.stream.clone()),
        "review_reopened" => ("access_review.reopened", entry.stream.clone()),
        "review_closed" => ("access_review.closed", entry.stream.clone()),
        "review_recurred" => ("access_review.recurred", entry.stream.clone()),
        "review_recurrence_stopped" => ("access_review.recurrence_stopped", entry.stream.clone()),
        "attempt_refused" | "report_read" => (
            body["action"].as_str().expect("an action"),
            text(&body["target"]),
        ),
        "audit_exported" => ("audit.exported", text(&body["target"])),
        other => panic!("an event {other} that auditors are not told of"),
    };
    let refused = ["sign_in_failed", "attempt_refused"].contains(&entry.event_type.as_str());
    let actor = match entry.event_type.as_str() {
        "attempt_refused" | "audit_exported" | "report_read" => &body["actor"],
        _ => &entry.metadata["actor"],
    };
    let is_inside = ["crew", "promotion"].contains(&entry.kind.as_str());
    let organization = entry.metadata["organization"].as_str();
    [
        Some(entry.position.to_string()),
        organization.filter(|_| !is_inside).map(str::to_owned),
        entry.scope.starts_with("ws_").then(|| entry.scope.clone()),
        actor["id"].as_str().map(str::to_owned),
        Some(action.to_owned()),
        Some(target),
        Some(if refused { "denied" } else { "ok" }.to_owned()),
    ]
}

/// The table that serves a projection, and its generation.
async fn serving(store: &dyn Store, projection: &str) -> (String, i64) {
    let sql = "SELECT generation FROM projections WHERE name = $1 AND state = 'serving'";
    let rows = store.query(sql, vec![projection.into()]).await;
    let rows = rows.expect("projections");
    assert_eq!(rows.len(), 1, "one generation of {projection} serves");
    let generation = rows[0].integer(0).expect("a generation");
    let table = match projection {
        "audit" => format!("audit_{generation}"),
        _ => format!("documents_{projection}_{generation}"),
    };
    (table, generation)
}

async fn documents(store: &dyn Store, projection: &str) -> Documents {
    let (table, _) = serving(store, projection).await;
    let sql = format!("SELECT key, CAST(document AS TEXT) FROM {table}");
    let rows = store.query(&sql, vec![]).await.expect("documents");
    rows.iter()
        .map(|row| {
            let document = serde_json::from_str(row.text(1).expect("text")).expect("JSON");
            (row.text(0).expect("a key").to_owned(), document)
        })
        .collect()
}

/// That every read model is what the log says, by the naive fold and by the engine's own check.
pub async fn assert_documents_are_the_log(fixture: &Fixture) {
    // As far as it is, and then all of it.
    assert_store_is_its_log(&*fixture.store).await;
    let indexed = audit_index::catch_up(&*fixture.store).await;
    let indexed = indexed.expect("the index to go on");
    assert_eq!(indexed.position, indexed.head);
    assert_store_is_its_log(&*fixture.store).await;
}

/// The same of a store that nobody need have open for writing.
pub async fn assert_store_is_its_log(store: &dyn Store) {
    let naive = Naive::of(store).await;
    for (projection, expected) in &naive.documents {
        let stored = documents(store, projection).await;
        for (key, document) in expected {
            assert_eq!(stored.get(key), Some(document), "{key} of {projection}");
        }
        assert_eq!(stored.len(), expected.len(), "there are more {projection}");
    }
    let (table, _) = serving(store, "audit").await;
    let sql = format!(
        "SELECT CAST(position AS TEXT), organization, workspace, actor, action, target, outcome
           FROM {table} AS audit ORDER BY audit.position"
    );
    let state = audit_index::state(store).await.expect("an index");
    let rows = store.query(&sql, vec![]).await.expect("the audit index");
    assert_eq!(state.head, naive.audit.len() as u64);
    assert_eq!(rows.len() as u64, state.position, "rows of the audit index");
    for (row, expected) in rows.iter().zip(&naive.audit) {
        let stored: [Option<String>; 7] = std::array::from_fn(|column| {
            let text = row.optional_text(column).expect("text or null");
            text.map(str::to_owned)
        });
        assert_eq!(&stored, expected, "a row of the audit index");
    }
    assert_eq!(differences(store).await, [] as [(String, String); 0]);
}

/// What the engine's own check finds: projections and keys.
async fn differences(store: &dyn Store) -> Vec<(String, String)> {
    let folder = scratch::directory("check");
    let report = check(store, folder.path(), |_| {}).await;
    let report = report.expect("the check to run");
    assert_eq!(report.differing, report.differences.len() as u64);
    let names: BTreeSet<_> = report.rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, projections::names().into_iter().collect());
    let differences = report.differences.into_iter();
    differences.map(|one| (one.projection, one.key)).collect()
}

/// Searches of every kind: by each column with values that there are, words in any case, ranges.
fn searches(naive: &Naive, order: Order) -> Vec<Search> {
    let columns = [
        (1, Column::Organization),
        (2, Column::Workspace),
        (3, Column::Actor),
        (4, Column::Action),
        (5, Column::Target),
        (6, Column::Outcome),
    ];
    let mut searches = vec![Search::new(order)];
    for (number, column) in columns {
        let values = naive.audit.iter().filter_map(|row| row[number].clone());
        let values: BTreeSet<_> = values.collect();
        for value in values.into_iter().step_by(3) {
            let mut search = Search::new(order);
            search.is(column, value);
            searches.push(search.clone());
            search.at_least(20);
            search.at_most(naive.audit.len() as u64 - 20);
            search.is(Column::Outcome, "ok");
            searches.push(search);
        }
    }
    for words in [
        ["member", "ROLE"],
        ["first", ""],
        ["100%", "_"],
        ["invitation", "é"],
    ] {
        let mut search = Search::new(order);
        words.iter().for_each(|word| search.word(word));
        searches.push(search);
    }
    let mut by_nobody = Search::new(order);
    by_nobody.absent(Column::Actor);
    searches.push(by_nobody);
    searches
}

/// Everything that a search finds, read page by page.
async fn found(store: &dyn Store, mut search: Search, order: Order) -> Vec<u64> {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let page = audit_index::positions(store, &search, 7).await;
        let page = page.expect("positions").value;
        let Some(last) = page.positions.last().copied().max(page.stopped_at) else {
            return all;
        };
        let last = page.stopped_at.unwrap_or(last);
        match order {
            Order::NewestFirst => search.at_most(last - 1),
            Order::OldestFirst => search.at_least(last + 1),
        }
        all.extend(page.positions);
    }
}

async fn index_and_tail(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    workload(&fixture, "one").await;
    assert_eq!(
        audit_index::state(&*fixture.store)
            .await
            .expect("a state")
            .position,
        0
    );
    for round in ["two", "three"] {
        // All of it in the log alone at first, then half and half.
        let naive = Naive::of(&*fixture.store).await;
        let mut before = Vec::new();
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for search in searches(&naive, order) {
                before.push(found(&*fixture.store, search, order).await);
            }
        }
        audit_index::catch_up(&*fixture.store)
            .await
            .expect("an index");
        let mut after = Vec::new();
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for mut search in searches(&naive, order) {
                let all = found(&*fixture.store, search.clone(), order).await;
                // The same where little is looked at each time.
                search.look_at(2, 11);
                assert_eq!(found(&*fixture.store, search, order).await, all);
                after.push(all);
            }
        }
        assert_eq!(before, after);
        assert_eq!(before[0].len(), naive.audit.len());
        assert!(before.iter().filter(|found| found.len() > 7).count() > 20);
        workload(&fixture, round).await;
    }
}

/// A row of the index for each of this many positions, of a hundred workspaces.
const PLANNED_ROWS: u64 = 40_000;

/// A store with rows of the index that nothing was written for, of so many people: their number is
/// what plans are made by.
async fn with_rows(store: &StoreUnderTest, people: u64) -> Fixture {
    let fixture = Fixture::open(store).await;
    let rows = (1..=PLANNED_ROWS).map(|position| AuditRow {
        position,
        recorded_at: i64::try_from(position).expect("a time"),
        organization: Some(format!("org_{}", position % 50)),
        workspace: Some(format!("ws_{}", position % 100)),
        crew: Some(format!("crw_{}", position % 300)),
        environment: Some("production".to_owned()),
        actor: (position % 7 > 0).then(|| format!("usr_{}", position % people)),
        action: "agent.updated".to_owned(),
        target: Some(format!("agt_{}", position % 5_000)),
        outcome: "ok",
        words: format!("agent updated agt_{position}"),
    });
    let mut sheet = Sheet::new(AUDIT_COLUMNS.len(), 1_000, 320);
    rows.for_each(|row| row.push_to(&mut sheet));
    let audit = AuditRows {
        table: "audit_1".to_owned(),
        sheets: vec![sheet],
    };
    let put = fixture.store.put(vec![], Some(audit), None).await;
    assert!(put.expect("rows"));
    let at = format!("UPDATE projections SET position = {PLANNED_ROWS} WHERE name = 'audit'");
    let head = format!("UPDATE log_head SET position = {PLANNED_ROWS}");
    let told = [Statement::new(at, []), Statement::new(head, [])];
    fixture
        .store
        .execute(told.to_vec())
        .await
        .expect("statistics");
    fixture
}

/// Every filter, alone, two and three together, in a workspace and in an organization, on the first
/// page and on a late one: each is looked for along the index of what it names, or of where it
/// looks; on SQLite without statistics as well, which nothing gathers there.
async fn index_plans(store: StoreUnderTest) {
    let fixture = with_rows(&store, 900).await;
    let analyze = || fixture.store.execute(vec![Statement::new("ANALYZE", [])]);
    if fixture.store.kind() == StoreKind::Sqlite {
        assert_plans(&*fixture.store).await;
    }
    analyze().await.expect("statistics");
    assert_plans(&*fixture.store).await;
    // Nothing is sorted for a page of all that there is of one thing.
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (column, of) in [
            (Column::Workspace, "ws_7"),
            (Column::Organization, "org_7"),
            (Column::Actor, "usr_8"),
            (Column::Target, "agt_7"),
        ] {
            let mut search = Search::new(order);
            search.is(column, of);
            let plan = audit_index::plan(&*fixture.store, &search, 256).await;
            let plan = plan.expect("a plan").join("\n");
            let sorts = ["Sort", "TEMP B-TREE", "Bitmap"];
            assert!(
                !sorts.iter().any(|sort| plan.contains(sort)),
                "{search:?}: {plan}"
            );
            assert!(
                plan.contains(&format!("audit_1_by_{column:?}").to_lowercase()),
                "{plan}"
            );
        }
    }
}

/// What somebody did, and when last, is looked for along what they did, also where nearly all of the
/// log is of one other: there a planner hopes to meet them soon, whatever it goes along.
async fn deeds_plans(store: StoreUnderTest) {
    let fixture = with_rows(&store, 1).await;
    let store = &*fixture.store;
    let analyze = store.execute(vec![Statement::new("ANALYZE", [])]);
    analyze.await.expect("statistics");
    let asked = ["usr_0", "usr_8"].map(str::to_owned);
    for statement in [audit_index::last_acted_sql, audit_index::deeds_sql] {
        let (sql, parameters) = statement(store.kind(), "ws_7", &asked, PLANNED_ROWS);
        let plan = stores::plan(store, &sql, parameters).await;
        let plan = plan.expect("a plan").join("\n");
        assert!(plan.contains("audit_1_by_actor"), "{plan}");
        let others = [
            "audit_1_pkey",
            "PRIMARY KEY",
            "Seq Scan on audit_1",
            "SCAN done",
            // All that they did is not sorted for the last of it.
            "actor_hash DESC",
        ];
        assert!(!others.iter().any(|other| plan.contains(other)), "{plan}");
    }
    let acted = audit_index::last_acted(store, "ws_7", &asked, PLANNED_ROWS).await;
    let acted = acted.expect("it is read").into_iter().map(|(who, _)| who);
    assert_eq!(acted.collect::<Vec<_>>(), ["usr_0"]);
    let deeds = audit_index::deeds(store, "ws_7", &asked, PLANNED_ROWS).await;
    let deeds = deeds.expect("they are read").into_iter();
    let deeds: Vec<_> = deeds.map(|deed| (deed.actor, deed.action)).collect();
    assert_eq!(deeds, [("usr_0".to_owned(), "agent.updated".to_owned())]);
}

async fn assert_plans(store: &dyn Store) {
    type Narrow = fn(&mut Search);
    let narrow: [Narrow; 10] = [
        |_| {},
        |search| search.is(Column::Actor, "usr_8"),
        |search| search.absent(Column::Actor),
        |search| search.is(Column::Action, "agent.updated"),
        |search| search.is(Column::Target, "agt_7"),
        |search| search.is(Column::Crew, "crw_7"),
        |search| search.is(Column::Environment, "production"),
        |search| search.is(Column::Outcome, "denied"),
        |search| search.word("updated"),
        |search| search.word_or_any("ada", ["usr_7", "usr_8"].map(str::to_owned).into()),
    ];
    // All, from the middle on, what a tail asks for, a late page, what is left before the last one,
    // and between two positions.
    let ranges: [(u64, u64); 6] = [
        (1, u64::MAX),
        (PLANNED_ROWS / 2, u64::MAX),
        (PLANNED_ROWS - 3, u64::MAX),
        (1, PLANNED_ROWS / 2),
        (1, PLANNED_ROWS / 50),
        (PLANNED_ROWS / 4, PLANNED_ROWS / 2),
    ];
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for (scope, of, along) in [
            (Column::Workspace, "ws_7", "workspace"),
            (Column::Organization, "org_7", "organization"),
        ] {
            for (nth, one) in narrow.iter().enumerate() {
                for (other_nth, other) in narrow.iter().enumerate() {
                    for (first, last) in ranges {
                        let mut search = Search::new(order);
                        search.is(scope, of);
                        search.is(Column::Environment, "production");
                        for narrow in [one, other] {
                            narrow(&mut search);
                        }
                        search.at_least(first);
                        search.at_most(last);
                        let named = [nth, other_nth];
                        let along = match (named.contains(&4), named.contains(&1)) {
                            (true, _) => "target",
                            (false, true) => "actor",
                            (false, false) => along,
                        };
                        let plan = audit_index::plan(store, &search, 51).await;
                        let plan = plan.expect("a plan").join(
                            "
",
                        );
                        let index = plan.contains(&format!("audit_1_by_{along}"));
                        // Of a few rows there is a shorter way: the positions themselves.
                        let few = first + 3 == PLANNED_ROWS
                            && ["audit_1_pkey", "PRIMARY KEY"]
                                .iter()
                                .any(|key| plan.contains(key));
                        assert!(index || few, "{search:?}: {plan}");
                    }
                }
            }
        }
    }
}

/// A page of the crews of a workspace, and of one client of it (`?client=`), is looked for by an
/// index from the first page and from any other, whether the workspace is a large one or one of
/// many. The rows are made, as their number is what plans are made by.
async fn list_plans(store: StoreUnderTest) {
    let fixture = Fixture::open(&store).await;
    let numbers = match fixture.store.kind() {
        StoreKind::Sqlite => {
            "WITH RECURSIVE numbers (n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20000)"
        }
        StoreKind::Postgres => "WITH numbers (n) AS (SELECT generate_series(1, 20000))",
    };
    let crews = |key: &str, workspace: &str| {
        format!(
            "{numbers} INSERT INTO documents_crews_1 (key, workspace, parent, lookup, position, document)
             SELECT '{key}' || n, {workspace}, {workspace}, {workspace} || '/Client ' || (n % 2000), n, '{{}}'
               FROM numbers"
        )
    };
    let rows = [
        crews("crw_large_", "'ws_large'"),
        crews("crw_small_", "'ws_' || (n % 5000)"),
        "ANALYZE".to_owned(),
    ];
    for sql in rows {
        let put = fixture.store.execute(vec![Statement::new(sql, [])]).await;
        put.expect("rows");
    }
    let engine = Engine::open(&*fixture.store).await.expect("an engine");
    let crews = projections::Documents::<Crews>::of(fixture.store.clone(), &engine);
    for workspace in ["ws_large", "ws_7"] {
        let of_client = format!("{workspace}/Client 7");
        for (by, index) in [
            (By::Parent(workspace), "documents_crews_1_by_parent"),
            (By::Lookup(&of_client), "documents_crews_1_by_lookup"),
        ] {
            for after in [None, Some("crw_large_5")] {
                let plan = crews.plan(by, after, 50).await.expect("a plan").join("\n");
                assert!(plan.contains(index), "{by:?} after {after:?}: {plan}");
                // On SQLite a scan of the whole is `SCAN documents_crews_1`, of an index too.
                let whole = [
                    "Seq Scan on documents",
                    "SCAN documents_crews_1",
                    "Sort",
                    "TEMP B-TREE",
                ];
                let reads_all = whole.iter().any(|scan| plan.contains(scan));
                assert!(!reads_all, "{by:?} after {after:?}: {plan}");
            }
        }
    }
}

/// What is rare is looked for in so many rows at once, and found in the end, each once.
async fn bounded_search(store: StoreUnderTest) {
    let fixture = with_rows(&store, 900).await;
    for order in [Order::NewestFirst, Order::OldestFirst] {
        let mut search = Search::new(order);
        search.is(Column::Workspace, "ws_7");
        search.word("agt_107");
        search.look_at(10, 50);
        let (mut found, mut asked) = (Vec::new(), 0);
        loop {
            let page = audit_index::positions(&*fixture.store, &search, 3).await;
            let page = page.expect("positions").value;
            asked += 1;
            found.extend(page.positions.iter().copied());
            // Of 400 rows of the workspace 50 at once.
            let Some(at) = page.stopped_at else {
                break;
            };
            match order {
                Order::NewestFirst => search.at_most(at - 1),
                Order::OldestFirst => search.at_least(at + 1),
            }
        }
        found.sort_unstable();
        let wanted = |at: &u64| at % 100 == 7 && format!("agt_{at}").contains("agt_107");
        let expected: Vec<u64> = (1..=PLANNED_ROWS).filter(wanted).collect();
        assert_eq!(found, expected);
        assert!((8..=9).contains(&asked), "asked {asked} times");
    }
}

async fn indexed_by_two(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    for circle in ["one", "two"] {
        workload(&fixture, circle).await;
        let both = [(); 2].map(|()| audit_index::catch_up(&*fixture.store));
        for state in futures::future::join_all(both).await {
            let state = state.expect("an index");
            assert_eq!(state.position, state.head);
        }
    }
    assert_documents_are_the_log(&fixture).await;
}

/// People, organizations and workspaces with something of everything about them.
struct World {
    people: Vec<Person>,
    teams: Vec<Team>,
    invitations: Vec<(Team, InvitationId)>,
    sessions: Vec<(Person, SessionId)>,
    crews: Vec<(Team, CrewPlace)>,
    reviews: Vec<(Team, ReviewId)>,
}

/// Hundreds of random commands in concurrent handfuls; many are refused, as they should be.
async fn workload(fixture: &Arc<Fixture>, circle: &str) -> World {
    let mut world = World {
        people: Vec::new(),
        teams: Vec::new(),
        invitations: Vec::new(),
        sessions: Vec::new(),
        crews: Vec::new(),
        reviews: Vec::new(),
    };
    for label in ["ada", "bob", "cyd", "dan", "eve"] {
        let person = fixture.sign_up(&format!("{label}.{circle}")).await;
        world.people.push(person);
    }
    for owner in &world.people[..2] {
        let team = fixture.workspace(owner, "first").await;
        let second = fixture
            .workspace_in(team.organization, owner, "second")
            .await;
        world.teams.extend([team, second]);
        for (person, role) in world.people[2..].iter().zip([Role::Owner, Role::Admin]) {
            fixture.join(team, owner, person, role).await;
        }
    }
    let mut accepted = 0;
    for round in 0..60 {
        let units: Vec<_> = (0..12).map(|_| random_unit(fixture, &mut world)).collect();
        let answers = units.into_iter().map(|unit| fixture.submit(unit));
        for answer in futures::future::join_all(answers).await {
            match answer {
                Ok(_) => accepted += 1,
                Err(SubmitError::Refused(_)) => {}
                Err(other) => panic!("neither accepted nor refused: {other}"),
            }
        }
        if round % 8 == 7 {
            fixture.source.pass(Duration::from_secs(3 * 24 * 3600));
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
    world
}

fn random_unit(fixture: &Fixture, world: &mut World) -> Unit {
    let source = &fixture.source;
    let team = *source.one_of(&world.teams);
    let actor = source.one_of(&world.people).clone();
    let other = source.one_of(&world.people).clone();
    let role = *source.one_of(&Role::ALL);
    let label = format!("name {}", source.below(1_000));
    let mut unit = match source.below(22) {
        21 => review_unit(fixture, world, team, &actor, &other),
        20 if !world.crews.is_empty() => promotion_unit(fixture, world, &actor, &label),
        18..=20 => crew_unit(fixture, world, team, &actor, &label),
        0 | 1 => {
            let invitation = fixture.invitation_id();
            world.invitations.push((team, invitation));
            invitation_unit(fixture, team, &actor, invitation, &other.email, role)
        }
        2..=5 if !world.invitations.is_empty() => {
            let newest = world.invitations.len().saturating_sub(5);
            let (team, invitation) = *source.one_of(&world.invitations[newest..]);
            answer_unit(fixture, team, &actor, invitation)
        }
        6 => session_unit(fixture, world, &actor),
        7 => command::<Attempts>(
            team.attempts(),
            AttemptsCommand::Record {
                organization: team.organization,
                actor: actor.actor(),
                action: "workspace.rename".to_owned(),
                target: team.workspace.to_string(),
                crew: None,
                environment: None,
                code: "not_permitted".to_owned(),
                minute: source.now().minute(),
                count: 1,
                repeats: false,
            },
        ),
        8 => command::<Organization>(
            organization_stream(team.organization),
            OrganizationCommand::Rename {
                actor: actor.actor(),
                name: name(&label),
            },
        ),
        12 => command::<Organization>(
            organization_stream(team.organization),
            organization_member_command(fixture, &actor, &other),
        ),
        13..=17 => command::<Workspace>(team.stream(), rule_command(fixture, &actor, &other)),
        number => command::<Workspace>(
            team.stream(),
            match number {
                9 => WorkspaceCommand::Rename {
                    actor: actor.user,
                    name: name(&label),
                },
                10 => WorkspaceCommand::ChangeRole {
                    actor: actor.user,
                    user: other.user,
                    role,
                },
                11 if source.below(2) == 0 => WorkspaceCommand::Remove {
                    actor: actor.user,
                    user: other.user,
                },
                _ => WorkspaceCommand::SelectPlan {
                    actor: actor.user,
                    plan: format!("plan-{}", source.below(3)).parse().expect("a plan"),
                },
            },
        ),
    };
    unit.origin.actor = actor.actor();
    unit
}

/// Free text of a workspace that nobody opens.
fn sealed(team: Team) -> Sealed {
    Sealed {
        subject: KeyOwner::Workspace(team.workspace),
        key_version: 1,
        commitment: "commitment".to_owned(),
        ciphertext: "ciphertext".to_owned(),
    }
}

/// A crew is made, renamed, described, or archived: what it is called in its own stream, that there is one
/// in its workspace's.
fn crew_unit(
    fixture: &Fixture,
    world: &mut World,
    team: Team,
    actor: &Person,
    label: &str,
) -> Unit {
    let (source, actor) = (&fixture.source, actor.actor());
    let known = world.crews.len();
    let is_new = known == 0 || source.below(3) == 0;
    if is_new {
        let crew = CrewPlace {
            id: CrewId::from_uuid(source.uuid()),
            environment: *source.one_of(&Environment::ALL),
        };
        world.crews.push((team, crew));
    }
    let (team, crew) = match is_new {
        true => *world.crews.last().expect("a crew"),
        false => *source.one_of(&world.crews),
    };
    let stream = StreamRef::of::<Crew>(crew.id, team.workspace);
    let change = item_change(fixture, crew, &name(label));
    let (knowledge, learns) = (
        knowledge_change(fixture, crew, &name(label)),
        source.below(3) == 0,
    );
    let (connection, joins) = (connection_change(fixture, crew), source.below(3) == 0);
    let (archives, name) = (source.below(4) == 0, name(label));
    let [description, described] = [(); 2].map(|()| (source.below(2) == 0).then(|| sealed(team)));
    // It is the newest as long as nothing else has changed the profile.
    let profile_sequence = (source.below(2) == 0).then_some(1);
    let streams = vec![team.stream(), stream.clone()];
    unit(team.organization, streams, move |desk| {
        let (workspace, now) = (team.stream(), desk.now());
        let permission = Permission::DescribeCrews;
        let workspace = desk.read::<Workspace>(&workspace);
        workspace.authorise_in_crew(actor, permission, crew, now)?;
        let (list, inside) = if is_new {
            let created = CrewCommand::Create {
                crew,
                workspace: team.workspace,
                organization: team.organization,
                profile: CrewProfile {
                    name: name.to_string(),
                    ..CrewProfile::default()
                },
                description: description.clone(),
            };
            (Some(WorkspaceCommand::ListCrew { actor, crew }), created)
        } else if archives {
            let unlisted = WorkspaceCommand::UnlistCrew { actor, crew };
            (Some(unlisted), CrewCommand::Archive)
        } else if learns {
            (None, CrewCommand::Knowledge(knowledge.clone()))
        } else if let (Some(change), true) = (&connection, joins) {
            (None, CrewCommand::Connection(change.clone()))
        } else if let Some(change) = &change {
            (None, CrewCommand::Item(change.clone()))
        } else {
            let redescribed = |profile_sequence| DescriptionChange {
                previous: description.clone(),
                description: described.clone(),
                profile_sequence,
            };
            let change = ProfileChange {
                name: None,
                client: Some(Some(name.clone())),
                description: profile_sequence.map(redescribed),
            };
            (None, CrewCommand::Update { change })
        };
        if let Some(list) = list {
            desk.execute::<Workspace>(&team.stream(), list, &[])?;
        }
        desk.execute::<Crew>(&stream, inside, &[])?;
        Ok(done())
    })
}

/// An access review from its opening as far as chance has it; what is decided is about somebody
/// else, and is carried out as their removal.
fn review_unit(
    fixture: &Fixture,
    world: &mut World,
    team: Team,
    actor: &Person,
    other: &Person,
) -> Unit {
    let (source, user, about) = (&fixture.source, actor.user, PrincipalId::User(other.user));
    let review = ReviewId::from_uuid(source.uuid());
    let stream = StreamRef::of::<AccessReview>(review, team.workspace);
    let how_far = source.below(5);
    let event = fixture.event_id();
    let reason = sealed(team);
    let before = world
        .reviews
        .last()
        .copied()
        .filter(|(of, _)| of.workspace == team.workspace);
    world.reviews.push((team, review));
    let mut streams = vec![team.stream(), stream.clone()];
    let previous = before.map(|(_, id)| StreamRef::of::<AccessReview>(id, team.workspace));
    streams.extend(previous.clone());
    unit(team.organization, streams, move |desk| {
        let now = desk.now();
        let workspace = desk.read::<Workspace>(&team.stream());
        workspace.authorise(user, Permission::RunReviews, now)?;
        let opened = ReviewCommand::Open {
            review,
            workspace: team.workspace,
            organization: team.organization,
            terms: ReviewTerms {
                name: "Who has access".to_owned(),
                principals: Reviewed::ALL.into(),
                environment: None,
                reviewers: [user].into(),
                due_at: now.plus(chrono::TimeDelta::days(1)),
                undecided: Undecided::Keep,
                recurs_after_days: Some(1),
            },
            actor: user,
            pinned_at: 1,
            items: 2,
            previous: None,
        };
        desk.execute::<AccessReview>(&stream, opened, &[])?;
        if let Some(previous) = &previous {
            let recur = ReviewCommand::Recur { next: Ok(review) };
            desk.execute::<AccessReview>(previous, recur, &[])?;
        }
        let begin = || ReviewCommand::BeginClosing { actor: Some(user) };
        let settle = |outcome| ReviewCommand::Settle {
            item: about,
            decision: Decision::Revoke,
            outcome,
            applied_by: None,
        };
        let mut asked = Vec::new();
        if how_far > 0 {
            asked.push(ReviewCommand::Remind { days_left: 1 });
            asked.push(ReviewCommand::Decide(DecideAccess {
                actor: user,
                item: about,
                kind: Reviewed::Members,
                decision: Decision::Revoke,
                seen_at: 1,
                present: Some(1),
                subjects: [].into(),
                reason: reason.clone(),
                findings: vec![Finding::NeverUsed],
                last_used_at: None,
            }));
        }
        match how_far {
            0 | 1 => {}
            2 => asked.extend([
                begin(),
                settle(Settlement::Changed),
                ReviewCommand::FinishClosing,
            ]),
            3 => asked.extend([
                begin(),
                settle(Settlement::Gone),
                ReviewCommand::FinishClosing,
                ReviewCommand::StopRecurring { actor: user },
            ]),
            _ => asked.push(begin()),
        }
        let mut ids = vec![event].into_iter();
        for command in asked {
            let id: Vec<_> = match command {
                ReviewCommand::Decide(_) => ids.next().into_iter().collect(),
                _ => vec![],
            };
            desk.execute::<AccessReview>(&stream, command, &id)?;
        }
        Ok(done())
    })
}

/// A promotion into one of the crews, from its proposal as far as chance has it: some of the items
/// go, a new one comes.
fn promotion_unit(fixture: &Fixture, world: &World, actor: &Person, label: &str) -> Unit {
    let (source, user) = (&fixture.source, actor.user);
    let (team, crew) = *source.one_of(&world.crews);
    let promotion = PromotionId::from_uuid(source.uuid());
    let (place, stream) = (
        StreamRef::of::<Crew>(crew.id, team.workspace),
        StreamRef::of::<Promotion>(promotion, team.workspace),
    );
    let new = ItemId::Agent(AgentId::from_uuid(source.uuid()));
    let (name, how_far, needed) = (label.to_owned(), source.below(6), source.below(2) as u8);
    let event = fixture.event_id();
    let streams = vec![team.stream(), place.clone(), stream.clone()];
    unit(team.organization, streams, move |desk| {
        let (workspace, now, by) = (team.stream(), desk.now(), Actor::User { id: user });
        let permission = Permission::ProposePromotions;
        let workspace = desk.read::<Workspace>(&workspace);
        workspace.authorise_in_crew(by, permission, crew, now)?;
        let there = desk.read::<Crew>(&place);
        there.changeable_in(team.workspace)?;
        let version = there.contents_version();
        let items: Vec<_> = there
            .items()
            .all()
            .map(|(id, item)| (id, item.clone()))
            .collect();
        let gone = items
            .iter()
            .skip(1)
            .step_by(2)
            .map(|(item, from)| ItemChange {
                item: *item,
                from: Some(from.clone()),
                to: None,
            });
        let (digest, size) = (Digest([7; 32]), 2);
        let content = Content { digest, size };
        let mut changes: Vec<_> = gone.collect();
        changes.push(ItemChange {
            item: new,
            from: None,
            to: Some(Item {
                name: format!("new {name}"),
                content,
            }),
        });
        changes.sort_by_key(|change| change.item);
        let terms = ApprovalTerms {
            approvals_needed: needed,
            self_approval: true,
        };
        let review = Review {
            target_version: version,
            bundle_digest: digest,
            include: None,
            plan: content,
            added: 1,
            changed: 0,
            removed: changes.len() as u64 - 1,
        };
        let promoted = PromotionSource::Bundle {};
        let mut asked = vec![PromotionCommand::Propose {
            promotion,
            workspace: team.workspace,
            organization: team.organization,
            source: promoted,
            target: crew,
            review: review.clone(),
            terms,
            proposed_by: by,
            proposers: vec![user],
        }];
        let circumstances = |entitled: &[UserId]| Circumstances {
            target_version: version,
            terms,
            entitled: entitled.iter().copied().collect(),
        };
        let approve = PromotionCommand::Approve {
            user,
            now: circumstances(&[]),
        };
        let refresh = PromotionCommand::Refresh {
            source: promoted,
            review,
            terms,
            refreshed_by: by,
            proposers: vec![user],
        };
        let at = Timestamp(now.0 + 1_000_000);
        match how_far {
            0 => asked.push(PromotionCommand::Reject { user }),
            1 => asked.extend([
                approve,
                refresh,
                PromotionCommand::Cancel {
                    actor: by,
                    decides: false,
                },
            ]),
            2 => asked.extend([
                approve,
                PromotionCommand::Schedule {
                    user,
                    at,
                    now: circumstances(&[user]),
                },
                PromotionCommand::EndSchedule {
                    at,
                    why: ScheduleEnd::RightsEnded,
                },
            ]),
            _ => asked.extend([
                approve,
                PromotionCommand::Apply {
                    user,
                    version: desk.sequence(&place) + 1,
                    scheduled: None,
                    now: circumstances(&[user]),
                },
            ]),
        }
        for command in asked {
            desk.execute::<Promotion>(&stream, command, &[])?;
        }
        if how_far < 3 {
            return Ok(done());
        }
        let promote = CrewCommand::Promote {
            promotion,
            expected: version,
            changes: changes.clone(),
            needs: vec![],
        };
        desk.execute::<Crew>(&place, promote, &[])?;
        if how_far > 3 {
            let check = PromotionCommand::Check {
                checks: vec![CheckResult {
                    name: "A call is answered".to_owned(),
                    outcome: match how_far {
                        4 => CheckOutcome::Failed,
                        _ => CheckOutcome::Passed,
                    },
                }],
                evidence: None,
                checked_by: by,
            };
            desk.execute::<Promotion>(&stream, check, &[event])?;
            let present = desk.read::<Crew>(&place).contents_version();
            let back = PromotionCommand::RollBack {
                user,
                present,
                version: desk.sequence(&place) + 1,
                force: false,
            };
            desk.execute::<Promotion>(&stream, back, &[])?;
            let undone = changes.iter().map(|change| ItemChange {
                item: change.item,
                from: change.to.clone(),
                to: change.from.clone(),
            });
            let back = CrewCommand::RollBack {
                promotion,
                expected: present,
                changes: undone.collect(),
            };
            desk.execute::<Crew>(&place, back, &[])?;
        }
        Ok(done())
    })
}

/// Something about one of a few agents and pathways, which may or may not be in the crew; at
/// times nothing.
fn item_change(fixture: &Fixture, crew: CrewPlace, name: &Name) -> Option<ItemCommand> {
    let source = &fixture.source;
    let uuid = uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(4) as u128);
    let item = match source.below(2) {
        0 => ItemId::Agent(AgentId::from_uuid(uuid)),
        _ => ItemId::Pathway(PathwayId::from_uuid(uuid)),
    };
    let (name, digest) = (name.clone(), Digest([source.below(3) as u8; 32]));
    let content = Content { digest, size: 2 };
    match source.below(6) {
        0 | 1 => Some(ItemCommand::Create {
            item,
            name,
            content,
        }),
        2 | 3 => Some(ItemCommand::Update {
            item,
            name,
            content,
        }),
        4 => Some(ItemCommand::Remove { item }),
        _ => None,
    }
}

/// Something about one of a few knowledge bases and documents, which may or may not be there.
fn knowledge_change(fixture: &Fixture, crew: CrewPlace, name: &Name) -> KnowledgeCommand {
    let source = &fixture.source;
    let nearby = |below: usize| {
        uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(below) as u128)
    };
    let base = KnowledgeBaseId::from_uuid(nearby(2));
    let document = DocumentId::from_uuid(nearby(4));
    let (name, digest) = (name.clone(), Digest([source.below(3) as u8; 32]));
    let content = Content { digest, size: 2 };
    match source.below(12) {
        0..=2 => KnowledgeCommand::CreateBase { base, name },
        3 => KnowledgeCommand::RenameBase { base, name },
        4 => KnowledgeCommand::RemoveBase { base },
        5..=8 => KnowledgeCommand::CreateDocument {
            base,
            document,
            title: name,
            content,
        },
        9 | 10 => KnowledgeCommand::UpdateDocument {
            base,
            document,
            title: name,
            content,
        },
        _ => KnowledgeCommand::RemoveDocument { base, document },
    }
}

/// Something about one of a few connections of every kind, which may or may not be in the crew.
fn connection_change(fixture: &Fixture, crew: CrewPlace) -> Option<ConnectionCommand> {
    let source = &fixture.source;
    let uuid = uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(2) as u128);
    let which = source.below(9);
    let connection = source.one_of(&ConnectionKind::ALL).id(uuid);
    let name = |text: &str| Name::parse(text).expect("a name");
    let to = match connection.kind() {
        ConnectionKind::PhoneNumber => Connection::phone_number(&format!("+1202555014{which}")),
        ConnectionKind::Channel => {
            Connection::channel("email", &format!("inbox-{which}@example.com"))
        }
        ConnectionKind::WebhookEndpoint => {
            let events = (which > 4).then(|| ["call.ended".to_owned()].into());
            Connection::webhook_endpoint(&format!("https://example.com/{which}"), events)
        }
        ConnectionKind::Integration => {
            Connection::integration(name(&format!("crm {which}")), "salesforce", name("Acme"))
        }
    };
    let to = to.expect("a connection");
    match source.below(8) {
        0..=2 => Some(ConnectionCommand::Add { connection, to }),
        3 | 4 => Some(ConnectionCommand::Change { connection, to }),
        5 => Some(ConnectionCommand::SetCredential {
            connection,
            credential: CredentialId::from_uuid(source.uuid()),
            grace_seconds: source.below(2) as u64 * 60,
        }),
        6 => Some(ConnectionCommand::RemoveCredential { connection }),
        _ => Some(ConnectionCommand::Remove { connection }),
    }
}

fn organization_member_command(
    fixture: &Fixture,
    actor: &Person,
    other: &Person,
) -> OrganizationCommand {
    let (actor, user) = (actor.user, other.user);
    match fixture.source.below(3) {
        0 => OrganizationCommand::RemoveMember { actor, user },
        _ => OrganizationCommand::SetMember {
            actor,
            user,
            role: *fixture.source.one_of(&OrganizationRole::ALL),
        },
    }
}

/// One of the rules of a workspace: roles for a time, auditors, policy, handing over, deletion.
fn rule_command(fixture: &Fixture, actor: &Person, other: &Person) -> WorkspaceCommand {
    let source = &fixture.source;
    let (actor, user) = (actor.user, other.user);
    let days = chrono::TimeDelta::days(source.below(10) as i64 - 1);
    let moment = source.now().plus(days);
    match source.below(16) {
        0..=4 => WorkspaceCommand::ChangeRoleUntil {
            actor,
            user,
            role: *source.one_of(&Role::ALL),
            until: moment,
        },
        5 | 6 => WorkspaceCommand::ReachLimit { user },
        7..=9 => WorkspaceCommand::GrantAuditor {
            actor,
            user,
            expires_at: moment,
        },
        10 => WorkspaceCommand::RevokeAuditor { actor, user },
        11 => WorkspaceCommand::ExpireAuditor { user },
        13 if source.below(2) == 0 => WorkspaceCommand::ChangeLimits {
            actor,
            limits: Quotas {
                members: Some(20 + source.below(3) as u64),
                api_keys: Some(30 + source.below(3) as u64),
                ..Quotas::UNLIMITED
            },
        },
        12 | 13 => WorkspaceCommand::ChangePolicy {
            actor,
            policy: Policy {
                approvals_needed: u8::try_from(source.below(11)).expect("ten at most"),
                self_approval: source.below(2) == 0,
                ..Policy::default()
            },
        },
        14 => WorkspaceCommand::TransferOwnership { actor, to: user },
        // Of those that were not renamed, so that some are deleted, and not all.
        _ => WorkspaceCommand::Delete {
            actor,
            confirm: "second".to_owned(),
        },
    }
}

fn invitation_unit(
    fixture: &Fixture,
    team: Team,
    actor: &Person,
    invitation: InvitationId,
    email: &str,
    role: Role,
) -> Unit {
    let (invite, event, keep_key) = fixture.invite(actor, invitation, email, role);
    unit(team.organization, vec![team.stream()], move |desk| {
        desk.write_beside(keep_key.clone());
        desk.execute::<Workspace>(&team.stream(), invite.clone(), &[event])?;
        Ok(done())
    })
}

fn answer_unit(fixture: &Fixture, team: Team, actor: &Person, invitation: InvitationId) -> Unit {
    let hash = token_hash(invitation);
    let actor_id = actor.user;
    let answer = match fixture.source.below(6) {
        0 | 1 => WorkspaceCommand::AcceptInvitation {
            invitation,
            token_hash: hash,
            user: actor_id,
        },
        2 => WorkspaceCommand::DeclineInvitation {
            invitation,
            token_hash: hash,
        },
        3 => WorkspaceCommand::RevokeInvitation {
            actor: actor_id,
            invitation,
        },
        4 => WorkspaceCommand::ResendInvitation {
            actor: actor_id,
            invitation,
            token_hash: hash,
            expires_at: fixture.source.now().plus(chrono::TimeDelta::days(1)),
        },
        _ => WorkspaceCommand::ExpireInvitation { invitation },
    };
    command::<Workspace>(team.stream(), answer)
}

fn session_unit(fixture: &Fixture, world: &mut World, actor: &Person) -> Unit {
    let asked = match fixture.source.below(4) {
        0 if !world.sessions.is_empty() => {
            let (person, session) = fixture.source.one_of(&world.sessions).clone();
            return command::<User>(person.stream(), UserCommand::RevokeSession { session });
        }
        1 if fixture.source.below(2) == 0 => UserCommand::ChangePassword {
            session: actor.session,
        },
        1 => UserCommand::RecordSignInFailed {
            minute: fixture.source.now().minute(),
            count: 2,
        },
        _ => {
            let session = SessionId::from_uuid(fixture.source.uuid());
            world.sessions.push((actor.clone(), session));
            let days = chrono::TimeDelta::days(fixture.source.below(5) as i64);
            UserCommand::StartSession {
                session,
                expires_at: fixture.source.now().plus(days),
            }
        }
    };
    command::<User>(actor.stream(), asked)
}

/// A change of name, and the organization told of it.
async fn profile_changes(fixture: &Fixture, person: &Person, team: Team) {
    let event = fixture.event_id();
    let account = KeyOwner::Subject(person.account);
    let renamed = UserCommand::Rename {
        name: fixture.seal(account, event, "name", "Ada King").await,
        previous: fixture.seal(account, event, "previous", "ada").await,
        profile_sequence: 1,
    };
    let stream = person.stream();
    let rename = unit(person.user, vec![stream.clone()], move |desk| {
        desk.execute::<User>(&stream, renamed.clone(), &[event])?;
        Ok(done())
    });
    fixture.commit(rename).await;
    let event = fixture.event_id();
    let sequence = last_profile(fixture, person).await;
    let record = OrganizationCommand::RecordPerson {
        user: person.user,
        profile_sequence: sequence,
        email: fixture.seal(account, event, "email", &person.email).await,
        name: fixture.seal(account, event, "name", "Ada King").await,
    };
    share(fixture, person, team, event, record, sequence).await;
}

async fn last_profile(fixture: &Fixture, person: &Person) -> u64 {
    let state: User = fixture.in_memory(&person.stream()).await;
    state.profile_to_share().expect("a change of the profile")
}

async fn share(
    fixture: &Fixture,
    person: &Person,
    team: Team,
    event: EventId,
    record: OrganizationCommand,
    profile_sequence: u64,
) {
    let of = organization_stream(team.organization);
    let told = unit(team.organization, vec![of.clone()], move |desk| {
        desk.execute::<Organization>(&of, record.clone(), &[event])?;
        Ok(done())
    });
    fixture.commit(told).await;
    let shared = UserCommand::ShareProfile {
        profile_sequence,
        organizations: vec![team.organization],
    };
    fixture
        .commit(command::<User>(person.stream(), shared))
        .await;
}

async fn documents_are_the_log(store: StoreUnderTest) {
    let fixture = Arc::new(Fixture::open(&store).await);
    let world = workload(&fixture, "first").await;
    profile_changes(&fixture, &world.people[0], world.teams[0]).await;
    let events = ledger::verify(&*fixture.store).await;
    let kinds: BTreeSet<_> = events.iter().map(|event| &event.event_type).collect();
    // Which ones is chance, as the commands race; the golden log has every one.
    assert!(kinds.len() >= 18, "the workload has seen only {kinds:?}");
    assert_documents_are_the_log(&fixture).await;

    // A second process that begins with the documents as they are goes on as the first did.
    let another = Arc::new(fixture.another(2).await);
    workload(&another, "second").await;
    assert_documents_are_the_log(&another).await;
}

async fn run(store: &dyn Store, sql: String) {
    let touched = store.execute(vec![Statement::new(sql.clone(), [])]).await;
    assert_eq!(touched.expect(&sql), [1], "{sql}");
}

async fn small_world(store: &StoreUnderTest) -> (Fixture, Person, Team) {
    let fixture = Fixture::open(store).await;
    let owner = fixture.sign_up("owner").await;
    let team = fixture.workspace(&owner, "team").await;
    let other = fixture.sign_up("other").await;
    fixture.join(team, &owner, &other, Role::Viewer).await;
    let indexed = audit_index::catch_up(&*fixture.store).await;
    assert!(indexed.expect("an index").position > 0);
    (fixture, owner, team)
}

/// Changes a member, removes a workspace, adds an organization and changes the audit index; answers
/// with what a check must find.
async fn tamper(fixture: &Fixture, owner: &Person, team: Team) -> Vec<(String, String)> {
    let store = &*fixture.store;
    let (members, _) = serving(store, "members").await;
    let (workspaces, _) = serving(store, "workspaces").await;
    let (organizations, _) = serving(store, "organizations").await;
    let (users, _) = serving(store, "users").await;
    let (audit, _) = serving(store, "audit").await;
    let member = format!("{}/{}", team.workspace, owner.user);
    let json = match store.kind() {
        StoreKind::Sqlite => "REPLACE(document, 'owner', 'viewer')",
        StoreKind::Postgres => "CAST(REPLACE(CAST(document AS TEXT), 'owner', 'viewer') AS JSON)",
    };
    run(
        store,
        format!("UPDATE {members} SET document = {json} WHERE key = '{member}'"),
    )
    .await;
    run(
        store,
        format!("DELETE FROM {workspaces} WHERE key = '{}'", team.workspace),
    )
    .await;
    run(
        store,
        format!(
            "INSERT INTO {organizations} (key, position, document)
             SELECT 'org_extra', position, document FROM {organizations}"
        ),
    )
    .await;
    // What a document is found by counts as much as the document.
    run(
        store,
        format!(
            "UPDATE {users} SET deadline = 5 WHERE key = '{}'",
            owner.user
        ),
    )
    .await;
    run(
        store,
        format!("UPDATE {audit} SET actor = NULL WHERE position = 2"),
    )
    .await;
    vec![
        ("audit".to_owned(), "2".to_owned()),
        ("members".to_owned(), member),
        ("organizations".to_owned(), "org_extra".to_owned()),
        ("users".to_owned(), owner.user.to_string()),
        ("workspaces".to_owned(), team.workspace.to_string()),
    ]
}

async fn check_finds(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    assert_documents_are_the_log(&fixture).await;
    let expected = tamper(&fixture, &owner, team).await;
    let mut found = differences(&*fixture.store).await;
    found.sort();
    assert_eq!(found, expected);
}

async fn rebuild_restores(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    tamper(&fixture, &owner, team).await;
    let store = &*fixture.store;
    let mut seen = Vec::new();
    let position = rebuild(store, &projections::names(), |progress| {
        seen.push((progress.position, progress.head));
    })
    .await
    .expect("the rebuild to end");
    let head = *fixture.journal.head().borrow();
    assert_eq!(position, head);
    assert_eq!(seen.last(), Some(&(head, head)), "progress is told");
    assert_documents_are_the_log(&fixture).await;
    for name in projections::names() {
        let (table, generation) = serving(store, name).await;
        assert_eq!(generation, 2, "{name}");
        let old = table.replace("_2", "_1");
        let gone = store.query(&format!("SELECT * FROM {old}"), vec![]).await;
        assert!(gone.is_err(), "{old} is gone");
        let view = format!("SELECT count(*) FROM crewlog_{name}");
        let rows = store.query(&view, vec![]).await.expect(&view);
        let count = rows[0].integer(0).expect("a number");
        let direct = format!("SELECT count(*) FROM {table}");
        let rows = store.query(&direct, vec![]).await.expect(&direct);
        assert_eq!(rows[0].integer(0).expect("a number"), count, "{view}");
    }
    let sql = "SELECT \"user\", role FROM crewlog_members WHERE workspace = $1 ORDER BY role";
    let rows = store.query(sql, vec![team.workspace.to_string().into()]);
    let rows = rows.await.expect("the view of members");
    let roles: Vec<_> = rows
        .iter()
        .map(|row| row.text(1).expect("a role"))
        .collect();
    assert_eq!(roles, ["owner", "viewer"]);
    assert_eq!(rows[0].text(0).expect("a user"), owner.user.to_string());

    // Only what is named, and only what there is.
    rebuild(store, &["members"], |_| {}).await.expect("members");
    assert_eq!(serving(store, "members").await.1, 3);
    assert_eq!(serving(store, "users").await.1, 2);
    let refusal = rebuild(store, &["users", "nothing"], |_| {}).await;
    let refusal = refusal.expect_err("nothing is no projection").to_string();
    assert!(
        refusal.contains("nothing") && refusal.contains("members"),
        "{refusal}"
    );
    assert_eq!(serving(store, "users").await.1, 2);

    // A journal that begins on the new generations writes to them.
    let again = Fixture::on(fixture.store.clone(), 3, Default::default()).await;
    let third = again.sign_up("third").await;
    again.join(team, &owner, &third, Role::Member).await;
    assert_documents_are_the_log(&again).await;
}

async fn rebuild_beside_writers(store: StoreUnderTest) {
    let (fixture, owner, team) = small_world(&store).await;
    let fixture = Arc::new(fixture);
    // Another process, where there can be one.
    let second = match fixture.store.kind() {
        StoreKind::Sqlite => fixture.clone(),
        StoreKind::Postgres => {
            let settings = JournalSettings::default();
            Arc::new(Fixture::on(open_store(&store).await, 2, settings).await)
        }
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..4 {
        let (owner, is_over) = (owner.clone(), is_over.clone());
        let fixture = [&fixture, &second][number % 2].clone();
        writers.push(tokio::spawn(async move {
            let mut written = 0;
            while !is_over.load(Ordering::SeqCst) {
                let text = format!("{number} {written}");
                fixture.commit(rename(team, &owner, &text)).await;
                written += 1;
                // The swap needs a moment in which nobody is appending.
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
            written
        }));
    }
    for generation in 2..5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rebuild(&*fixture.store, &projections::names(), |_| {})
            .await
            .expect("the rebuild to end");
        assert_eq!(serving(&*fixture.store, "members").await.1, generation);
    }
    is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        assert!(writer.await.expect("no panic") > 0, "everybody went on");
    }
    ledger::verify(&*fixture.store).await;
    assert_documents_are_the_log(&fixture).await;

    // Who has only read meanwhile writes to the new tables, too, and is read from there.
    rebuild(&*fixture.store, &["members"], |_| {})
        .await
        .expect("the rebuild to end");
    let gone = second
        .store
        .query("SELECT key FROM documents_members_4", vec![])
        .await;
    assert!(gone.is_err(), "the old table is gone");
    let late = second.sign_up("late").await;
    second.join(team, &owner, &late, Role::Viewer).await;
    let members = crewlog::projections::Documents::<crewlog::projections::Members>::of(
        second.store.clone(),
        &second.engine,
    );
    let key = format!("{}/{}", team.workspace, late.user);
    let found = members.get(&key).await.expect("an answer");
    assert_eq!(found.value.expect("a member").role, Role::Viewer);
    assert_documents_are_the_log(&fixture).await;
}

async fn broken_rebuild(store: StoreUnderTest) {
    let (fixture, _, _) = small_world(&store).await;
    let store = &*fixture.store;
    // What a rebuild that was killed half-way leaves: rows in tables that do not serve.
    let (members, _) = serving(store, "members").await;
    let statements = [
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('members', 2, 1, 4, 'building')"
            .to_owned(),
        format!("CREATE TABLE documents_members_2 AS SELECT * FROM {members}"),
        "INSERT INTO projections (name, generation, version, position, state)
         VALUES ('audit', 2, 1, 0, 'building')"
            .to_owned(),
        "CREATE TABLE audit_2 (position BIGINT)".to_owned(),
    ];
    let statements = statements.map(|sql| Statement::new(sql, [])).into();
    store.execute(statements).await.expect("the leftovers");
    // They do not serve, and opening does not take them for what does.
    assert_documents_are_the_log(&fixture.another(2).await).await;
    rebuild(store, &["members"], |_| {})
        .await
        .expect("a rebuild");
    let sql = "SELECT name, generation FROM projections WHERE state = 'building'";
    let rows = store.query(sql, vec![]).await.expect("projections");
    assert!(rows.is_empty(), "{rows:?}");
    assert!(store.query("SELECT * FROM audit_2", vec![]).await.is_err());
    assert_eq!(serving(store, "members").await.1, 2);
    assert_eq!(serving(store, "audit").await.1, 1);
    assert_documents_are_the_log(&fixture).await;
}

async fn found_by_columns(store: StoreUnderTest) {
    use crewlog::projections::{Documents, Invitations, Members, Users};
    let (fixture, owner, team) = small_world(&store).await;
    let (store, engine) = (&fixture.store, &fixture.engine);
    let head = *fixture.journal.head().borrow();
    let members = Documents::<Members>::of(store.clone(), engine);
    let workspace = team.workspace.to_string();
    let first = members
        .page_of_parent(&workspace, None, 1)
        .await
        .expect("a page");
    assert_eq!(
        (first.items.len(), first.more, first.position),
        (1, true, head)
    );
    let after = Some(first.items[0].0.as_str());
    let second = members
        .page_of_parent(&workspace, after, 1)
        .await
        .expect("a page");
    assert_eq!((second.items.len(), second.more), (1, false));
    assert_ne!(first.items[0].0, second.items[0].0);
    let of_owner = members
        .page_of_lookup(&owner.user.to_string(), None, 9)
        .await;
    assert_eq!(of_owner.expect("a page").items[0].1.role, Role::Owner);
    let nobody = members.get("nobody").await.expect("an answer");
    assert_eq!((nobody.value, nobody.position), (None, head));

    // A new account has a profile that nobody was told of: due at once, and as it was then.
    let users = Documents::<Users>::of(store.clone(), engine);
    assert_eq!(
        users.due(Timestamp(i64::MAX), 9).await.expect("due").len(),
        2
    );
    assert!(users.due(Timestamp(0), 9).await.expect("due").is_empty());
    let key = owner.user.to_string();
    let then = Documents::<Users>::as_of::<User>(&**store, &key, &key, 1)
        .await
        .expect("a fold");
    assert!(then.expect("an account").sessions.is_empty());
    let now = Documents::<Users>::as_of::<User>(&**store, &key, &key, head)
        .await
        .expect("a fold");
    assert_eq!(now, users.get(&key).await.expect("an answer").value);

    // An invitation that was answered is due no more.
    let invitations = Documents::<Invitations>::of(store.clone(), engine);
    let due = invitations.due(Timestamp(i64::MAX), 9).await.expect("due");
    assert!(due.is_empty(), "{due:?}");
    let invitation = fixture.invitation_id();
    let email = "eve@example.com";
    let pending = invitation_unit(&fixture, team, &owner, invitation, email, Role::Viewer);
    fixture.commit(pending).await;
    let due = invitations.due(Timestamp(i64::MAX), 9).await.expect("due");
    assert_eq!(due[0].0, invitation.to_string());
}

async fn newer_projection(store: StoreUnderTest) {
    let (fixture, _, _) = small_world(&store).await;
    let store = &*fixture.store;
    run(
        store,
        "UPDATE projections SET version = version + 1 WHERE name = 'members'".to_owned(),
    )
    .await;
    let refusal = Engine::open(store).await.expect_err("a newer one is there");
    assert!(refusal.to_string().contains("newer version"), "{refusal}");
    assert_eq!(serving(store, "members").await.1, 1, "it is as it was");

    // What an older version made is rebuilt before anything is answered.
    run(
        store,
        "UPDATE projections SET version = 0 WHERE name = 'members'".to_owned(),
    )
    .await;
    Engine::open(store).await.expect("an older one is rebuilt");
    assert_eq!(serving(store, "members").await.1, 2);
    assert_eq!(serving(store, "users").await.1, 1);
    assert_documents_are_the_log(&fixture).await;
}
