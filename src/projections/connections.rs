//! What joins crews to the world, as it is now; of archived crews, as it was when they were.

use serde::{Deserialize, Serialize};

use super::{CannotFold, Columns, Projection, items::place, present};
use crate::{
    domain::{
        Timestamp,
        crew::{Connection, ConnectionEvent, ConnectionId, ConnectionKind},
        event::Event,
        ids::{CrewId, WorkspaceId},
    },
    journal::Recorded,
};

/// Something that a crew is joined to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConnectionDocument {
    pub id: ConnectionId,
    pub crew: CrewId,
    pub workspace: WorkspaceId,
    /// Sequence of the last event that changed it.
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub connection: Connection,
    /// The credential that it has, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialDocument>,
}

/// When a connection was given its credential; what it is, is sealed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialDocument {
    pub set_at: Timestamp,
    /// Until when the one before it is good as well; none where that ended at once.
    pub former_until: Option<Timestamp>,
}

/// What an event says of a connection, where it is about one.
pub(super) fn of_connection(event: &Recorded) -> Option<ConnectionEvent> {
    match &event.event {
        Event::Crew(happened) => happened.of_connection(),
        Event::User(_)
        | Event::Organization(_)
        | Event::Workspace(_)
        | Event::Promotion(_)
        | Event::Review(_)
        | Event::Attempts(_)
        | Event::Installation(_) => None,
    }
}

/// See the module.
pub struct Connections;

impl Connections {
    /// What lists are of: a kind in a crew.
    pub fn parent(crew: &CrewId, kind: ConnectionKind) -> String {
        format!("{crew}/{}", kind.name())
    }
}

impl Projection for Connections {
    type Document = ConnectionDocument;
    const NAME: &'static str = "crew_connections";
    const VERSION: i64 = 1;

    fn keys(event: &Recorded) -> Vec<String> {
        let happened = of_connection(event).into_iter();
        happened
            .map(|happened| happened.connection().to_string())
            .collect()
    }

    fn fold(
        document: Option<ConnectionDocument>,
        key: &str,
        event: &Recorded,
    ) -> Result<Option<ConnectionDocument>, CannotFold> {
        let Some(happened) = of_connection(event) else {
            return Ok(document);
        };
        match happened {
            ConnectionEvent::Added(added) => {
                let (crew, workspace) = place(event)?;
                Ok(Some(ConnectionDocument {
                    id: added.connection,
                    crew,
                    workspace,
                    version: event.sequence,
                    created_at: event.recorded_at,
                    updated_at: event.recorded_at,
                    connection: added.to,
                    credential: None,
                }))
            }
            ConnectionEvent::Changed(changed) => Ok(Some(ConnectionDocument {
                connection: changed.to,
                ..touched(document, key, event)?
            })),
            ConnectionEvent::Removed(_) => present(document, key).map(|_| None),
            ConnectionEvent::CredentialSet(set) => Ok(Some(ConnectionDocument {
                credential: Some(CredentialDocument {
                    set_at: event.recorded_at,
                    former_until: set.from_until,
                }),
                ..touched(document, key, event)?
            })),
            ConnectionEvent::CredentialRemoved(_) => Ok(Some(ConnectionDocument {
                credential: None,
                ..touched(document, key, event)?
            })),
        }
    }

    fn columns(document: &ConnectionDocument) -> Columns {
        Columns {
            workspace: Some(document.workspace.to_string()),
            parent: Some(Self::parent(&document.crew, document.id.kind())),
            ..Columns::default()
        }
    }
}

/// The document as changed by an event.
fn touched(
    document: Option<ConnectionDocument>,
    key: &str,
    event: &Recorded,
) -> Result<ConnectionDocument, CannotFold> {
    Ok(ConnectionDocument {
        version: event.sequence,
        updated_at: event.recorded_at,
        ..present(document, key)?
    })
}
