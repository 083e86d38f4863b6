//! The crews of a workspace, as far as the workspace decides about them: how many there are of
//! each environment, which of them a key may name, and who may do something in one.
//!
//! What a crew is called and what is in it are its own stream's ([`crate::domain::crew`]).

use super::{Workspace, WorkspaceEvent, rules::Decision};
use crate::domain::{
    Moment, Refusal, Timestamp,
    api_keys::KeyCommand,
    authority::{Actor, AuthorityLink, Permission},
    crew::CrewPlace,
    environment::Environment,
    ids::CrewId,
};

/// The most crews of one workspace that are not archived.
pub const CREWS_MAX: usize = 10_000;

/// What is not there for whoever asks, or not there at all.
const NO_CREW: Refusal = Refusal::NotFound {
    what: "crew",
    hidden: true,
};

impl Workspace {
    /// That `actor` may do in a crew what `permission` names at `now`, and what gave them that.
    ///
    /// # Errors
    /// As [`Workspace::authorise`] and [`Workspace::authorise_key`]; a crew that a key does not
    /// reach is not there for it.
    pub fn authorise_in_crew(
        &self,
        actor: Actor,
        permission: Permission,
        crew: CrewPlace,
        now: Timestamp,
    ) -> Result<AuthorityLink, Refusal> {
        self.existing()?;
        match actor {
            Actor::User { id } => self.authorise(id, permission, now),
            Actor::ApiKey { id } => {
                let link = self.authorise_key(id, permission, now)?;
                self.keys.reach(id, crew).map_err(|_| NO_CREW)?;
                Ok(link)
            }
            // Due work asks nobody, and is asked for by nobody.
            Actor::System | Actor::OperatorKey { .. } | Actor::CommandLine => Err(NO_CREW),
        }
    }

    /// That `actor` may edit what is in a crew at `now`, and what the edit stands on. A
    /// production crew is changed by promotion, unless the policy allows edits or the caller
    /// breaks glass.
    ///
    /// # Errors
    /// As [`Workspace::authorise_in_crew`]; [`Refusal::ProductionProtected`].
    pub fn authorise_edit(
        &self,
        actor: Actor,
        crew: CrewPlace,
        breaks_glass: bool,
        now: Timestamp,
    ) -> Result<Vec<AuthorityLink>, Refusal> {
        let link = self.authorise_in_crew(actor, Permission::EditCrews, crew, now)?;
        if !self.policy().protects(crew.environment) {
            // Glass that need not be broken is not.
            return Ok(vec![link]);
        }
        if !breaks_glass {
            return Err(Refusal::ProductionProtected);
        }
        self.authorise_in_crew(actor, Permission::BreakGlass, crew, now)?;
        Ok(vec![link, AuthorityLink::BrokenGlass {}])
    }

    /// The crews that are not archived, in the order of their ids.
    pub fn crews(&self) -> impl Iterator<Item = CrewPlace> {
        let place = |(id, environment): (&CrewId, &Environment)| CrewPlace {
            id: *id,
            environment: *environment,
        };
        self.crews.iter().map(place)
    }

    pub(super) fn list_crew(&self, actor: Actor, crew: CrewPlace, moment: Moment) -> Decision {
        self.existing()?;
        let now = moment.now;
        if let Actor::ApiKey { id } = actor {
            // It may not: that is no secret to it, as there is no crew yet.
            self.authorise_key(id, Permission::ManageCrews, now)?;
            self.keys.reach(id, crew)?;
        }
        self.authorise_in_crew(actor, Permission::ManageCrews, crew, now)?;
        if self.crews.contains_key(&crew.id) {
            return Err(Refusal::AlreadyExists { what: "crew" });
        }
        self.has_room_for_a_crew(crew.environment, moment)?;
        Ok(vec![WorkspaceEvent::CrewListed {
            crew: crew.id,
            environment: crew.environment,
        }])
    }

    pub(super) fn unlist_crew(&self, actor: Actor, crew: CrewPlace, now: Timestamp) -> Decision {
        self.authorise_in_crew(actor, Permission::ManageCrews, crew, now)?;
        match self.crews.get(&crew.id) {
            Some(environment) => Ok(vec![WorkspaceEvent::CrewUnlisted {
                crew: crew.id,
                environment: *environment,
            }]),
            None => Err(Refusal::CrewArchived),
        }
    }

    /// A key is bound to crews of its own environment that there are.
    pub(super) fn key_names_crews_of_its_environment(
        &self,
        command: &KeyCommand,
    ) -> Result<(), Refusal> {
        let (environment, crews) = match command {
            KeyCommand::Create {
                environment, terms, ..
            } => (*environment, terms.crews.as_ref()),
            KeyCommand::Update { key, change, .. } => {
                let present = self.keys.get(*key).and_then(|key| key.environment);
                (present, change.crews.as_ref().and_then(Option::as_ref))
            }
            KeyCommand::Rotate { .. } | KeyCommand::Revoke { .. } | KeyCommand::Expire { .. } => {
                return Ok(());
            }
        };
        let is_here = |crew: &CrewId| self.crews.get(crew).copied() == environment;
        match crews.is_none_or(|crews| crews.iter().all(is_here)) {
            true => Ok(()),
            false => Err(Refusal::WrongValue {
                field: "crews",
                detail: "every one is a crew of this workspace, of the key's environment and not \
                         archived",
            }),
        }
    }
}
