//! What joins crews to the world: phone numbers, channels, webhook endpoints and integrations;
//! added, read, listed, changed and removed.
//!
//! Each is claimed in the append that adds it ([`crate::domain::claims`]), and freed in the one
//! that removes it, archives its crew or deletes its workspace; so is its credential
//! ([`super::credentials`]) kept and destroyed.

use secrecy::SecretString;

use super::{
    CredentialChange, Principal, Request, Service, ServiceError, Written,
    credentials::{self, SealedCredential},
    crews::{Conditional, CrewAt, CrewWrite, authorise_in_crew},
    items::InCrew,
    secrets,
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
        ids::{WebhookEndpointId, WorkspaceId},
        workspace::Workspace,
    },
    journal::{ClaimKey, Desk, INSTALLATION, LookupKey, Rejection, Release, StreamRef},
    projections::{ConnectionDocument, Connections, Found, Page},
};

/// What joins a crew to the world, as it is answered.
#[derive(Debug)]
pub struct ConnectionView {
    pub connection: ConnectionDocument,
    /// What signs for a webhook endpoint, in the one answer that shows it.
    pub secret: Option<SecretString>,
}

impl From<ConnectionDocument> for ConnectionView {
    fn from(connection: ConnectionDocument) -> Self {
        let secret = None;
        Self { connection, secret }
    }
}

/// As the audit log names what is done.
fn action(kind: ConnectionKind, done: Done) -> &'static str {
    use ConnectionKind::{Channel, Integration, PhoneNumber, WebhookEndpoint};
    match (kind, done) {
        (PhoneNumber, Done::Added) => "phone_number.added",
        (PhoneNumber, Done::Changed) => "phone_number.changed",
        (PhoneNumber, Done::Removed) => "phone_number.removed",
        (PhoneNumber, Done::Rotated | Done::Read) => "phone_number.read",
        (Channel, Done::Added) => "channel.added",
        (Channel, Done::Changed) => "channel.changed",
        (Channel, Done::Removed) => "channel.removed",
        (Channel, Done::Rotated | Done::Read) => "channel.read",
        (WebhookEndpoint, Done::Added) => "webhook_endpoint.added",
        (WebhookEndpoint, Done::Changed) => "webhook_endpoint.changed",
        (WebhookEndpoint, Done::Removed) => "webhook_endpoint.removed",
        (WebhookEndpoint, Done::Rotated) => "webhook_endpoint.credential_set",
        (WebhookEndpoint, Done::Read) => "webhook_endpoint.read",
        (Integration, Done::Added) => "integration.added",
        (Integration, Done::Changed) => "integration.changed",
        (Integration, Done::Removed) => "integration.removed",
        (Integration, Done::Rotated) => "integration.credential_set",
        (Integration, Done::Read) => "integration.read",
    }
}

/// What is done with a connection.
#[derive(Debug, Clone, Copy)]
enum Done {
    Added,
    Changed,
    Removed,
    Rotated,
    Read,
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

/// What becomes of a connection's credential.
#[derive(Debug, Clone)]
enum CredentialWrite {
    Stays,
    Becomes(SealedCredential),
    Ends,
}

impl CredentialWrite {
    fn command(&self, connection: ConnectionId) -> Option<ConnectionCommand> {
        match self {
            Self::Stays => None,
            Self::Becomes(sealed) => Some(ConnectionCommand::SetCredential {
                connection,
                credential: sealed.id,
                grace_seconds: sealed.grace_seconds,
            }),
            Self::Ends => Some(ConnectionCommand::RemoveCredential { connection }),
        }
    }

    fn write(&self, desk: &mut Desk<'_>, at: CrewAt, connection: ConnectionId) {
        match self {
            Self::Stays => {}
            Self::Becomes(sealed) => sealed.write(desk, at, connection),
            Self::Ends => {
                let of = Release::Holder(connection.to_string());
                credentials::destroy(&of)
                    .into_iter()
                    .for_each(|row| desk.write_beside(row));
            }
        }
    }
}

/// A change of a connection.
struct ConnectionWrite {
    id: ConnectionId,
    done: Done,
    /// What it aims at: the crew, where it adds one.
    target: String,
    /// None where only its credential is another one.
    command: Option<ConnectionCommand>,
    credential: CredentialWrite,
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

/// What a unit decides of a connection.
#[derive(Clone)]
struct Deciding {
    at: CrewAt,
    id: ConnectionId,
    command: Option<ConnectionCommand>,
    credential: CredentialWrite,
    taking: Option<Taking>,
}

impl Deciding {
    fn decide(&self, desk: &mut Desk<'_>, stream: &StreamRef) -> Result<Made, Rejection> {
        if let Some(command) = &self.command {
            let before = desk.sequence(stream);
            let ends = matches!(command, ConnectionCommand::Remove { .. });
            let command = CrewCommand::Connection(command.clone());
            desk.execute::<Crew>(stream, command, &[])?;
            if desk.sequence(stream) != before {
                let freed = Release::Holder(self.id.to_string());
                if ends {
                    credentials::destroy(&freed)
                        .into_iter()
                        .for_each(|row| desk.write_beside(row));
                }
                desk.release(freed);
                let taking = self.taking.as_ref();
                taking.map_or(Ok(()), |taking| taking.take(desk, self.at))?;
            }
        }
        if let Some(command) = self.credential.command(self.id) {
            desk.execute::<Crew>(stream, CrewCommand::Connection(command), &[])?;
            self.credential.write(desk, self.at, self.id);
        }
        Ok(Made::Connection(self.at.crew.id, self.id))
    }
}

impl Service {
    /// Joins a crew to something. A webhook endpoint is given what signs for it.
    ///
    /// # Errors
    /// A refusal unless the caller may, or when it is claimed by others who may not share it.
    pub async fn add_connection(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        to: Connection,
        credential: CredentialChange,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let id = to.kind().id(self.source().uuid());
        let signs = (to.kind() == ConnectionKind::WebhookEndpoint)
            .then(|| secrets::signing_secret(self.source()));
        let credential = match &signs {
            Some(secret) => CredentialChange::Set(secret.clone()),
            None => credential,
        };
        let write = ConnectionWrite {
            id,
            done: Done::Added,
            target: at.1.to_string(),
            command: Some(ConnectionCommand::Add { connection: id, to }),
            credential: self.credential_write(at, id, &credential, 0),
            conditional: Conditional::Nothing,
            status: 201,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        self.connection_written(receipt, signs).await
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
        (to, credential): (Connection, CredentialChange),
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let write = ConnectionWrite {
            id,
            done: Done::Changed,
            target: id.to_string(),
            command: Some(ConnectionCommand::Change { connection: id, to }),
            credential: self.credential_write(at, id, &credential, 0),
            conditional: Conditional::Connection(id),
            status: 200,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        self.connection_written(receipt, None).await
    }

    /// Gives a webhook endpoint another signing secret; the one that it has signs for so long yet.
    ///
    /// # Errors
    /// A refusal unless the caller may.
    pub async fn rotate_signing_secret(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        id: WebhookEndpointId,
        grace_seconds: u64,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let id = ConnectionId::WebhookEndpoint(id);
        let secret = secrets::signing_secret(self.source());
        let credential = CredentialChange::Set(secret.clone());
        let write = ConnectionWrite {
            id,
            done: Done::Rotated,
            target: id.to_string(),
            command: None,
            credential: self.credential_write(at, id, &credential, grace_seconds),
            conditional: Conditional::Connection(id),
            status: 200,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        self.connection_written(receipt, Some(secret)).await
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
            done: Done::Removed,
            target: id.to_string(),
            command: Some(ConnectionCommand::Remove { connection: id }),
            credential: CredentialWrite::Stays,
            conditional: Conditional::Connection(id),
            status: 204,
        };
        let receipt = self
            .submit_connection(request, principal, at, write)
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    fn credential_write(
        &self,
        (_, crew): InCrew,
        id: ConnectionId,
        change: &CredentialChange,
        grace_seconds: u64,
    ) -> CredentialWrite {
        match change {
            CredentialChange::Keep => CredentialWrite::Stays,
            CredentialChange::Set(secret) => {
                CredentialWrite::Becomes(self.sealed_credential(crew, id, secret, grace_seconds))
            }
            CredentialChange::Remove => CredentialWrite::Ends,
        }
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
        let to = command.as_ref().and_then(ConnectionCommand::to);
        let taking = to.map(|to| Taking {
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
        let lookups = lookups.map(LookupKey::Claim).collect();
        let deciding = Deciding {
            at,
            id,
            command,
            credential: write.credential,
            taking,
        };
        let in_crew = CrewWrite {
            action,
            target: write.target,
            permission,
            conditional: write.conditional,
            status: write.status,
            lookups,
            authorise: &|| authorise_in_crew(actor, permission, at.crew),
            decide: &|| {
                let deciding = deciding.clone();
                Box::new(move |desk, stream| deciding.decide(desk, stream))
            },
            beside: vec![],
        };
        self.submit_in_crew(request, principal, at, in_crew).await
    }

    async fn connection_written(
        &self,
        receipt: Receipt,
        secret: Option<SecretString>,
    ) -> Result<Written<ConnectionView>, ServiceError> {
        let Made::Connection(crew, id) = &receipt.made else {
            let words = "the kept answer is no connection".to_owned();
            return Err(ServiceError::Internal(words));
        };
        let (stream, key) = (crew.to_string(), id.to_string());
        let connections = self.connections();
        let shown = self.shown::<Connections, Crew>(connections, &receipt, &stream, &key);
        let view = ConnectionView {
            connection: shown.await?,
            secret: secret.filter(|_| !receipt.replayed),
        };
        Ok(Written::of(&receipt, view))
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
    ) -> Result<Page<ConnectionDocument>, ServiceError> {
        let (permission, action) = (Permission::SeeCrews, action(kind, Done::Read));
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let parent = Connections::parent(&at.1, kind);
        let state = self.state_of_crew(request, at.1).await?;
        let connections = state.documents::<Connections>();
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
    ) -> Result<Found<ConnectionDocument>, ServiceError> {
        let kind = id.kind();
        let (permission, action) = (Permission::SeeCrews, action(kind, Done::Read));
        self.may_in_crew(request, principal, at, permission, action)
            .await?;
        let state = self.state_of_crew(request, at.1).await?;
        let connections = state.documents::<Connections>();
        let found = connections.get(&id.to_string()).await?;
        let here = found.value.filter(|connection| connection.crew == at.1);
        let value = here.ok_or(Refusal::NotFound {
            what: kind.words(),
            hidden: false,
        })?;
        let position = found.position;
        Ok(Found { position, value })
    }
}
