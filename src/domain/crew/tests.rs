//! The rules of a crew, given what happened.

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use uuid::Uuid;

use super::*;
use crate::domain::{
    Name,
    contents::{Content, Digest},
    ids::{AgentId, CredentialId, DocumentId, KnowledgeBaseId, PathwayId},
    testing::{at, name, organization, sealed, workspace},
};

type Rules = TestFramework<Crew>;

fn rules() -> Rules {
    Rules::with(at(1_000))
}

fn place(environment: Environment) -> CrewPlace {
    CrewPlace {
        id: CrewId::from_uuid(Uuid::from_u128(7)),
        environment,
    }
}

fn profile(name: &str, client: Option<&str>) -> CrewProfile {
    CrewProfile {
        name: name.to_owned(),
        client: client.map(str::to_owned),
    }
}

fn create(environment: Environment) -> CrewCommand {
    CrewCommand::Create {
        crew: place(environment),
        workspace: workspace(1),
        organization: organization(1),
        profile: profile("Acme Corp - Staging", None),
        description: None,
    }
}

fn created(environment: Environment) -> CrewEvent {
    CrewEvent::CrewCreated {
        crew: place(environment),
        workspace: workspace(1),
        organization: organization(1),
        profile: profile("Acme Corp - Staging", None),
        description: None,
    }
}

fn renamed(to: &str) -> CrewCommand {
    let change = ProfileChange {
        name: Some(name(to)),
        ..ProfileChange::default()
    };
    CrewCommand::Update { change }
}

#[test]
fn a_crew_is_made_once() {
    rules()
        .given_no_previous_events()
        .when(create(Environment::Staging))
        .then_expect_events(vec![created(Environment::Staging)]);
    rules()
        .given(vec![created(Environment::Staging)])
        .when(create(Environment::Staging))
        .then_expect_error(Refusal::AlreadyExists { what: "crew" });
}

#[test]
fn a_change_says_what_was_before_and_nothing_where_it_is_so_already() {
    let from = profile("Acme Corp - Staging", None);
    let change = ProfileChange {
        client: Some(Some(Name::parse("Acme").unwrap())),
        ..ProfileChange::default()
    };
    rules()
        .given(vec![created(Environment::Staging)])
        .when(CrewCommand::Update { change })
        .then_expect_events(vec![CrewEvent::CrewUpdated {
            from: from.clone(),
            to: CrewProfile {
                client: Some("Acme".to_owned()),
                ..from
            },
            previous: None,
            description: None,
        }]);
    rules()
        .given(vec![created(Environment::Staging)])
        .when(renamed("Acme Corp - Staging"))
        .then_expect_events(vec![]);
}

fn described(previous: Option<&str>, to: Option<&str>, profile_sequence: u64) -> CrewCommand {
    let change = ProfileChange {
        description: Some(DescriptionChange {
            previous: previous.map(sealed),
            description: to.map(sealed),
            profile_sequence,
        }),
        ..ProfileChange::default()
    };
    CrewCommand::Update { change }
}

#[test]
fn a_description_changes_from_what_it_was_sealed_from() {
    let profile = profile("Acme Corp - Staging", None);
    let event = |previous: Option<&str>, to: Option<&str>| CrewEvent::CrewUpdated {
        from: profile.clone(),
        to: profile.clone(),
        previous: previous.map(sealed),
        description: to.map(sealed),
    };
    let begun = vec![created(Environment::Staging), event(None, Some("calls"))];
    rules()
        .given(vec![created(Environment::Staging)])
        .when(described(None, Some("calls"), 1))
        .then_expect_events(vec![event(None, Some("calls"))]);
    rules()
        .given(begun.clone())
        .when(described(Some("calls"), None, 2))
        .then_expect_events(vec![event(Some("calls"), None)]);
    for sequence in [1, 3] {
        rules()
            .given(begun.clone())
            .when(described(Some("calls"), None, sequence))
            .then_expect_error(Refusal::ProfileMoved);
    }
    // What happens inside of the crew is another matter.
    let inside = CrewEvent::KnowledgeBaseCreated(KnowledgeBaseCreated {
        knowledge_base: KnowledgeBaseId::from_uuid(Uuid::from_u128(1)),
        to: KnowledgeBase {
            name: "FAQ".to_owned(),
        },
    });
    rules()
        .given([begun, vec![inside]].concat())
        .when(described(Some("calls"), None, 2))
        .then_expect_events(vec![event(Some("calls"), None)]);
}

#[test]
fn nothing_in_an_archived_crew_changes() {
    rules()
        .given(vec![created(Environment::Staging)])
        .when(CrewCommand::Archive)
        .then_expect_events(vec![CrewEvent::CrewArchived {}]);
    for command in [renamed("Another"), CrewCommand::Archive] {
        rules()
            .given(vec![
                created(Environment::Staging),
                CrewEvent::CrewArchived {},
            ])
            .when(command)
            .then_expect_error(Refusal::CrewArchived);
    }
}

#[test]
fn what_was_never_made_is_not_there() {
    let missing = Refusal::NotFound {
        what: "crew",
        hidden: false,
    };
    for command in [renamed("Another"), CrewCommand::Archive] {
        rules()
            .given_no_previous_events()
            .when(command)
            .then_expect_error(missing.clone());
    }
}

#[test]
fn a_crew_lies_in_one_workspace() {
    let mut crew = Crew::default();
    crew.apply(created(Environment::Production));
    assert_eq!(
        crew.lies_in(workspace(1)),
        Ok(place(Environment::Production))
    );
    assert!(crew.lies_in(workspace(2)).is_err());
    assert_eq!(crew.environment(), Some(Environment::Production));
}

#[test]
fn a_name_that_says_only_the_environment_is_warned_about() {
    for empty in [
        "prod",
        "Prod-2",
        "STAGING",
        "dev 01",
        "Production",
        "crew",
        "42",
    ] {
        let told = naming_warning(&profile(empty, Some("Beta Ltd")), Environment::Production);
        let told = told.unwrap_or_else(|| panic!("{empty} is warned about"));
        assert!(told.contains("`Beta Ltd - Production`"), "{told}");
    }
    for telling in [
        "Acme Corp - Production",
        "support prod",
        "Ärzte",
        "prod acme",
    ] {
        let told = naming_warning(&profile(telling, None), Environment::Production);
        assert_eq!(told, None, "{telling}");
    }
    let told = naming_warning(&profile("stg", None), Environment::Staging);
    assert!(told.is_some_and(|told| told.contains("`Acme Corp - Staging`")));
}

fn agent(number: u128) -> ItemId {
    ItemId::Agent(AgentId::from_uuid(Uuid::from_u128(number)))
}

fn content(byte: u8) -> Content {
    Content {
        digest: Digest([byte; 32]),
        size: 2,
    }
}

fn item(text: &str, byte: u8) -> Item {
    Item {
        name: text.to_owned(),
        content: content(byte),
    }
}

fn made(item: ItemId, to: Item) -> CrewEvent {
    ItemEvent::Created(ItemCreated { item, to }).into()
}

fn create_item(item: ItemId, text: &str, byte: u8) -> CrewCommand {
    CrewCommand::Item(ItemCommand::Create {
        item,
        name: name(text),
        content: content(byte),
    })
}

fn update_item(item: ItemId, text: &str, byte: u8) -> CrewCommand {
    CrewCommand::Item(ItemCommand::Update {
        item,
        name: name(text),
        content: content(byte),
    })
}

#[test]
fn names_are_unique_among_those_of_a_kind() {
    let there = vec![
        created(Environment::Staging),
        made(agent(1), item("Greeter", 1)),
        made(agent(2), item("Closer", 1)),
    ];
    let taken = Refusal::NameTaken { what: "agent" };
    for command in [
        create_item(agent(3), "Greeter", 2),
        update_item(agent(2), "Greeter", 1),
    ] {
        rules()
            .given(there.clone())
            .when(command)
            .then_expect_error(taken.clone());
    }
    let pathway = ItemId::Pathway(PathwayId::from_uuid(Uuid::from_u128(1)));
    rules()
        .given(there)
        .when(create_item(pathway, "Greeter", 1))
        .then_expect_events(vec![CrewEvent::PathwayCreated(ItemCreated {
            item: pathway,
            to: item("Greeter", 1),
        })]);
}

#[test]
fn an_item_changes_from_what_it_was_and_goes_once() {
    let there = vec![
        created(Environment::Staging),
        made(agent(1), item("Greeter", 1)),
    ];
    rules()
        .given(there.clone())
        .when(update_item(agent(1), "Greeter", 2))
        .then_expect_events(vec![CrewEvent::AgentUpdated(ItemUpdated {
            item: agent(1),
            from: item("Greeter", 1),
            to: item("Greeter", 2),
        })]);
    rules()
        .given(there.clone())
        .when(update_item(agent(1), "Greeter", 1))
        .then_expect_events(vec![]);
    let remove = CrewCommand::Item(ItemCommand::Remove { item: agent(1) });
    let removed = CrewEvent::AgentRemoved(ItemRemoved {
        item: agent(1),
        from: item("Greeter", 1),
    });
    rules()
        .given(there.clone())
        .when(remove.clone())
        .then_expect_events(vec![removed.clone()]);
    rules()
        .given([there.clone(), vec![removed]].concat())
        .when(remove.clone())
        .then_expect_error(Refusal::NotFound {
            what: "agent",
            hidden: false,
        });
    rules()
        .given([there, vec![CrewEvent::CrewArchived {}]].concat())
        .when(remove)
        .then_expect_error(Refusal::CrewArchived);
}

fn base(number: u128) -> KnowledgeBaseId {
    KnowledgeBaseId::from_uuid(Uuid::from_u128(number))
}

fn document(number: u128) -> DocumentId {
    DocumentId::from_uuid(Uuid::from_u128(number))
}

fn base_made(number: u128, name: &str) -> CrewEvent {
    CrewEvent::KnowledgeBaseCreated(KnowledgeBaseCreated {
        knowledge_base: base(number),
        to: KnowledgeBase {
            name: name.to_owned(),
        },
    })
}

fn says(title: &str, size: u64) -> KnowledgeDocument {
    let content = Content { size, ..content(1) };
    let title = title.to_owned();
    KnowledgeDocument { title, content }
}

fn document_made(which: (u128, u128), to: KnowledgeDocument) -> CrewEvent {
    CrewEvent::DocumentCreated(DocumentCreated {
        knowledge_base: base(which.0),
        document: document(which.1),
        to,
    })
}

fn create_document(which: (u128, u128), size: u64) -> CrewCommand {
    CrewCommand::Knowledge(KnowledgeCommand::CreateDocument {
        base: base(which.0),
        document: document(which.1),
        title: name("Refunds"),
        content: Content { size, ..content(1) },
    })
}

fn update_document(which: (u128, u128), size: u64) -> CrewCommand {
    CrewCommand::Knowledge(KnowledgeCommand::UpdateDocument {
        base: base(which.0),
        document: document(which.1),
        title: name("Refunds"),
        content: Content { size, ..content(1) },
    })
}

#[test]
fn knowledge_bases_have_names_of_their_own_and_go_with_their_documents() {
    let there = vec![
        created(Environment::Production),
        base_made(1, "FAQ"),
        base_made(2, "Prices"),
        document_made((1, 1), says("Refunds", 2)),
        document_made((1, 2), says("Refunds", 2)),
        document_made((2, 3), says("Refunds", 2)),
    ];
    let taken = Refusal::NameTaken {
        what: "knowledge base",
    };
    let rename = |number, to: &str| {
        let (base, name) = (base(number), name(to));
        CrewCommand::Knowledge(KnowledgeCommand::RenameBase { base, name })
    };
    rules()
        .given(there.clone())
        .when(rename(2, "FAQ"))
        .then_expect_error(taken);
    rules()
        .given(there.clone())
        .when(rename(1, "FAQ"))
        .then_expect_events(vec![]);
    let remove = CrewCommand::Knowledge(KnowledgeCommand::RemoveBase { base: base(1) });
    let removed = CrewEvent::KnowledgeBaseRemoved(KnowledgeBaseRemoved {
        knowledge_base: base(1),
        from: KnowledgeBase {
            name: "FAQ".to_owned(),
        },
        documents: vec![document(1), document(2)],
    });
    rules()
        .given(there.clone())
        .when(remove.clone())
        .then_expect_events(vec![removed.clone()]);
    let missing = |what| Refusal::NotFound {
        what,
        hidden: false,
    };
    let gone = [there, vec![removed]].concat();
    for command in [remove, update_document((1, 1), 3)] {
        rules()
            .given(gone.clone())
            .when(command)
            .then_expect_error(missing("knowledge base"));
    }
    // A document is in one knowledge base, and in no other.
    rules()
        .given(gone)
        .when(update_document((2, 1), 3))
        .then_expect_error(missing("document"));
}

#[test]
fn a_knowledge_base_holds_so_much_and_no_more() {
    let there = vec![
        created(Environment::Staging),
        base_made(1, "FAQ"),
        document_made((1, 1), says("Refunds", KNOWLEDGE_BASE_BYTES_MAX - 10)),
    ];
    rules()
        .given(there.clone())
        .when(create_document((1, 2), 10))
        .then_expect_events(vec![document_made((1, 2), says("Refunds", 10))]);
    rules()
        .given(there.clone())
        .when(create_document((1, 2), 11))
        .then_expect_error(Refusal::KnowledgeBaseFull);
    // What it says now makes room for what it is to say.
    let events = rules()
        .given(there)
        .when(update_document((1, 1), KNOWLEDGE_BASE_BYTES_MAX))
        .inspect_result();
    assert_eq!(events.map(|events| events.len()), Ok(1));
    let made = |count: usize| {
        let events = (0..count as u128).map(|number| document_made((1, number), says("a", 1)));
        let first = [created(Environment::Staging), base_made(1, "FAQ")];
        first.into_iter().chain(events).collect::<Vec<_>>()
    };
    rules()
        .given(made(DOCUMENTS_MAX))
        .when(create_document((1, 9_999), 1))
        .then_expect_error(Refusal::KnowledgeBaseFull);
}

fn joined(kind: ConnectionKind, number: u128) -> ConnectionId {
    kind.id(Uuid::from_u128(number))
}

fn integration(called: &str, account: &str) -> Connection {
    Connection::integration(name(called), "salesforce", name(account)).expect("an integration")
}

fn add(connection: ConnectionId, to: Connection) -> CrewCommand {
    CrewCommand::Connection(ConnectionCommand::Add { connection, to })
}

fn was_added(connection: ConnectionId, to: Connection) -> CrewEvent {
    CrewEvent::ConnectionAdded(ConnectionAdded { connection, to })
}

fn set_credential(connection: ConnectionId, number: u128, grace_seconds: u64) -> CrewCommand {
    CrewCommand::Connection(ConnectionCommand::SetCredential {
        connection,
        credential: CredentialId::from_uuid(Uuid::from_u128(number)),
        grace_seconds,
    })
}

fn credential_set(connection: ConnectionId, from: Option<u128>, to: u128) -> CredentialSet {
    let id = |number| CredentialId::from_uuid(Uuid::from_u128(number));
    CredentialSet {
        connection,
        from: from.map(id),
        to: id(to),
        from_until: None,
    }
}

#[test]
fn a_crew_has_an_account_once_and_a_name_once() {
    let [one, two] = [1, 2].map(|number| joined(ConnectionKind::Integration, number));
    let there = vec![
        created(Environment::Staging),
        was_added(one, integration("crm", "Acme")),
    ];
    let what = "integration";
    for (to, refusal) in [
        (
            integration("sales", "ACME"),
            Refusal::AlreadyExists { what },
        ),
        (integration("crm", "Other"), Refusal::NameTaken { what }),
    ] {
        rules()
            .given(there.clone())
            .when(add(two, to))
            .then_expect_error(refusal);
    }
    // Its own name and account are nobody else's.
    let to = integration("crm", "acme");
    let change = ConnectionCommand::Change {
        connection: one,
        to: to.clone(),
    };
    rules()
        .given(there)
        .when(CrewCommand::Connection(change))
        .then_expect_events(vec![CrewEvent::ConnectionChanged(ConnectionChanged {
            connection: one,
            from: integration("crm", "Acme"),
            to,
        })]);
}

#[test]
fn a_credential_takes_the_place_of_the_one_before() {
    let endpoint = joined(ConnectionKind::WebhookEndpoint, 1);
    let to = Connection::webhook_endpoint("https://example.com/", None).expect("an endpoint");
    let there = vec![created(Environment::Staging), was_added(endpoint, to)];
    rules()
        .given(there.clone())
        .when(set_credential(endpoint, 1, 60))
        .then_expect_events(vec![CrewEvent::CredentialSet(credential_set(
            endpoint, None, 1,
        ))]);
    let first = CrewEvent::CredentialSet(credential_set(endpoint, None, 1));
    let has_one = [there, vec![first]].concat();
    let after = |seconds: u64| Some(at(1_000).now.plus(TimeDelta::seconds(seconds as i64)));
    for (grace_seconds, from_until) in [
        (0, None),
        (60, after(60)),
        (u64::MAX, after(GRACE_SECONDS_MAX)),
    ] {
        rules()
            .given(has_one.clone())
            .when(set_credential(endpoint, 2, grace_seconds))
            .then_expect_events(vec![CrewEvent::CredentialSet(CredentialSet {
                from_until,
                ..credential_set(endpoint, Some(1), 2)
            })]);
    }
    let remove = CrewCommand::Connection(ConnectionCommand::RemoveCredential {
        connection: endpoint,
    });
    let removed = CrewEvent::CredentialRemoved(CredentialRemoved {
        connection: endpoint,
        from: CredentialId::from_uuid(Uuid::from_u128(1)),
    });
    rules()
        .given(has_one.clone())
        .when(remove.clone())
        .then_expect_events(vec![removed.clone()]);
    rules()
        .given([has_one, vec![removed]].concat())
        .when(remove)
        .then_expect_events(vec![]);
    rules()
        .given(vec![created(Environment::Staging)])
        .when(set_credential(endpoint, 1, 0))
        .then_expect_error(Refusal::NotFound {
            what: "webhook endpoint",
            hidden: false,
        });
}

#[test]
fn what_reaches_the_same_claims_the_same() {
    let endpoint = |url| Connection::webhook_endpoint(url, None).map(|to| to.claimed());
    assert_eq!(
        endpoint("https://EXAMPLE.com/hooks?crew=1"),
        endpoint("https://example.com:443/hooks/")
    );
    assert_eq!(
        integration("one", "ACME").claimed(),
        integration("two", "acme").claimed()
    );
    let other = Connection::integration(name("one"), "hubspot", name("acme"));
    assert_ne!(
        other.map(|to| to.claimed()),
        Ok(integration("one", "acme").claimed())
    );
    for wrong in ["", "Call", "call.", "call ended"] {
        let events = Some([wrong.to_owned()].into());
        let refused = Connection::webhook_endpoint("https://example.com/", events);
        assert_eq!(refused, Err(InvalidConnection::Events), "{wrong}");
    }
    let none = Connection::webhook_endpoint("https://example.com/", Some([].into()));
    assert_eq!(none, Err(InvalidConnection::Events));
}

#[test]
fn a_knowledge_base_fills_the_slot_of_its_name() {
    let mut crew = Crew::default();
    let there = [
        created(Environment::Staging),
        base_made(1, "FAQ"),
        base_made(2, "Prices"),
    ];
    there.into_iter().for_each(|event| crew.apply(event));
    let needs = [
        "knowledge-base/FAQ",
        "knowledge-base/Faq",
        "integration/FAQ",
    ];
    let needs = needs.map(|slot| slot.parse().expect("a slot"));
    assert_eq!(crew.missing(&needs, crew.items()), needs[1..]);
    crew.apply(CrewEvent::KnowledgeBaseRemoved(KnowledgeBaseRemoved {
        knowledge_base: base(1),
        from: KnowledgeBase {
            name: "FAQ".to_owned(),
        },
        documents: vec![],
    }));
    assert_eq!(crew.missing(&needs, crew.items()), needs);
}
