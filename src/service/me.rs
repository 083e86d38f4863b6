//! The caller themselves: profile and memberships.

use std::{collections::BTreeSet, sync::Arc};

use futures::FutureExt;
use secrecy::SecretString;

use super::{
    Caller, KeyCaller, Opened, Request, Service, ServiceError, Written,
    organizations::organization_stream,
    password_change::Proven,
    past::{PARTS_MAX, Part, State, too_much},
    people::{CalledOne, FoundSubject},
    write::{Composed, Made, Sender, unmoved},
};
use crate::{
    domain::{
        EmailAddress, Name, Refusal, Timestamp,
        authority::{OrganizationRole, Role},
        ids::{EventId, OrganizationId, SubjectId, UserId, WorkspaceId},
        organization::{Organization, OrganizationCommand},
        sealed::KeyOwner,
        user::{User, UserCommand},
    },
    journal::{Origin, Rejection, StreamRef, Unit},
    projections::{
        ACCOUNT, ApiKeys, Found, Members, OrganizationMembers, Organizations, UserDocument, Users,
        Workspaces,
    },
};

/// Nobody had this account.
const NO_ACCOUNT: Refusal = Refusal::NotFound {
    what: "account",
    hidden: false,
};

/// How many memberships are told with the profile; lists have the rest.
const MEMBERSHIPS_TOLD: u64 = 200;

/// The caller, and where they belong.
#[derive(Debug, Clone, PartialEq)]
pub struct Me {
    pub id: UserId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub email: Opened,
    pub name: Opened,
    pub memberships: Vec<Membership>,
    pub organizations: Vec<OrganizationMembership>,
}

/// A workspace that somebody is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Membership {
    pub workspace: WorkspaceId,
    pub organization: Option<OrganizationId>,
    pub name: String,
    pub role: Role,
    pub since: Timestamp,
}

/// An organization that somebody has a role in.
#[derive(Debug, Clone, PartialEq)]
pub struct OrganizationMembership {
    pub organization: OrganizationId,
    pub name: String,
    pub role: OrganizationRole,
    pub since: Timestamp,
}

/// What is to be changed of a profile.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    pub name: Option<Name>,
    /// The new address, with the present password, which proves that it is them.
    pub email: Option<(EmailAddress, SecretString)>,
}

/// A profile as it was read to be changed or copied.
pub(super) struct Profile {
    pub account: UserDocument,
    pub name: String,
    pub email: String,
    /// The subject of the account.
    pub subject: SubjectId,
}

impl Profile {
    /// The address, as it was checked when it was given.
    pub(super) fn address(&self) -> Result<EmailAddress, ServiceError> {
        EmailAddress::parse(&self.email).map_err(|error| ServiceError::Internal(error.to_string()))
    }
}

impl Service {
    /// Who the caller is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn me_of(
        &self,
        request: &Request,
        caller: &Caller,
    ) -> Result<Found<Me>, ServiceError> {
        let state = self.state_of_person(request, caller.user).await?;
        let users = state.documents::<Users>();
        let found = users.get(&caller.user.to_string()).await?;
        let account = found.value.ok_or(match state.moment() {
            None => ServiceError::Unauthenticated,
            Some(_) => NO_ACCOUNT.into(),
        })?;
        Ok(Found {
            position: found.position,
            value: self.me(&state, account, state.position()).await?,
        })
    }

    /// What the key that asks is, or was.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where it was not there then.
    pub async fn me_of_key(
        &self,
        request: &Request,
        key: &KeyCaller,
    ) -> Result<Found<KeyCaller>, ServiceError> {
        if request.as_of.is_none() {
            return Ok(Found {
                position: self.position(),
                value: key.clone(),
            });
        }
        let part = match key.0.workspace {
            Some(workspace) => Part::Workspace(workspace),
            None => Part::Organization(key.0.organization),
        };
        let state = self.state(request, &[part]).await?;
        let keys = state.documents::<ApiKeys>();
        let found = keys.get(&key.id().to_string()).await?;
        let missing = Refusal::NotFound {
            what: "API key",
            hidden: false,
        };
        Ok(Found {
            position: found.position,
            value: KeyCaller(Arc::new(found.value.ok_or(missing)?)),
        })
    }

    /// [`Service::state`] of a person, and of where they belong now: what they have left is not
    /// for them to read any more.
    pub(super) async fn state_of_person(
        &self,
        request: &Request,
        user: UserId,
    ) -> Result<State<'_>, ServiceError> {
        if request.as_of.is_none() {
            return Ok(self.state_of_now());
        }
        let (mut parts, id, now) = (
            vec![Part::Person(user)],
            user.to_string(),
            self.source().now(),
        );
        let roles = self.organization_members();
        let roles = roles.page_of_lookup(&id, None, PARTS_MAX).await?;
        let members = self.members().page_of_lookup(&id, None, PARTS_MAX).await?;
        let grants = self.auditors().page_of_lookup(&id, None, PARTS_MAX).await?;
        let belongs = members.more || grants.more || roles.more;
        let organizations = roles.items.into_iter().map(|(_, role)| role.organization);
        parts.extend(organizations.map(Part::Organization));
        let members = members.items.into_iter().map(|(_, member)| member);
        let members = members.filter(|member| member.at(now).is_some());
        let grants = grants.items.into_iter().map(|(_, grant)| grant);
        let grants = grants.filter(|grant| grant.is_live(now));
        let workspaces: BTreeSet<_> = members
            .map(|member| member.workspace)
            .chain(grants.map(|grant| grant.workspace))
            .collect();
        parts.extend(workspaces.into_iter().map(Part::Workspace));
        match belongs {
            true => Err(too_much()),
            false => self.state(request, &parts).await,
        }
    }

    async fn me(
        &self,
        state: &State<'_>,
        account: UserDocument,
        position: Option<u64>,
    ) -> Result<Me, ServiceError> {
        let user = account.id;
        let CalledOne { email, name } = self.called_one(ACCOUNT, user, position).await?;
        Ok(Me {
            id: account.id,
            version: account.version,
            created_at: account.created_at,
            updated_at: account.updated_at,
            email,
            name,
            memberships: memberships(state, account.id).await?,
            organizations: organization_memberships(state, account.id).await?,
        })
    }

    pub(super) async fn profile(&self, user: UserId) -> Result<Profile, ServiceError> {
        let found = self.users().get(&user.to_string()).await?;
        let account = found.value.ok_or(ServiceError::Unauthenticated)?;
        let CalledOne { email, name } = self.called_one(ACCOUNT, user, None).await?;
        let (Opened::Value(email), Opened::Value(name)) = (email, name) else {
            return Err(Refusal::NoSuchAccount.into());
        };
        let subject = self
            .subject_of(user, None)
            .await?
            .ok_or(ServiceError::Unauthenticated)?;
        Ok(Profile {
            account,
            name,
            email,
            subject,
        })
    }

    /// Changes the caller's profile; their organizations are told right after.
    ///
    /// # Errors
    /// [`ServiceError::InvalidCredentials`] when the password with a new address is wrong;
    /// [`Refusal::EmailTaken`] when the address is somebody's.
    pub async fn change_profile(
        &self,
        request: &Request,
        caller: &Caller,
        change: ProfileChange,
    ) -> Result<Written<Me>, ServiceError> {
        let sender = Sender::Person(caller.clone());
        let receipt = match self.answered_before(&sender, request).await? {
            Some(receipt) => receipt,
            None => {
                let proven = self.proven_for(request, caller, &change).await?;
                self.submit(&sender, request, None, || {
                    self.compose_profile_change(request, caller, &change, proven.as_ref())
                        .boxed()
                })
                .await?
            }
        };
        if !receipt.replayed {
            self.share_profile(caller.user).await?;
        }
        let key = caller.user.to_string();
        let account = self
            .shown::<Users, User>(self.users(), &receipt, &key, &key)
            .await?;
        let position = receipt.replayed.then_some(receipt.position);
        Ok(Written::of(
            &receipt,
            self.me(&self.state_of_now(), account, position).await?,
        ))
    }

    /// A new address takes the password; nothing else does.
    async fn proven_for(
        &self,
        request: &Request,
        caller: &Caller,
        change: &ProfileChange,
    ) -> Result<Option<Proven>, ServiceError> {
        let Some((_, password)) = &change.email else {
            return Ok(None);
        };
        let proven = self
            .prove_own_password(request, caller, password.clone())
            .await?;
        proven.map(Some).ok_or(ServiceError::InvalidCredentials)
    }

    async fn compose_profile_change(
        &self,
        request: &Request,
        caller: &Caller,
        change: &ProfileChange,
        proven: Option<&Proven>,
    ) -> Result<Composed, ServiceError> {
        let stream = caller.stream();
        let profile = self.profile(caller.user).await?;
        let version = profile.account.version;
        let sequence = self
            .checked_sequence(request, &stream, async { Ok(Some(version)) })
            .await?;
        let key = self.person_key(caller.user, None).await?;
        let key = key.ok_or(ServiceError::Unauthenticated)?;
        let [renamed, moved] = [(); 2].map(|()| EventId::from_uuid(self.source().uuid()));
        let seal = |event, field, value: &str| key.seal(self.source(), event, field, value);
        let rename = change
            .name
            .as_ref()
            .filter(|name| name.as_str() != profile.name)
            .map(|name| UserCommand::Rename {
                name: seal(renamed, "name", name.as_str()),
                previous: seal(renamed, "previous", &profile.name),
                profile_sequence: version,
            });
        let new_email = change.email.as_ref().map(|(email, _)| email);
        let new_email = new_email.filter(|email| email.as_str() != profile.email);
        // A rename before it in the same unit moves the profile by one.
        let profile_sequence_of_email = match (&rename, new_email) {
            (Some(_), Some(_)) => self.sequence_of(&stream).await? + 1,
            _ => version,
        };
        let change_email = new_email.map(|email| UserCommand::ChangeEmail {
            email: seal(moved, "email", email.as_str()),
            previous: seal(moved, "previous", &profile.email),
            profile_sequence: profile_sequence_of_email,
        });
        let lookup = new_email.map(|email| self.email_lookup(email));
        let claim = lookup
            .as_ref()
            .map(|lookup| Self::email_claim(ACCOUNT, lookup));
        let (caller, subject) = (caller.clone(), profile.subject);
        let proven = proven.cloned();
        Ok(Composed {
            lane: caller.user.to_string(),
            streams: vec![stream.clone()],
            lookups: claim.clone().into_iter().collect(),
            origin: self.origin(&caller, request, None, None).await?,
            decide: Box::new(move |desk| {
                unmoved(desk, &stream, sequence)?;
                caller.is_live(desk)?;
                if let Some(proven) = &proven {
                    proven.holds(desk, &stream)?;
                }
                if let Some(rename) = &rename {
                    execute_or_recompose(desk, &stream, rename, renamed)?;
                }
                if let (Some(change), Some(claim), Some(lookup)) = (&change_email, &claim, &lookup)
                {
                    let holder = desk.holder(claim).map(str::to_owned);
                    if holder.is_some_and(|holder| holder != subject.to_string()) {
                        return Err(Refusal::EmailTaken.into());
                    }
                    desk.hold(claim, Some(subject.to_string()));
                    desk.write_beside(Self::move_email(subject, lookup));
                    execute_or_recompose(desk, &stream, change, moved)?;
                }
                Ok(Made::User(caller.user).outcome(200))
            }),
        })
    }

    /// Gives every organization that knows a person the profile as it is now; each accepts
    /// it once. Done after a change, and again by due work if that was cut short.
    pub(super) async fn share_profile(&self, user: UserId) -> Result<(), ServiceError> {
        let profile = match self.profile(user).await {
            // They have erased their account meanwhile: there is nothing to be told.
            Err(ServiceError::Refused(Refusal::NoSuchAccount)) => return Ok(()),
            profile => profile?,
        };
        if profile.account.profile_shared >= profile.account.version {
            return Ok(());
        }
        let organizations = self.organizations_knowing(user).await?;
        for organization in &organizations {
            self.record_person(&profile, *organization).await?;
        }
        let stream = StreamRef::of::<User>(user, user);
        let share = UserCommand::ShareProfile {
            profile_sequence: profile.account.version,
            organizations,
        };
        let unit = Unit {
            lane: user.to_string(),
            streams: vec![stream.clone()],
            lookups: vec![],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                desk.execute::<User>(&stream, share.clone(), &[])?;
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }

    async fn record_person(
        &self,
        profile: &Profile,
        organization: OrganizationId,
    ) -> Result<(), ServiceError> {
        let (user, sequence) = (profile.account.id, profile.account.version);
        let Some(subject) = self.subject_of(user, Some(organization)).await? else {
            return Ok(());
        };
        let Some(key) = self.keyring.newest(KeyOwner::Subject(subject)).await? else {
            return Ok(());
        };
        let recorded = EventId::from_uuid(self.source().uuid());
        let command = OrganizationCommand::RecordPerson {
            user,
            profile_sequence: sequence,
            email: key.seal(self.source(), recorded, "email", &profile.email),
            name: key.seal(self.source(), recorded, "name", &profile.name),
        };
        let lookup = self.email_lookup(&profile.address()?);
        let claim = Self::email_claim(organization, &lookup);
        let stream = organization_stream(organization);
        let person = StreamRef::of::<User>(user, user);
        let words = self.keep_words(&organization.to_string(), user, &profile.name);
        let unit = Unit {
            lane: organization.to_string(),
            streams: vec![stream.clone(), person.clone()],
            lookups: vec![claim.clone()],
            origin: Origin::system(),
            idempotency: None,
            decide: Box::new(move |desk| {
                if desk.read::<User>(&person).is_erased() {
                    return Ok(Made::Nothing.outcome(0));
                }
                let known = desk.read::<Organization>(&stream).person_sequence(user);
                if known > Some(sequence) {
                    // It has a newer copy, and knows by which address they are found now.
                    return Ok(Made::Nothing.outcome(0));
                }
                desk.execute::<Organization>(&stream, command.clone(), &[recorded])?;
                words
                    .iter()
                    .for_each(|word| desk.write_beside(word.clone()));
                let holder = desk.holder(&claim).map(str::to_owned);
                match holder {
                    None => {
                        desk.hold(&claim, Some(subject.to_string()));
                        desk.write_beside(Self::move_email(subject, &lookup));
                    }
                    Some(holder) if holder == subject.to_string() => {}
                    // An invitation has made another subject of the new address. By the old one
                    // they are not found any more: it is free for somebody else.
                    Some(_) => desk.write_beside(Self::forget_email(subject)),
                }
                Ok(Made::Nothing.outcome(0))
            }),
        };
        self.journal.submit(unit).await?;
        Ok(())
    }

    /// Whether an address in an organization belongs to a person: by the account that has
    /// it, or by the subject that was linked when they came in.
    pub(super) async fn user_of_email(&self, lookup: &str) -> Result<Option<UserId>, ServiceError> {
        let found: Option<FoundSubject> = self.subjects.of_email(ACCOUNT, lookup).await?;
        Ok(found.and_then(|found| found.user))
    }
}

fn execute_or_recompose(
    desk: &mut crate::journal::Desk<'_>,
    stream: &StreamRef,
    command: &UserCommand,
    event: EventId,
) -> Result<(), Rejection> {
    match desk.execute::<User>(stream, command.clone(), &[event]) {
        Ok(()) => Ok(()),
        Err(Refusal::ProfileMoved) => Err(Rejection::Recompose),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The workspaces that somebody is in.
async fn memberships(state: &State<'_>, user: UserId) -> Result<Vec<Membership>, ServiceError> {
    let members = state.documents::<Members>();
    let page = members
        .page_of_lookup(&user.to_string(), None, MEMBERSHIPS_TOLD)
        .await?;
    let keys: Vec<_> = page
        .items
        .iter()
        .map(|(_, member)| member.workspace.to_string())
        .collect();
    let mut names: std::collections::HashMap<_, _> = state
        .documents::<Workspaces>()
        .get_many(&keys)
        .await?
        .into_iter()
        .collect();
    let now = state.now();
    let memberships = page.items.into_iter().filter_map(|(_, member)| {
        let member = member.settled(now)?;
        let workspace = names.remove(&member.workspace.to_string())?;
        Some(Membership {
            workspace: member.workspace,
            organization: member.organization,
            name: workspace.name,
            role: member.role,
            since: member.since,
        })
    });
    Ok(memberships.collect())
}

/// The organizations that somebody has a role in.
async fn organization_memberships(
    state: &State<'_>,
    user: UserId,
) -> Result<Vec<OrganizationMembership>, ServiceError> {
    let roles = state.documents::<OrganizationMembers>();
    let page = roles
        .page_of_lookup(&user.to_string(), None, MEMBERSHIPS_TOLD)
        .await?;
    let keys: Vec<_> = page
        .items
        .iter()
        .map(|(_, role)| role.organization.to_string())
        .collect();
    let mut names: std::collections::HashMap<_, _> = state
        .documents::<Organizations>()
        .get_many(&keys)
        .await?
        .into_iter()
        .collect();
    let memberships = page.items.into_iter().filter_map(|(_, role)| {
        let organization = names.remove(&role.organization.to_string())?;
        Some(OrganizationMembership {
            organization: role.organization,
            name: organization.name,
            role: role.role,
            since: role.since,
        })
    });
    Ok(memberships.collect())
}
