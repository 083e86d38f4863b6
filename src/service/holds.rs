//! Legal holds: an owner of a workspace forbids that anything of its people is destroyed.
//!
//! One unit tells the workspace, whose event it is, and the organization, which decides whether
//! somebody is erased. As long as one of its workspaces is held, it erases nobody.

use futures::FutureExt;

use super::{
    Caller, Request, Service, ServiceError, Written,
    organizations::organization_stream,
    workspaces::{DecideInWorkspace, Place},
    write::{Composed, Made, Sender},
};
use crate::{
    domain::{
        authority::Permission,
        ids::WorkspaceId,
        organization::{Organization, OrganizationCommand},
        workspace::{Workspace, WorkspaceCommand},
    },
    journal::stores::Statement,
};

const PLACE: &str = "
INSERT INTO legal_holds (workspace, realm)
VALUES ($1, $2)
    ON CONFLICT (workspace) DO NOTHING";

const LIFT: &str = "
DELETE FROM legal_holds
 WHERE workspace = $1 AND realm = $2";

impl Service {
    /// Places a legal hold on a workspace, or lifts it; the request says why.
    ///
    /// # Errors
    /// A refusal unless the caller owns the workspace.
    pub async fn hold_legally(
        &self,
        request: &Request,
        caller: &Caller,
        id: WorkspaceId,
        held: bool,
    ) -> Result<Written<()>, ServiceError> {
        let place = self.known_place(id).await?;
        let sender = Sender::Person(caller.clone());
        let action = match held {
            true => "legal_hold.placed",
            false => "legal_hold.lifted",
        };
        let aim = place.aim(action, id);
        let receipt = self
            .submit(&sender, request, Some(&aim), || {
                self.compose_hold(request, caller, place, held).boxed()
            })
            .await?;
        Ok(Written::of(&receipt, ()))
    }

    async fn compose_hold(
        &self,
        request: &Request,
        caller: &Caller,
        place: Place,
        held: bool,
    ) -> Result<Composed, ServiceError> {
        let (id, permission) = (place.workspace, Permission::HoldLegally);
        let version = async {
            let found = self.workspaces().get(&id.to_string()).await?;
            Ok(found.value.map(|document| document.version))
        };
        let sequence = self
            .checked_sequence_in(request, caller, place, permission, version)
            .await?;
        let (actor, realm) = (caller.user, place.organization);
        let organization = organization_stream(realm);
        let told = organization.clone();
        let decide: Box<DecideInWorkspace> = Box::new(move |desk, stream| {
            let (command, row) = match held {
                true => (WorkspaceCommand::PlaceLegalHold { actor }, PLACE),
                false => (WorkspaceCommand::LiftLegalHold { actor }, LIFT),
            };
            desk.execute::<Workspace>(stream, command, &[])?;
            let workspace = id;
            let note = OrganizationCommand::NoteHold { workspace, held };
            desk.execute::<Organization>(&told, note, &[])?;
            let parameters = [id.to_string().into(), realm.to_string().into()];
            desk.write_beside(Statement::new(row, parameters));
            Ok(Made::Nothing)
        });
        let mut composed = self
            .compose_in_workspace(request, caller, place, permission, sequence, 204, decide)
            .await?;
        composed.streams.push(organization);
        Ok(composed)
    }
}
