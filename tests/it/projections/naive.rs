//! The read models, folded from the rows of the log by code that knows no type of the program.

use std::collections::BTreeMap;

use crewlog::journal::stores::Store;
use crewlog::projections;
use serde_json::{Value, json};

/// Documents by key, as JSON.
pub type Documents = BTreeMap<String, Value>;

/// Every read model, as the log's rows say, without any type of the program.
#[derive(Debug, Default)]
pub(super) struct Naive {
    pub documents: BTreeMap<&'static str, Documents>,
    /// Position, organization, workspace, actor, action, target, outcome.
    pub audit: Vec<[Option<String>; 7]>,
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
    pub async fn of(store: &dyn Store) -> Self {
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
