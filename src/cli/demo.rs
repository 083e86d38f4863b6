//! The demo of `crewlog serve --demo`: a small organization, made in an empty store through the
//! same service functions as the API's.
//!
//! Its people's passwords are random, and forgotten; only the owner's is kept, in `demo.json` in
//! the data folder for its owner alone, so that a later start can sign in again.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Failure, Output, Place, logging::announce};
use crate::{
    domain::{
        EmailAddress, Name,
        authority::Role,
        ids::{UserId, WorkspaceId},
        plans::PlanName,
    },
    journal::{
        Source,
        stores::{self, Store},
    },
    service::{
        Acceptance, Caller, FirstWorkspace, Newcomer, Request, Service, ServiceError, SessionView,
        SignUp, Token,
    },
};

const FILE: &str = "demo.json";
const OWNER: Person = Person {
    name: "Ada Okafor",
    email: "ada@demo.example",
};
const ADMIN: Person = Person {
    name: "Ben Lindqvist",
    email: "ben@demo.example",
};
const MEMBER: Person = Person {
    name: "Chloe Marsh",
    email: "chloe@demo.example",
};
const VIEWER: Person = Person {
    name: "Deniz Kaya",
    email: "deniz@demo.example",
};
const LEAVER: Person = Person {
    name: "Emil Novak",
    email: "emil@demo.example",
};
const INVITED: &str = "farah@demo.example";
const NEXT_INVITED: &str = "grace@demo.example";

#[derive(Clone, Copy)]
struct Person {
    name: &'static str,
    email: &'static str,
}

/// What is kept of the demo.
#[derive(Serialize, Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

/// A demo whose owner is signed in.
#[derive(Debug)]
pub struct Demo {
    token: Token,
    /// The workspaces' ids and names.
    workspaces: Vec<(WorkspaceId, String)>,
}

/// Makes the demo in an empty store, or signs its owner in again; none in a store that holds
/// something else.
///
/// # Errors
/// When it cannot be made, or its owner cannot sign in.
pub async fn prepare(
    service: &Service,
    store: &dyn Store,
    source: &dyn Source,
    place: &Place,
) -> Result<Option<Demo>, Failure> {
    let is_empty = stores::head(store).await?.position == 0;
    let kept = read(place)?;
    let session = match (is_empty, kept) {
        (true, kept) => {
            let credentials = match kept {
                Some(credentials) => credentials,
                None => keep(place, password(source))?,
            };
            Builder { service, source }
                .build(credentials.password.into())
                .await?
        }
        (false, Some(credentials)) => sign_in(service, credentials).await?,
        (false, None) => {
            announce!(
                "the store holds data already, so no demo is made in it; --demo needs an empty one"
            );
            return Ok(None);
        }
    };
    let caller = Caller {
        user: session.user,
        session: session.id,
    };
    let memberships = service
        .me_of(&Request::default(), &caller)
        .await?
        .value
        .memberships;
    let token = session.token.ok_or_else(|| {
        Failure::could_not_run("the demo's session has no token, which is a defect of crewlog")
    })?;
    Ok(Some(Demo {
        token,
        workspaces: memberships
            .into_iter()
            .map(|membership| (membership.workspace, membership.name))
            .collect(),
    }))
}

impl Demo {
    /// Prints where it is, a token, and commands to paste.
    ///
    /// # Errors
    /// When stdout does not take it.
    pub fn print(&self, url: &str, output: Output) -> Result<(), Failure> {
        let token = self.token.expose();
        let workspaces: Vec<_> = self
            .workspaces
            .iter()
            .map(|(id, name)| json!({"id": id, "name": name}))
            .collect();
        let json = json!({
            "url": url, "email": OWNER.email, "token": token, "workspaces": workspaces
        });
        let (workspace, name) = self.workspaces.first().cloned().unzip();
        let workspace = workspace.map(|id| id.to_string()).unwrap_or_default();
        let name = name.unwrap_or_default();
        let authorization = format!("-H 'Authorization: Bearer {token}'");
        let text = format!(
            "The demo is at {url} (API page: {url}/docs). You are its owner, {owner}, with the session token
{token}

# Who am I, and in which workspaces?
curl -s {url}/v1/me {authorization}

# What has happened in the workspace {name}?
curl -s {url}/v1/workspaces/{workspace}/audit {authorization}

# Invite somebody.
curl -s {url}/v1/workspaces/{workspace}/invitations {authorization} \
-H 'Content-Type: application/json' -d '{{\"email\":\"{NEXT_INVITED}\",\"role\":\"member\"}}'
",
            owner = OWNER.email,
        );
        output.result(&json, &text)
    }
}

fn read(place: &Place) -> Result<Option<Credentials>, Failure> {
    let path = place.folder().join(FILE);
    let wrong = |error: String| {
        Failure::could_not_run(format!(
            "the demo's file {} cannot be read ({error}); start without --demo",
            path.display()
        ))
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn keep(place: &Place, password: String) -> Result<Credentials, Failure> {
    let credentials = Credentials {
        email: OWNER.email.to_owned(),
        password,
    };
    place.write_private(FILE, &json!(credentials).to_string())?;
    Ok(credentials)
}

fn password(source: &dyn Source) -> String {
    let mut random = [0; 24];
    source.fill(&mut random);
    BASE64_URL_SAFE_NO_PAD.encode(random)
}

async fn sign_in(service: &Service, kept: Credentials) -> Result<SessionView, Failure> {
    let email = email(&kept.email)?;
    let signed_in = service
        .sign_in(&request(None), &email, kept.password.into())
        .await
        .map_err(|error| {
            Failure::could_not_run(format!(
                "the demo's owner cannot sign in ({error}); start without --demo"
            ))
        })?;
    Ok(signed_in.value)
}

fn request(reason: Option<&str>) -> Request {
    Request {
        user_agent: Some(concat!("crewlog-demo/", env!("CARGO_PKG_VERSION")).to_owned()),
        reason: reason.map(str::to_owned),
        ..Request::default()
    }
}

fn email(text: &str) -> Result<EmailAddress, Failure> {
    EmailAddress::parse(text)
        .map_err(|error| Failure::could_not_run(format!("the demo's address {text}: {error}")))
}

fn name(text: &str) -> Result<Name, Failure> {
    Name::parse(text)
        .map_err(|error| Failure::could_not_run(format!("the demo's name {text}: {error}")))
}

/// Makes the demo, one command after the other.
struct Builder<'a> {
    service: &'a Service,
    source: &'a dyn Source,
}

impl Builder<'_> {
    async fn build(&self, password: SecretString) -> Result<SessionView, Failure> {
        let service = self.service;
        let session = self.sign_up(password).await?;
        let owner = Caller {
            user: session.user,
            session: session.id,
        };
        let me = service.me_of(&Request::default(), &owner).await?.value;
        let (Some(first), Some(organization)) = (me.memberships.first(), me.organizations.first())
        else {
            return Err(Failure::could_not_run(
                "the demo's sign-up made no workspace, which is a defect of crewlog",
            ));
        };
        let (clinic, organization) = (first.workspace, organization.organization);
        let admin = self.newcomer(&owner, clinic, ADMIN, Role::Admin).await?;
        let member = self.newcomer(&admin, clinic, MEMBER, Role::Member).await?;
        let viewer = self.newcomer(&admin, clinic, VIEWER, Role::Viewer).await?;
        let leaver = self.newcomer(&admin, clinic, LEAVER, Role::Member).await?;
        self.change_team(&admin, clinic, &viewer, &leaver).await?;
        self.be_refused(&member, clinic, owner.user).await?;

        let hotel = service
            .create_workspace(
                &request(None),
                &owner,
                organization,
                name("Harbor Hotel")?,
                plan("free")?,
            )
            .await?
            .value
            .id;
        let reason = request(Some("The client spells it this way"));
        service
            .rename_workspace(&reason, &owner, hotel, name("Harbour Hotel")?)
            .await?;
        let reason = request(Some("They start with two teams"));
        service
            .select_plan(&reason, &owner, hotel, plan("team")?)
            .await?;
        let token = self
            .invite(&owner, hotel, MEMBER.email, Role::Admin)
            .await?;
        let acceptance = Acceptance::SignedIn(member);
        service
            .accept_invitation(&request(None), &token, acceptance)
            .await?;
        self.invite(&owner, hotel, INVITED, Role::Viewer).await?;
        Ok(session)
    }

    async fn sign_up(&self, password: SecretString) -> Result<SessionView, Failure> {
        let asked = SignUp {
            email: email(OWNER.email)?,
            password,
            name: name(OWNER.name)?,
            organization: Some(name("Acme Platform")?),
            workspace: Some(FirstWorkspace {
                name: name("Bluebird Clinic")?,
                plan: plan("team")?,
            }),
        };
        let signed_up = self.service.sign_up(&request(None), asked).await?;
        Ok(signed_up.value.session)
    }

    async fn invite(
        &self,
        caller: &Caller,
        workspace: WorkspaceId,
        address: &str,
        role: Role,
    ) -> Result<SecretString, Failure> {
        let invited = self
            .service
            .invite(&request(None), caller, workspace, &email(address)?, role)
            .await?;
        let token = invited.value.token.ok_or_else(|| {
            Failure::could_not_run("a new invitation has no token, which is a defect of crewlog")
        })?;
        Ok(token.expose().to_owned().into())
    }

    /// Invites somebody, who accepts with a new account.
    async fn newcomer(
        &self,
        inviter: &Caller,
        workspace: WorkspaceId,
        person: Person,
        role: Role,
    ) -> Result<Caller, Failure> {
        let token = self.invite(inviter, workspace, person.email, role).await?;
        let acceptance = Acceptance::Newcomer(Newcomer {
            name: name(person.name)?,
            password: password(self.source).into(),
        });
        let accepted = self
            .service
            .accept_invitation(&request(None), &token, acceptance)
            .await?;
        match accepted.value.session {
            Some(session) => Ok(Caller {
                user: session.user,
                session: session.id,
            }),
            None => Err(Failure::could_not_run(
                "a newcomer has no session, which is a defect of crewlog",
            )),
        }
    }

    async fn change_team(
        &self,
        admin: &Caller,
        workspace: WorkspaceId,
        viewer: &Caller,
        leaver: &Caller,
    ) -> Result<(), Failure> {
        let reason = request(Some("Looks after the appointments from now on"));
        self.service
            .change_role(&reason, admin, workspace, viewer.user, Role::Member, None)
            .await?;
        let reason = request(Some("Left the company"));
        self.service
            .remove_member(&reason, admin, workspace, leaver.user)
            .await?;
        Ok(())
    }

    /// A member tries to demote the owner, and is refused: the attempt is in the audit log.
    async fn be_refused(
        &self,
        member: &Caller,
        workspace: WorkspaceId,
        owner: UserId,
    ) -> Result<(), Failure> {
        let attempt = self
            .service
            .change_role(&request(None), member, workspace, owner, Role::Viewer, None)
            .await;
        match attempt {
            Err(ServiceError::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(Failure::could_not_run(
                "a member demoted the owner, which is a defect of crewlog",
            )),
        }
    }
}

fn plan(text: &str) -> Result<PlanName, Failure> {
    text.parse::<PlanName>()
        .map_err(|error| Failure::could_not_run(format!("the demo's plan {text}: {error}")))
}
