//! Somebody who has signed up, and owns workspaces.

use std::{sync::Arc, time::Duration};

use crewlog::{
    domain::{
        EmailAddress, Name,
        ids::{OrganizationId, WorkspaceId},
    },
    journal::{SystemSource, sealing::RootKey, stores::Store},
    service::{Caller, Request, Service, ServiceSettings, SignUp},
};

/// A service on a store, and its first user.
#[derive(Clone)]
pub struct Owner<S = Arc<Service>> {
    pub service: S,
    pub caller: Caller,
    pub token: String,
    pub organization: OrganizationId,
    pub workspaces: Vec<WorkspaceId>,
}

/// What every request brings.
pub fn request() -> Request {
    Request {
        request_id: Some("req_bench".to_owned()),
        ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        user_agent: Some("bench".to_owned()),
        ..Request::default()
    }
}

pub async fn serve(store: Arc<dyn Store>, root: &RootKey) -> Arc<Service> {
    serve_with(store, root, ServiceSettings::default()).await
}

pub async fn serve_with(
    store: Arc<dyn Store>,
    root: &RootKey,
    settings: ServiceSettings,
) -> Arc<Service> {
    let started = Service::start(store, Arc::new(SystemSource), root, settings).await;
    started.expect("Crewlog starts")
}

impl Owner {
    /// Signs somebody up and makes workspaces of theirs.
    pub async fn of(service: Arc<Service>, workspaces: usize) -> Self {
        let asked = SignUp {
            email: EmailAddress::parse("bench@example.com").expect("an address"),
            password: "a long enough password".into(),
            name: Name::parse("Bench").expect("a name"),
            organization: Some(Name::parse("Bench").expect("a name")),
            workspace: None,
        };
        let signed_up = service.sign_up(&request(), asked).await;
        let signed_up = signed_up.expect("signing up").value;
        let mut owner = Self {
            caller: Caller {
                user: signed_up.me.id,
                session: signed_up.session.id,
            },
            token: signed_up
                .session
                .token
                .expect("it is shown once")
                .expose()
                .to_owned(),
            organization: signed_up.organization.expect("it was asked for").id,
            workspaces: Vec::new(),
            service,
        };
        owner.workspaces = owner.more("free", workspaces).await;
        owner
    }

    /// More workspaces of theirs, on a plan.
    pub async fn more(&self, plan: &str, workspaces: usize) -> Vec<WorkspaceId> {
        let mut more = Vec::with_capacity(workspaces);
        for _ in 0..workspaces {
            let name = Name::parse("Workspace").expect("a name");
            let plan = plan.parse().expect("a plan");
            let made = self
                .service
                .create_workspace(&request(), &self.caller, self.organization, name, plan)
                .await;
            more.push(made.expect("a workspace is made").value.id);
        }
        more
    }

    /// Stops the service, so that another can be started on its store.
    pub async fn outlive(self, limit: Duration) -> Owner<()> {
        assert!(self.service.stop(limit).await, "it stops");
        self.at(())
    }

    /// Renames one of the workspaces; `count` makes the name a new one.
    pub async fn rename(&self, workspace: WorkspaceId, count: usize) {
        let name = Name::parse(&format!("Workspace {count}")).expect("a name");
        let renamed = self
            .service
            .rename_workspace(&request(), &self.caller, workspace, name)
            .await;
        renamed.expect("it is renamed");
    }
}

impl<S> Owner<S> {
    /// The same person at another service.
    pub fn at<T>(self, service: T) -> Owner<T> {
        Owner {
            service,
            caller: self.caller,
            token: self.token,
            organization: self.organization,
            workspaces: self.workspaces,
        }
    }
}
