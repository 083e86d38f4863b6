//! What nobody may ever have done, read off a log.
//!
//! The model folds the rows of the log alone, as JSON, and shares no rule with the program: what a
//! role may is written down here once more, by its rank. Each unit is judged on what was so before
//! it, by position; then it is taken in, and what must be unique is unique.

use std::collections::{BTreeMap, BTreeSet};

use crewlog::journal::StoredEvent;
use serde_json::{Value, json};

/// How often what was seen, by the name of the event.
pub type Seen = BTreeMap<String, usize>;

/// An event as its row has it.
struct Entry {
    position: u64,
    at: i64,
    stream: String,
    kind: String,
    said: Value,
    actor: Value,
    authority: Vec<Value>,
}

/// Who is in what, and since which event: the role of each person.
type Roles = BTreeMap<String, (String, u64)>;

#[derive(Default)]
struct Workspace {
    members: Roles,
    invitations: BTreeMap<String, Invitation>,
    /// Until when.
    auditors: BTreeMap<String, i64>,
}

struct Invitation {
    role: String,
    invited_by: String,
    expires_at: i64,
    ended_by: Option<String>,
}

struct Session {
    user: String,
    position: u64,
    expires_at: i64,
    is_over: bool,
}

struct Key {
    holder: String,
    scopes: Vec<String>,
    expires_at: Option<i64>,
    is_over: bool,
    successor: Option<String>,
    position: u64,
}

#[derive(Default)]
struct Model {
    accounts: BTreeSet<String>,
    sessions: BTreeMap<String, Session>,
    organizations: BTreeMap<String, Roles>,
    workspaces: BTreeMap<String, Workspace>,
    keys: BTreeMap<String, Key>,
    hashes: BTreeSet<String>,
}

/// Judges a whole log.
///
/// # Panics
/// With the event that nobody had a right to, or that breaks what always holds.
pub fn judge(events: &[StoredEvent]) -> Seen {
    let (mut model, mut seen) = (Model::default(), Seen::new());
    let mut unit: Vec<Entry> = Vec::new();
    for event in events {
        let metadata: Value = serde_json::from_str(&event.metadata).expect("JSON");
        if metadata["correlation"].is_null() {
            model.take(&unit);
            unit.clear();
        }
        let entry = Entry::of(event, &metadata);
        *seen.entry(entry.kind.clone()).or_default() += 1;
        unit.push(entry);
    }
    model.take(&unit);
    seen
}

impl Entry {
    fn of(event: &StoredEvent, metadata: &Value) -> Self {
        let payload: Value = serde_json::from_str(&event.payload).expect("JSON");
        let links = metadata["authority"].as_array();
        Self {
            position: event.position,
            at: event.recorded_at.0,
            stream: event.aggregate_id.clone(),
            kind: event.event_type.clone(),
            said: payload[&event.event_type].clone(),
            actor: metadata["actor"].clone(),
            authority: links.cloned().unwrap_or_default(),
        }
    }

    fn text(&self, field: &str) -> &str {
        let text = self.said[field].as_str();
        text.unwrap_or_else(|| panic!("no {field} in {}", self.words()))
    }

    fn time(&self, field: &str) -> i64 {
        self.said[field].as_i64().expect("a time")
    }

    fn actor_is(&self, kind: &str) -> bool {
        self.actor["type"] == kind
    }

    /// Whoever acts.
    fn by(&self) -> &str {
        self.actor["id"].as_str().unwrap_or_default()
    }

    fn words(&self) -> String {
        format!(
            "{} at {}, by {} on {:?}: {}",
            self.kind, self.position, self.actor, self.authority, self.said
        )
    }

    #[track_caller]
    fn must(&self, holds: bool, what: &str) {
        assert!(holds, "{what}: {}", self.words());
    }
}

/// How much a role may, written down once more; nothing where there is none.
fn rank(role: &str) -> u8 {
    match role {
        "viewer" => 1,
        "member" => 2,
        "admin" => MANAGES,
        "owner" => OWNS,
        other => panic!("there is no role {other}"),
    }
}

const MANAGES: u8 = 3;
const OWNS: u8 = 4;

impl Workspace {
    fn rank_of(&self, user: &str) -> u8 {
        self.members.get(user).map_or(0, |(role, _)| rank(role))
    }

    fn pending(&self, entry: &Entry) -> &Invitation {
        let found = self.invitations.get(entry.text("invitation"));
        let found = found.unwrap_or_else(|| panic!("no invitation: {}", entry.words()));
        entry.must(found.ended_by.is_none(), "the invitation is over");
        found
    }
}

impl Key {
    fn is_live(&self, at: i64) -> bool {
        !self.is_over && self.expires_at.is_none_or(|end| at < end)
    }
}

impl Model {
    fn take(&mut self, unit: &[Entry]) {
        for entry in unit {
            self.judge_who(unit, entry);
            match entry.stream.split('_').next() {
                _ if entry.kind == "attempt_refused" => {}
                Some("ws") => self.judge_in_workspace(unit, entry),
                Some("org") => self.judge_in_organization(unit, entry),
                Some("usr") => self.judge_account(unit, entry),
                _ => panic!("a stream of what? {}", entry.words()),
            }
        }
        for entry in unit {
            self.apply(entry);
        }
        for entry in unit {
            self.has_an_owner(entry);
        }
    }

    /// Whoever acts had a live session, or is a live key; or it takes neither.
    fn judge_who(&self, unit: &[Entry], entry: &Entry) {
        let proof = entry.authority.first();
        if entry.kind == "attempt_refused" || entry.actor_is("system") {
            let by_itself = [
                "attempt_refused",
                "sign_in_failed",
                "user_profile_shared",
                "person_recorded",
                "invitation_declined",
                "invitation_expired",
                "auditor_expired",
                "api_key_expired",
                "organization_key_expired",
            ];
            entry.must(by_itself.contains(&entry.kind.as_str()), "nobody did it");
        } else if entry.actor_is("api_key") {
            let link = json!({
                "type": "api_key", "id": entry.by(), "position": self.keys[entry.by()].position,
            });
            entry.must(proof == Some(&link), "a key stands on itself");
            let key = &self.keys[entry.by()];
            entry.must(key.is_live(entry.at), "the key was over");
        } else if !["user_signed_up", "session_started"].contains(&unit[0].kind.as_str())
            && !unit.iter().any(|entry| entry.kind == "user_signed_up")
        {
            let id = proof.and_then(|link| link["id"].as_str());
            let session = id.and_then(|id| self.sessions.get(id));
            let session = session.unwrap_or_else(|| panic!("no session: {}", entry.words()));
            entry.must(session.user == entry.by(), "the session is another's");
            entry.must(!session.is_over, "the session was over");
            entry.must(entry.at < session.expires_at, "the session had run out");
            let position = proof.map(|link| &link["position"]);
            entry.must(position == Some(&json!(session.position)), "since when");
        }
    }

    /// The role that is named on the chain is the one that they have, since then.
    fn stands_on(roles: &Roles, kind: &str, entry: &Entry) {
        let Some((role, position)) = roles.get(entry.by()) else {
            panic!("they have no role: {}", entry.words());
        };
        let link = json!({"type": kind, "role": role, "position": position});
        entry.must(
            entry.authority.get(1) == Some(&link),
            "the role it stands on",
        );
    }

    fn judge_in_workspace(&self, unit: &[Entry], entry: &Entry) {
        let has = |kind: &str| unit.iter().find(|other| other.kind == kind);
        if let Some(created) = has("workspace_created") {
            return self.judge_creation(unit, created, entry);
        }
        let Some(workspace) = self.workspaces.get(&entry.stream) else {
            panic!("no such workspace: {}", entry.words());
        };
        let own = workspace.rank_of(entry.by());
        let may = |least: u8, by: &str| {
            entry.must(own >= least, "they may not");
            entry.must(entry.text(by) == entry.by(), "who did it");
            Self::stands_on(&workspace.members, "role", entry);
        };
        let up_to_own = |role: &str| entry.must(own >= rank(role), "above their own");
        match entry.kind.as_str() {
            "member_invited" => {
                may(MANAGES, "invited_by");
                up_to_own(entry.text("role"));
            }
            "invitation_resent" => {
                may(MANAGES, "resent_by");
                up_to_own(&workspace.pending(entry).role);
            }
            "invitation_revoked" => {
                may(MANAGES, "revoked_by");
                up_to_own(&workspace.pending(entry).role);
            }
            "invitation_accepted" => {
                let pending = workspace.pending(entry);
                let giver = workspace.rank_of(&pending.invited_by);
                entry.must(entry.at < pending.expires_at, "it had run out");
                entry.must(giver >= MANAGES, "its sender may invite no more");
                entry.must(giver >= rank(&pending.role), "above its sender's role");
                entry.must(entry.text("user") == entry.by(), "who came in");
            }
            "invitation_declined" => drop(workspace.pending(entry)),
            "invitation_expired" => {
                let end = workspace.pending(entry).expires_at;
                entry.must(entry.at >= end, "too early");
            }
            "member_joined" => {
                let accepted = has("invitation_accepted").expect("an invitation was accepted");
                let pending = workspace.pending(accepted);
                entry.must(
                    entry.text("role") == pending.role,
                    "the role of the invitation",
                );
                entry.must(entry.text("user") == accepted.text("user"), "who came in");
            }
            "ownership_transferred" => {
                may(OWNS, "from");
                entry.must(workspace.rank_of(entry.text("to")) > 0, "to a member");
            }
            "member_role_changed" if has("ownership_transferred").is_some() => {
                may(OWNS, "changed_by");
            }
            "member_role_changed" => {
                may(MANAGES, "changed_by");
                up_to_own(entry.text("from"));
                up_to_own(entry.text("to"));
            }
            "member_removed" => {
                may(MANAGES, "removed_by");
                up_to_own(entry.text("role"));
            }
            "member_left" => may(1, "user"),
            "workspace_renamed" => {
                entry.must(own >= OWNS, "they may not");
                Self::stands_on(&workspace.members, "role", entry);
            }
            "auditor_granted" => {
                may(MANAGES, "granted_by");
                let user = entry.text("user");
                let grant = workspace.auditors.get(user);
                entry.must(workspace.rank_of(user) == 0, "a member audits");
                entry.must(grant.is_none_or(|end| *end <= entry.at), "granted twice");
            }
            // A grant gives way to a membership.
            "auditor_revoked" if has("invitation_accepted").is_some() => {
                entry.must(entry.text("user") == entry.by(), "whose grant it is");
            }
            // An auditor gives up their own, standing on it.
            "auditor_revoked" if entry.text("user") == entry.by() && own < MANAGES => {
                let grant = workspace.auditors.get(entry.by());
                entry.must(grant.is_some_and(|end| *end > entry.at), "it had run out");
                let link = entry.authority.get(1).map(|link| &link["type"]);
                entry.must(link == Some(&json!("auditor_grant")), "what it stands on");
                entry.must(entry.text("revoked_by") == entry.by(), "who did it");
            }
            "auditor_revoked" => may(MANAGES, "revoked_by"),
            "auditor_expired" => entry.must(entry.at >= entry.time("expires_at"), "too early"),
            "api_key_created" => may(MANAGES, "created_by"),
            "api_key_rotated" => may(MANAGES, "rotated_by"),
            "api_key_revoked" => may(MANAGES, "revoked_by"),
            "api_key_updated" => may(MANAGES, "updated_by"),
            "api_key_expired" => {}
            _ => panic!("the model knows nothing of this: {}", entry.words()),
        }
        self.judge_key(entry);
    }

    /// By an owner of the organization, or by a key of it that makes workspaces.
    fn judge_creation(&self, unit: &[Entry], created: &Entry, entry: &Entry) {
        let organization = created.text("organization");
        if entry.actor_is("api_key") {
            let key = &self.keys[entry.by()];
            let makes = key.scopes.iter().any(|scope| scope == "workspaces:create");
            entry.must(makes && key.holder == organization, "not with this key");
        } else if !unit
            .iter()
            .any(|other| other.kind == "organization_created")
        {
            let roles = &self.organizations[organization];
            let is_owner = roles
                .get(entry.by())
                .is_some_and(|(role, _)| role == "owner");
            entry.must(is_owner, "they may not");
            Self::stands_on(roles, "organization_role", entry);
        }
        match entry.kind.as_str() {
            "workspace_created" | "plan_selected" => {}
            "member_joined" => {
                entry.must(
                    entry.text("user") == created.text("created_by"),
                    "who owns it",
                );
                entry.must(entry.text("role") == "owner", "as what");
            }
            _ => panic!("the model knows nothing of this: {}", entry.words()),
        }
    }

    fn judge_in_organization(&self, unit: &[Entry], entry: &Entry) {
        if entry.kind == "person_recorded"
            || unit.iter().any(|it| it.kind == "organization_created")
        {
            return;
        }
        let roles = &self.organizations[&entry.stream];
        let role_of = |user: &str| roles.get(user).map(|(role, _)| role.as_str());
        let owns = || {
            entry.must(role_of(entry.by()) == Some("owner"), "they may not");
            Self::stands_on(roles, "organization_role", entry);
        };
        match entry.kind.as_str() {
            "organization_member_removed" if entry.text("user") == entry.by() => {
                Self::stands_on(roles, "organization_role", entry);
            }
            "organization_member_added"
            | "organization_member_role_changed"
            | "organization_member_removed"
            | "organization_key_created"
            | "organization_key_rotated"
            | "organization_key_revoked" => owns(),
            "organization_key_expired" => {}
            _ => panic!("the model knows nothing of this: {}", entry.words()),
        }
        self.judge_key(entry);
    }

    /// What is done to a key is done to one that lives; what ran out had run out.
    fn judge_key(&self, entry: &Entry) {
        let Some((_, what)) = entry.kind.split_once("key_") else {
            return;
        };
        if what == "created" {
            return;
        }
        let key = &self.keys[entry.text("key")];
        entry.must(key.holder == entry.stream, "another's key");
        match what {
            "expired" => {
                entry.must(!key.is_over, "it was over");
                entry.must(
                    key.expires_at.is_some_and(|end| entry.at >= end),
                    "too early",
                );
            }
            "rotated" => {
                entry.must(key.is_live(entry.at), "it was over");
                entry.must(key.successor.is_none(), "it has a successor");
            }
            _ => entry.must(key.is_live(entry.at), "it was over"),
        }
    }

    fn judge_account(&self, unit: &[Entry], entry: &Entry) {
        let own = entry.actor_is("system") || entry.by() == entry.stream;
        // Whoever comes in is known to the organization in the same unit.
        entry.must(own, "another's account");
        match entry.kind.as_str() {
            "user_signed_up" | "session_started" | "user_profile_shared" => {}
            "session_revoked" => {
                let session = &self.sessions[entry.text("session")];
                entry.must(session.user == entry.by(), "another's session");
                entry.must(!session.is_over, "it was over");
                entry.must(unit.len() == 1, "signing out is all of it");
            }
            _ => panic!("the model knows nothing of this: {}", entry.words()),
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match entry.stream.split('_').next() {
            _ if entry.kind == "attempt_refused" => {}
            Some("ws") => self.apply_in_workspace(entry),
            Some("org") => self.apply_in_organization(entry),
            _ => self.apply_to_account(entry),
        }
        if let Some((_, what)) = entry.kind.split_once("key_") {
            self.apply_to_key(entry, what);
        }
    }

    fn apply_in_workspace(&mut self, entry: &Entry) {
        let at = &entry.stream;
        if entry.kind == "workspace_created" {
            let former = self.workspaces.insert(at.clone(), Workspace::default());
            return entry.must(former.is_none(), "it is made once");
        }
        let workspace = self.workspaces.get_mut(at).expect("a workspace");
        match entry.kind.as_str() {
            "member_joined" => {
                let role = (entry.text("role").to_owned(), entry.position);
                let user = entry.text("user").to_owned();
                let former = workspace.members.insert(user, role);
                entry.must(former.is_none(), "a member once");
            }
            "member_role_changed" => {
                let role = (entry.text("to").to_owned(), entry.position);
                let user = entry.text("user").to_owned();
                let former = workspace.members.insert(user, role);
                let former = former.map(|(role, _)| role);
                entry.must(former.as_deref() == Some(entry.text("from")), "from what");
            }
            "member_removed" | "member_left" => {
                let former = workspace.members.remove(entry.text("user"));
                let former = former.map(|(role, _)| role);
                entry.must(former.as_deref() == Some(entry.text("role")), "as what");
            }
            "member_invited" => {
                let invitation = Invitation {
                    role: entry.text("role").to_owned(),
                    invited_by: entry.text("invited_by").to_owned(),
                    expires_at: entry.time("expires_at"),
                    ended_by: None,
                };
                let id = entry.text("invitation").to_owned();
                let former = workspace.invitations.insert(id, invitation);
                entry.must(former.is_none(), "an invitation once");
            }
            kind if kind.starts_with("invitation_") => {
                let invitation = workspace.invitations.get_mut(entry.text("invitation"));
                let invitation = invitation.expect("an invitation");
                match kind {
                    "invitation_resent" => invitation.expires_at = entry.time("expires_at"),
                    _ => {
                        let former = invitation.ended_by.replace(kind.to_owned());
                        entry.must(former.is_none(), "an invitation is over once");
                    }
                }
            }
            "auditor_granted" => {
                let user = entry.text("user").to_owned();
                workspace.auditors.insert(user, entry.time("expires_at"));
            }
            "auditor_revoked" | "auditor_expired" => {
                let former = workspace.auditors.remove(entry.text("user"));
                entry.must(former.is_some(), "there was no grant");
            }
            _ => {}
        }
    }

    fn apply_in_organization(&mut self, entry: &Entry) {
        let roles = self.organizations.entry(entry.stream.clone());
        let roles = roles.or_default();
        match entry.kind.as_str() {
            "organization_member_added" => {
                let role = (entry.text("role").to_owned(), entry.position);
                let former = roles.insert(entry.text("user").to_owned(), role);
                entry.must(former.is_none(), "a role once");
            }
            "organization_member_role_changed" => {
                let role = (entry.text("to").to_owned(), entry.position);
                let former = roles.insert(entry.text("user").to_owned(), role);
                let former = former.map(|(role, _)| role);
                entry.must(former.as_deref() == Some(entry.text("from")), "from what");
            }
            "organization_member_removed" => {
                let former = roles.remove(entry.text("user"));
                let former = former.map(|(role, _)| role);
                entry.must(former.as_deref() == Some(entry.text("role")), "as what");
            }
            _ => {}
        }
    }

    fn apply_to_key(&mut self, entry: &Entry, what: &str) {
        let id = entry.text("key").to_owned();
        if what == "created" {
            let scopes = entry.said["terms"]["scopes"].as_array().expect("scopes");
            let key = Key {
                holder: entry.stream.clone(),
                scopes: scopes
                    .iter()
                    .filter_map(|scope| scope.as_str().map(str::to_owned))
                    .collect(),
                expires_at: entry.said["terms"]["expires_at"].as_i64(),
                is_over: false,
                successor: None,
                position: entry.position,
            };
            if let Some(from) = entry.said["rotated_from"].as_str() {
                let successor = self.keys[from].successor.as_ref();
                entry.must(successor == Some(&id), "one successor a key");
            }
            let is_new = self.hashes.insert(entry.text("token_hash").to_owned());
            entry.must(is_new, "a secret of its own");
            let former = self.keys.insert(id, key);
            return entry.must(former.is_none(), "a key once");
        }
        let key = self.keys.get_mut(&id).expect("a key");
        match what {
            "rotated" => {
                key.successor = Some(entry.text("successor").to_owned());
                key.expires_at = Some(entry.time("expires_at"));
            }
            "updated" => {
                key.expires_at = entry.said["to"]["expires_at"].as_i64();
                key.position = entry.position;
            }
            _ => key.is_over = true,
        }
    }

    fn apply_to_account(&mut self, entry: &Entry) {
        match entry.kind.as_str() {
            "user_signed_up" => {
                let is_new = self.accounts.insert(entry.stream.clone());
                entry.must(is_new, "an account once");
            }
            "session_started" => {
                let session = Session {
                    user: entry.stream.clone(),
                    position: entry.position,
                    expires_at: entry.time("expires_at"),
                    is_over: false,
                };
                let id = entry.text("session").to_owned();
                let former = self.sessions.insert(id, session);
                entry.must(former.is_none(), "a session once");
            }
            "session_revoked" => {
                let session = self.sessions.get_mut(entry.text("session"));
                session.expect("a session").is_over = true;
            }
            _ => {}
        }
    }

    fn has_an_owner(&self, entry: &Entry) {
        let roles = match self.workspaces.get(&entry.stream) {
            Some(workspace) => &workspace.members,
            None => match self.organizations.get(&entry.stream) {
                Some(roles) => roles,
                None => return,
            },
        };
        let is_owned = roles.values().any(|(role, _)| role == "owner");
        entry.must(is_owned, "nobody owns it any more");
    }
}
