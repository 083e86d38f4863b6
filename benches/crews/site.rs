//! A workspace full of crews with agents, made by the service itself.

use std::{sync::Arc, time::Duration};

use crewlog::{
    domain::{
        Name,
        crew::{CrewProfile, ItemId, ItemKind},
        environment::Environment,
        ids::{CrewId, WorkspaceId},
    },
    journal::{sealing::RootKey, stores::Store},
    service::{ItemDraft, Principal, Request, Service},
};
use futures::{StreamExt, stream};
use serde_json::json;

use crate::{
    STOP,
    harness::{
        Place,
        owner::{Owner, request, serve},
    },
};

/// Agents of each crew.
pub const AGENTS: usize = 25;
/// Crews of each client.
const OF_CLIENT: usize = 10;
/// Callers who make them.
const MAKERS: usize = 64;

#[derive(Clone)]
pub struct Site {
    place: Arc<Reopened>,
    owner: Owner<Option<Arc<Service>>>,
    pub principal: Principal,
    crews: Arc<[(CrewId, Vec<ItemId>)]>,
}

/// How the store is opened again.
struct Reopened {
    folder: std::path::PathBuf,
    database_url: Option<String>,
    root: RootKey,
}

impl Reopened {
    async fn open(&self) -> Arc<dyn Store> {
        use crewlog::journal::stores::{postgres::PostgresStore, sqlite::SqliteStore};
        match &self.database_url {
            None => Arc::new(SqliteStore::open(&self.folder).await.expect("it opens")),
            Some(url) => Arc::new(PostgresStore::open(url).await.expect("it opens")),
        }
    }

    /// Waits until nobody writes to it any more: what was begun behind a service may end after it.
    async fn released(&self) {
        use crewlog::journal::stores::sqlite::SqliteStore;
        if self.database_url.is_some() {
            return;
        }
        for _ in 0..1_000 {
            if SqliteStore::open(&self.folder).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody still writes to it");
    }
}

impl Site {
    /// A workspace with so many crews, each with its agents; and one more that is archived.
    pub async fn filled(place: &Place, root: &RootKey, crews: usize) -> Self {
        let owner = Owner::of(serve(place.open().await, root).await, 1).await;
        let service = owner.service.clone();
        let plan = "enterprise".parse().expect("a plan");
        let workspace = owner.workspaces[0];
        let request = request();
        let selected = service.select_plan(&request, &owner.caller, workspace, plan);
        selected.await.expect("a plan without quotas");
        let principal = Principal::from(&owner.caller);
        let made = stream::iter(0..crews)
            .map(|nth| crew(service.clone(), principal.clone(), workspace, nth))
            .buffered(MAKERS);
        let crews: Vec<_> = made.collect().await;
        let archived = crew(service.clone(), principal.clone(), workspace, crews.len()).await;
        let at = (workspace, archived.0);
        let archived = service.archive_crew(&request, &principal, at).await;
        archived.expect("it is archived");
        Self {
            place: Arc::new(Reopened {
                folder: place.folder.path().to_owned(),
                database_url: place.database.as_ref().map(|it| it.url().to_owned()),
                root: RootKey::from_text(&root.to_text()).expect("the same key"),
            }),
            owner: owner.at(Some(service)),
            principal,
            crews: crews.into(),
        }
    }

    pub fn service(&self) -> &Arc<Service> {
        self.owner.service.as_ref().expect("it is started")
    }

    pub fn workspace(&self) -> WorkspaceId {
        self.owner.workspaces[0]
    }

    /// Stops the service.
    pub async fn stop(&mut self) {
        if let Some(service) = self.owner.service.take() {
            assert!(service.stop(STOP).await, "it stops");
            drop(service);
            self.place.released().await;
        }
    }

    /// On the store as it was left.
    pub async fn start(&mut self) {
        let store = self.place.open().await;
        self.owner.service = Some(serve(store, &self.place.root).await);
    }

    /// The store itself, with nothing on it.
    pub async fn bare(&self) -> Arc<dyn Store> {
        self.place.open().await
    }

    pub fn crew(&self, nth: usize) -> (WorkspaceId, CrewId) {
        (self.workspace(), self.crews[nth % self.crews.len()].0)
    }

    /// The client of the crew of that number.
    pub fn client(&self, nth: usize) -> String {
        format!("Client {}", nth % self.crews.len() / OF_CLIENT)
    }

    /// A word of the name of the crew of that number.
    pub fn crew_word(&self, nth: usize) -> String {
        format!("Crew{}", nth % self.crews.len())
    }

    /// An agent of the crew of that number.
    pub fn agent(&self, nth: usize) -> ItemId {
        self.crews[nth % self.crews.len()].1[nth % AGENTS]
    }

    /// Has an agent say something new.
    pub async fn edit(&self, nth: usize, says: usize) {
        let draft = draft(&format!("Agent {}", nth % AGENTS), json!({"says": says}));
        let (at, agent) = (self.crew(nth), self.agent(nth));
        let (service, request) = (self.service(), with_reason());
        let edited = service.update_item(&request, &self.principal, at, agent, draft);
        edited.await.expect("it is edited");
    }
}

fn draft(name: &str, config: serde_json::Value) -> ItemDraft {
    ItemDraft {
        name: Name::parse(name).expect("a name"),
        config,
        // Where that is needed: some crews are production.
        breaks_glass: true,
    }
}

fn with_reason() -> Request {
    Request {
        reason: Some("measuring".to_owned()),
        ..request()
    }
}

async fn crew(
    service: Arc<Service>,
    principal: Principal,
    workspace: WorkspaceId,
    nth: usize,
) -> (CrewId, Vec<ItemId>) {
    let environment = match nth % 20 {
        0 => Environment::Production,
        other if other % 2 == 0 => Environment::Development,
        _ => Environment::Staging,
    };
    let profile = CrewProfile {
        name: format!("Crew{nth} of a client"),
        client: Some(format!("Client {}", nth / OF_CLIENT)),
    };
    let description = Some(format!("Answers what clients of crew {nth} call about"));
    let made = service
        .create_crew(
            &request(),
            &principal,
            workspace,
            environment,
            (profile, description),
        )
        .await;
    let crew = made.expect("a crew").value.id();
    let mut agents = Vec::with_capacity(AGENTS);
    for agent in 0..AGENTS {
        let prompt = format!(
            "You are agent {agent} of crew {nth}. {}",
            "Be kind. ".repeat(50)
        );
        let draft = draft(&format!("Agent {agent}"), json!({"prompt": prompt}));
        let request = with_reason();
        let made = service
            .create_item(
                &request,
                &principal,
                (workspace, crew),
                ItemKind::Agent,
                draft,
            )
            .await;
        agents.push(made.expect("an agent").value.item.id);
    }
    (crew, agents)
}
