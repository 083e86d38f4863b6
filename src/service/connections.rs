//! What joins crews to the world: phone numbers and channels, added, read, listed, changed and
//! removed.
//!
//! Each is claimed in the append that adds it ([`crate::domain::claims`]), and freed in the one
//! that removes it, archives its crew or deletes its workspace.

use super::{
    Principal, Request, Service, ServiceError, Written,
    crews::{Conditional, CrewAt, CrewWrite, authorise_in_crew},
    items::InCrew,
    write::{Made, Receipt},
};
use crate::{
    domain::{
        Refusal,
        authority::{Actor, Permission},
        claims::{Claimant, Sharing},
        crew::{
            Connection, ConnectionCommand, ConnectionId, ConnectionKind, Crew, CrewCommand,
            CrewPlace,
        },
        ids::{ChannelId, PhoneNumberId, WorkspaceId},
        workspace::Workspace,
    },
    journal::{ClaimKey, Desk, INSTALLATION, LookupKey, Release},
    projections::{ConnectionDocument, Connections, Found, Page},
};

/// What joins a crew to the world, as it is answered.
pub type ConnectionView = ConnectionDocument;

/// As the audit log names what is done.
fn action(kind: ConnectionKind, done: &str) -> &'static str {
    match (kind, done) {
        (ConnectionKind::PhoneNumber, "added") => "phone_number.added",
        (ConnectionKind::PhoneNumber, "changed") => "phone_number.changed",
        (ConnectionKind::PhoneNumber, "removed") => "phone_number.removed",
        (ConnectionKind::PhoneNumber, _) => "phone_number.read",
        (ConnectionKind::Channel, "added") => "channel.added",
        (ConnectionKind::Channel, "changed") => "channel.changed",
        (ConnectionKind::Channel, "removed") => "channel.removed",
        (ConnectionKind::Channel, _) => "channel.read",
    }
}

/// What a connection claims: of the installation what has one owner, else of its workspace.
fn claim_key(workspace: WorkspaceId, connection: &Connection) -> ClaimKey {
    let scope = match connection.sharing() {
        Sharing::OneOwner => INSTALLATION.to_owned(),
        Sharing::ProductionApart => workspace.to_string(),
    };
    ClaimKey {
        scope,
        kind: connection.kind().name(),
        value: connection.claimed(),
    }
}

/// A change of a connection.
struct ConnectionWrite {
    id: ConnectionId,
    done: &'static str,
    /// What it aims at: the crew, where it adds one.
    target: String,
    command: ConnectionCommand,
    conditional: Conditional,
    status: u16,
}

/// A claim that a unit takes, for whoever asks.
#[derive(Clone)]
struct Taking {
    actor: Actor,
    key: ClaimKey,
    sharing: Sharing,
    what: &'static str,
    claimant: Claimant,
}

impl Taking {
    fn take(&self, desk: &mut Desk<'_>, at: CrewAt) -> Result<(), Refusal> {
        let now = desk.now();
        let present = desk.claims(&self.key).to_vec();
        let workspace = desk.read::<Workspace>(&at.place.stream());
        let sees = |crew: CrewPlace| {
            let permission = Permission::SeeCrews;
            let seen = workspace.authorise_in_crew(self.actor, permission, crew, now);
            seen.is_ok()
        };
        let claimant = &self.claimant;
        self.sharing
            .allows(self.what, &present, claimant, now, &sees)?;
        desk.claim(&self.key, claimant.clone());
        Ok(())
    }
}

impl Service {
    /// Joins a crew to something.
    ///
    /// # Errors
    /// A refusal unless the caller may, or when it is claimed by others who may not share it.
    pub async fn add_connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        to: Connection,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let uuid = self.source().uuid();
        let id = match to.kind() {
            ConnectionKind::PhoneNumber => {
                ConnectionId::PhoneNumber(PhoneNumberId::from_uuid(uuid))
            }
            ConnectionKind::Channel => ConnectionId::Channel(ChannelId::from_uuid(uuid)),
        };
        let write = ConnectionWrite {
            id,
            done: "added",
            target: at.1.to_string(),
            command: ConnectionCommand::Add { connection: id, to },
            conditional: Conditional::Nothing,
            status: 201,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        self.connection_written(receipt).await
    }

    /// Joins a crew to something else instead.
    ///
    /// # Errors
    /// As [`Service::add_connection`].
    pub async fn change_connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        id: ConnectionId,
        to: Connection,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let write = ConnectionWrite {
            id,
            done: "changed",
            target: id.to_string(),
            command: ConnectionCommand::Change { connection: id, to },
            conditional: Conditional::Connection(id),
            status: 200,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        self.connection_written(receipt).await
    }

    /// Joins a crew to something no more; it is free.
    ///
    /// # Errors
    /// A refusal unless the caller may.
    pub async fn remove_connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        id: ConnectionId,
    ) -> Result<Written<()>, ServiceError> {
        let write = ConnectionWrite {
            id,
            done: "removed",
            target: id.to_string(),
            command: ConnectionCommand::Remove { connection: id },
            conditional: Conditional::Connection(id),
            status: 204,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn submit_connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        write: ConnectionWrite,
    ) -> Result<Receipt, ServiceError> {
        let permission = Permission::ManageConnections;
        let action = action(write.id.kind(), write.done);
        let at = self
            .crew_to_change(request, principal, at, permission, action)
            .await?;
        let (actor, id, command) = (principal.actor(), write.id, write.command);
        let taking = command.to().map(|to| Taking {
            actor,
            key: claim_key(at.place.workspace, to),
            sharing: to.sharing(),
            what: to.kind().words(),
            claimant: Claimant {
                holder: id.to_string(),
                crew: at.crew,
                workspace: at.place.workspace,
            },
        });
        let lookups = taking.iter().map(|taking| taking.key.clone());
        let in_crew = CrewWrite {
            action,
            target: write.target,
            permission,
            conditional: write.conditional,
            status: write.status,
            lookups: lookups.map(LookupKey::Claim).collect(),
            authorise: &|| authorise_in_crew(actor, permission, at.crew),
            decide: &|| {
                let (command, taking) = (command.clone(), taking.clone());
                Box::new(move |desk, stream| {
                    let before = desk.sequence(stream);
                    let command = CrewCommand::Connection(command.clone());
                    desk.execute::<Crew>(stream, command, &[])?;
                    if desk.sequence(stream) != before {
                        desk.release(Release::Holder(id.to_string()));
                        taking
                            .as_ref()
                            .map_or(Ok(()), |taking| taking.take(desk, at))?;
                    }
                    Ok(Made::Connection(at.crew.id, id))
                })
            },
            beside: vec![],
        };
        self.submit_in_crew(request, principal, at, in_crew).await
    }

    async fn connection_written(
        &self,
        receipt: Receipt,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let Made::Connection(crew, id) = &receipt.made else {
            let words = "the kept answer is no connection".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (stream, key) = (crew.to_string(), id.to_string());
        let connections = self.connections();
        let shown = self.shown::<Connections, Crew>(connections, &receipt, &stream, &key);
        let shown = shown.await?;
        Ok(Written::of(&receipt, shown))
    }

    /// A page of what a crew is joined to of one kind, oldest first.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew.
    pub async fn connections_of(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        kind: ConnectionKind,
        (after, limit): (Option<&str>, u64),
    ) -> Result<Page<ConnectionView>, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, action(kind, "read"));
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let parent = Connections::parent(&at.1, kind);
        let connections = self.connections();
        Ok(connections.page_of_parent(&parent, after, limit).await?)
    }

    /// Something that a crew is joined to.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; [`Refusal::NotFound`].
    pub async fn connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        id: ConnectionId,
    ) -> Result<Found<ConnectionView>, ServiceError> {
        let kind = id.kind();
        let (permission, action) = (Permission::SeeCrews, action(kind, "read"));
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let found = self.connections().get(&id.to_string()).await?;
        let here = found.value.filter(|connection| connection.crew == at.1);
        let value = here.ok_or(Refusal::NotFound {
            what: kind.words(),
            hidden: false,
        })?;
        let position = found.position;
        Ok(Found { position, value })
    }
}
