//! People and teams, made through the API as a client makes them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::support::server::{Call, Reply, Server};

/// A form that no built-in plan, id or name has, so that a search for it finds nothing else.
const PASSWORD: &str = "pw-Zw3q";

/// Somebody with an account and a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub email: String,
    pub password: String,
    pub user: String,
    pub session: String,
    pub token: String,
    /// When the session ends: a time that is in the future, whatever the clock says.
    pub later: String,
}

/// Everybody who can ask: those of a workspace, and those who are not.
#[derive(Debug, Clone)]
pub struct Team {
    pub organization: String,
    pub workspace: String,
    pub owner: Person,
    pub admin: Person,
    pub member: Person,
    pub viewer: Person,
    /// Owns the organization, and is no member of the workspace.
    pub organization_owner: Person,
    /// Owns another workspace of the same organization, and is no member of this one.
    pub neighbour: Person,
    pub neighbours_workspace: String,
    /// Has an account, and nothing else.
    pub stranger: Person,
    /// Audits the workspace, and is no member of it.
    pub auditor: Person,
    /// Has the role `billing` in the organization, and is in no workspace.
    pub billing: Person,
    /// Has the role `auditor` in the organization, and is in no workspace.
    pub organization_auditor: Person,
    /// Operates the installation, by a key, where the store was made ready for that.
    pub operator: Person,
}

/// A kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Owner,
    Admin,
    Member,
    Viewer,
    OrganizationOwner,
    Neighbour,
    Stranger,
    Anonymous,
    Auditor,
    Billing,
    OrganizationAuditor,
    Operator,
}

impl Who {
    pub const ALL: [Self; 12] = [
        Self::Owner,
        Self::Admin,
        Self::Member,
        Self::Viewer,
        Self::OrganizationOwner,
        Self::Neighbour,
        Self::Stranger,
        Self::Anonymous,
        Self::Auditor,
        Self::Billing,
        Self::OrganizationAuditor,
        Self::Operator,
    ];
}

/// A number that nobody else in this process has.
pub fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// An address that nobody has.
pub fn address(who: &str) -> String {
    let who = who.replace(' ', "-");
    format!("{who}.{}@mail-of-tests.example", number())
}

/// A password that nobody has.
pub fn password() -> String {
    format!("{PASSWORD}-{}-Kx", number())
}

/// The text at a JSON pointer.
#[track_caller]
pub fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer).and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => panic!("no text at {pointer} of {value}"),
    }
}

impl Person {
    /// Signs up with an account alone.
    pub async fn sign_up(server: &Server, who: &str) -> Self {
        Self::sign_up_with(server, who, json!({})).await.0
    }

    /// Signs up with `more` in the body; answers with what was answered.
    pub async fn sign_up_with(server: &Server, who: &str, more: Value) -> (Self, Reply) {
        let name = format!("{who} {}", number());
        let (email, password) = (address(who), password());
        let mut body = json!({"email": email, "password": password, "name": name});
        merge(&mut body, more);
        let reply = server.post("/v1/signup").json(&body).await.expect(201);
        let person = Self {
            name,
            email,
            password,
            user: text(&reply.body, "/user/id"),
            session: text(&reply.body, "/session/id"),
            token: text(&reply.body, "/session/token"),
            later: text(&reply.body, "/session/expires_at"),
        };
        (person, reply)
    }

    /// Who operates the installation: nobody with an account, so that nothing of them but the key
    /// means anything.
    fn operator(server: &Server) -> Self {
        let operated = server.operated();
        let nothing = || format!("nothing {}", number());
        Self {
            name: nothing(),
            email: address("operator"),
            password: password(),
            user: operated.map_or_else(nothing, |operated| operated.key.clone()),
            session: nothing(),
            token: operated.map_or_else(nothing, |operated| operated.secret.clone()),
            later: nothing(),
        }
    }

    /// Another session of the same person.
    pub async fn sign_in(&self, server: &Server) -> Self {
        let body = json!({"email": self.email, "password": self.password});
        let reply = server.post("/v1/sessions").json(body).await.expect(201);
        Self {
            session: text(&reply.body, "/id"),
            token: text(&reply.body, "/token"),
            ..self.clone()
        }
    }
}

impl Team {
    /// A new crew of the workspace.
    pub async fn crew(&self, server: &Server, environment: &str) -> String {
        let name = format!("Client {} - {environment}", number());
        let body = json!({"name": name, "environment": environment});
        let call = server.post(&self.path("/crews")).bearer(&self.owner.token);
        text(&call.json(body).await.expect(201).body, "/id")
    }

    pub async fn make(server: &Server) -> Self {
        let made = json!({
            "organization": {"name": format!("Org {}", number())},
            "workspace": {"name": format!("Team {}", number()), "plan": "team"},
        });
        let (organization_owner, reply) = Person::sign_up_with(server, "boss", made).await;
        let organization = text(&reply.body, "/organization/id");
        let workspace = text(&reply.body, "/workspace/id");
        let mut people = Vec::new();
        for (who, role) in [
            ("owner", "owner"),
            ("admin", "admin"),
            ("member", "member"),
            ("viewer", "viewer"),
        ] {
            let person = Person::sign_up(server, who).await;
            let token = invited(server, &workspace, &organization_owner, &person.email, role).await;
            accept(server, &person, &token).await.expect(200);
            people.push(person);
        }
        // Whoever owns the organization leaves; they keep the organization and nothing else.
        server
            .delete(&format!(
                "/v1/workspaces/{workspace}/members/{}",
                organization_owner.user
            ))
            .bearer(&organization_owner.token)
            .await
            .expect(204);
        let neighbour = Person::sign_up(server, "neighbour").await;
        let neighbours_workspace =
            workspace_for(server, &organization, &organization_owner, &neighbour).await;
        let stranger = Person::sign_up(server, "stranger").await;
        let [owner, admin, member, viewer] = people.try_into().expect("four people");
        let auditor = Person::sign_up(server, "auditor").await;
        grant(server, &workspace, &owner, &auditor)
            .await
            .expect(201);
        let mut officers = Vec::new();
        for role in ["billing", "auditor"] {
            let officer = Person::sign_up(server, role).await;
            let path = format!("/v1/organizations/{organization}/members/{}", officer.user);
            let call = server.put(&path).bearer(&organization_owner.token);
            call.json(json!({"role": role})).await.expect(200);
            officers.push(officer);
        }
        let [billing, organization_auditor] = officers.try_into().expect("two people");
        Self {
            organization,
            workspace,
            owner,
            admin,
            member,
            viewer,
            organization_owner,
            neighbour,
            neighbours_workspace,
            stranger,
            auditor,
            billing,
            organization_auditor,
            operator: Person::operator(server),
        }
    }

    /// Nobody for [`Who::Anonymous`].
    pub fn person(&self, who: Who) -> Option<&Person> {
        match who {
            Who::Owner => Some(&self.owner),
            Who::Admin => Some(&self.admin),
            Who::Member => Some(&self.member),
            Who::Viewer => Some(&self.viewer),
            Who::OrganizationOwner => Some(&self.organization_owner),
            Who::Neighbour => Some(&self.neighbour),
            Who::Stranger => Some(&self.stranger),
            Who::Anonymous => None,
            Who::Auditor => Some(&self.auditor),
            Who::Billing => Some(&self.billing),
            Who::OrganizationAuditor => Some(&self.organization_auditor),
            Who::Operator => Some(&self.operator),
        }
    }

    /// A path in the workspace.
    pub fn path(&self, rest: &str) -> String {
        format!("/v1/workspaces/{}{rest}", self.workspace)
    }

    /// A new account that is a member of the workspace.
    pub async fn joined(&self, server: &Server, role: &str) -> Person {
        let person = Person::sign_up(server, "guest").await;
        self.join(server, &person, role).await;
        person
    }

    /// Brings somebody with an account into the workspace.
    pub async fn join(&self, server: &Server, person: &Person, role: &str) {
        let token = invited(server, &self.workspace, &self.owner, &person.email, role).await;
        accept(server, person, &token).await.expect(200);
    }
}

/// A workspace of an organization that `person` alone is in.
async fn workspace_for(
    server: &Server,
    organization: &str,
    maker: &Person,
    person: &Person,
) -> String {
    let made = server
        .post(&format!("/v1/organizations/{organization}/workspaces"))
        .bearer(&maker.token)
        .json(json!({"name": format!("Next door {}", number())}))
        .await
        .expect(201);
    let workspace = text(&made.body, "/id");
    let token = invited(server, &workspace, maker, &person.email, "owner").await;
    accept(server, person, &token).await.expect(200);
    server
        .delete(&format!(
            "/v1/workspaces/{workspace}/members/{}",
            maker.user
        ))
        .bearer(&maker.token)
        .await
        .expect(204);
    workspace
}

/// Grants somebody to read the audit log, until their session ends.
pub fn grant(server: &Server, workspace: &str, by: &Person, auditor: &Person) -> Call {
    server
        .post(&format!("/v1/workspaces/{workspace}/auditors"))
        .bearer(&by.token)
        .json(json!({"email": auditor.email, "expires_at": auditor.later}))
}

/// Invites; answers with the whole invitation.
pub async fn invite(
    server: &Server,
    workspace: &str,
    inviter: &Person,
    email: &str,
    role: &str,
) -> Reply {
    server
        .post(&format!("/v1/workspaces/{workspace}/invitations"))
        .bearer(&inviter.token)
        .json(json!({"email": email, "role": role}))
        .await
}

/// Invites; answers with the token.
pub async fn invited(
    server: &Server,
    workspace: &str,
    inviter: &Person,
    email: &str,
    role: &str,
) -> String {
    let reply = invite(server, workspace, inviter, email, role).await;
    text(&reply.expect(201).body, "/token")
}

/// Accepts with an account.
pub fn accept(server: &Server, person: &Person, token: &str) -> Call {
    server
        .post("/v1/invitations/accept")
        .bearer(&person.token)
        .json(json!({"token": token}))
}

/// Puts the members of one object into another.
pub fn merge(into: &mut Value, more: Value) {
    let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) else {
        panic!("only objects are merged");
    };
    into.extend(more);
}
