//! Crewlog: authority, decision, entry, leaf, scope chain, sealed metadata, document, audit
//! row, durable commit, and the answer.

use std::{path::Path, sync::Arc};

use crewlog::{
    domain::{EmailAddress, Name, ids::WorkspaceId},
    journal::{
        SystemSource,
        sealing::RootKey,
        stores::{Store, postgres::PostgresStore, sqlite::SqliteStore},
    },
    service::{Caller, Request, Service, ServiceSettings, SignUp},
};
use futures::{FutureExt, future::BoxFuture};

use crate::{Answer, STREAMS, Side};

pub struct Ours {
    name: &'static str,
    service: Arc<Service>,
    caller: Caller,
    workspaces: Vec<WorkspaceId>,
    request: Request,
}

impl Ours {
    pub async fn on_sqlite(folder: &Path) -> Self {
        let store = SqliteStore::open(folder).await.expect("SQLite opens");
        Self::start("Crewlog, SQLite", Arc::new(store)).await
    }

    pub async fn on_postgres(url: &str) -> Self {
        let store = PostgresStore::open(url).await.expect("PostgreSQL opens");
        Self::start("Crewlog, PostgreSQL", Arc::new(store)).await
    }

    async fn start(name: &'static str, store: Arc<dyn Store>) -> Self {
        let root = RootKey::generate(&SystemSource);
        let settings = ServiceSettings::default();
        let service = Service::start(store, Arc::new(SystemSource), &root, settings)
            .await
            .expect("Crewlog starts");
        let request = Request {
            request_id: Some("req_bench".to_owned()),
            ip: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            user_agent: Some("bench".to_owned()),
            ..Request::default()
        };
        let asked = SignUp {
            email: EmailAddress::parse("bench@example.com").expect("an address"),
            password: "a long enough password".into(),
            name: Name::parse("Bench").expect("a name"),
            organization: Some(Name::parse("Bench").expect("a name")),
            workspace: None,
        };
        let signed_up = service
            .sign_up(&request, asked)
            .await
            .expect("signing up")
            .value;
        let caller = Caller {
            user: signed_up.me.id,
            session: signed_up.session.id,
        };
        let organization = signed_up.organization.expect("it was asked for").id;
        let mut workspaces = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            let name = Name::parse("Workspace").expect("a name");
            let plan = "free".parse().expect("a plan");
            let made = service
                .create_workspace(&request, &caller, organization, name, plan)
                .await;
            workspaces.push(made.expect("a workspace is made").value.id);
        }
        Self {
            name,
            service,
            caller,
            workspaces,
            request,
        }
    }
}

impl Side for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn rename(&self, stream: usize, count: u64) -> BoxFuture<'_, Answer> {
        async move {
            let name = Name::parse(&format!("Workspace {count}")).expect("a name");
            let workspace = self.workspaces[stream];
            let renamed = self
                .service
                .rename_workspace(&self.request, &self.caller, workspace, name)
                .await;
            renamed.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            Answer::Done
        }
        .boxed()
    }

    fn remark(&self) -> BoxFuture<'_, Option<String>> {
        async move { None }.boxed()
    }
}
