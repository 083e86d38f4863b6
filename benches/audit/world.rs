//! An installation in use: workspaces of very different sizes, each with members, keys, crews,
//! agents, promotions and refused attempts, whose events are appended as the writer does, without
//! deciding. What is personal is sealed under real keys.
//!
//! Three workspaces belong to somebody who can be signed in: `large` has a fifth of everything,
//! whatever that is; `middle` has [`MIDDLE_EVENTS`], and `small` has [`SMALL_EVENTS`]. The others
//! are as many as there is a log for, the first of them large, most of them small.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crewlog::{
    domain::{
        Timestamp,
        api_keys::{KeyCreated, KeyRevoked, KeyRotated, KeyTerms},
        attempts::AttemptsEvent,
        authority::{Actor, AuthorityLink, Role},
        contents::{Content, Digest},
        crew::{
            CrewEvent, CrewPlace, CrewProfile, CrewPromoted, Item, ItemChange, ItemCreated, ItemId,
            ItemRemoved, ItemUpdated,
        },
        environment::Environment,
        ids::{
            AgentId, CrewId, InvitationId, KeyId, OrganizationId, PathwayId, PromotionId, UserId,
            WorkspaceId,
        },
        organization::OrganizationEvent,
        promotion::{ApprovalTerms, PromotionEvent, PromotionSource, Review},
        sealed::{KeyOwner, Sealed},
        workspace::{MembershipSource, Policy, ProductionChanges, WorkspaceEvent},
    },
    journal::{
        Metadata, Source, SystemSource,
        entry::CONTEXT,
        sealing::{DataKey, Keyring},
        stores::Store,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::harness::log::{LogWriter, Parts, Person, Target};

pub const MIDDLE_EVENTS: u64 = 20_000;
pub const SMALL_EVENTS: u64 = 500;
/// One workspace for so many events of the log.
const EVENTS_OF_ONE: u64 = 2_000;
/// Which workspaces are measured, among all of them.
pub const LARGE: usize = 0;
pub const MIDDLE: usize = 1;
pub const SMALL: usize = 2;
/// The share of the large one.
const LARGE_SHARE: f64 = 0.2;
const KEYS_MAX: usize = 40;
const MEMBERS_MAX: usize = 200;
const ITEMS_MAX: usize = 40;
/// Far enough away for nothing to be due, in microseconds since 1970.
const FAR: Timestamp = Timestamp(4_000_000_000_000_000);

/// Somebody, and the key of what is sealed about them.
#[derive(Clone)]
pub struct Someone {
    pub person: Person,
    key: Arc<DataKey>,
}

pub struct Crew {
    pub place: CrewPlace,
    target: Target,
    pub items: Vec<(ItemId, Item)>,
    version: u64,
    name: String,
}

/// A workspace, as far as its next event depends on it.
pub struct Space {
    pub id: WorkspaceId,
    organization: OrganizationId,
    target: Target,
    attempts: Target,
    pub members: Vec<(Someone, Role)>,
    pub keys: Vec<(KeyId, KeyTerms, Environment)>,
    pub crews: Vec<Crew>,
    pending: Vec<InvitationId>,
    name: String,
    policy: Policy,
    pub events: u64,
}

/// Everything.
pub struct World {
    random: StdRng,
    people: Vec<Someone>,
    pub spaces: Vec<Space>,
    /// Of each workspace with those before it: the share of what happens that is theirs.
    shares: Vec<f64>,
}

/// Where what happens in the world is written.
pub struct Desk {
    pub store: Arc<dyn Store>,
    pub keyring: Keyring,
}

/// Who acts.
#[derive(Clone)]
enum By {
    Person(Someone, Role),
    Key(KeyId),
    Nobody,
}

impl World {
    pub fn new() -> Self {
        Self {
            random: StdRng::seed_from_u64(7),
            people: Vec::new(),
            spaces: Vec::new(),
            shares: Vec::new(),
        }
    }

    /// A log that goes on from where it is, fast: documents and index are rebuilt afterwards.
    pub async fn log(desk: &Desk, events: u64, until: Timestamp) -> LogWriter {
        let mut log = LogWriter::open(desk.store.clone()).await;
        log.batch_events = 2_000;
        log.is_ahead = true;
        log.parts = Parts {
            leaves: true,
            documents: false,
            audit: false,
        };
        let head = log.head_recorded_at();
        log.recorded_at = Timestamp(head.0 + 1);
        let appends = events.saturating_sub(log.position()) / 2_000 + 2;
        let left = (until.0 - head.0).max(1);
        log.step_us = (left / i64::try_from(appends).unwrap_or(1)).max(1);
        log
    }

    /// Lets things happen until the log is of a size.
    pub async fn grow(
        &mut self,
        desk: &Desk,
        log: &mut LogWriter,
        events: u64,
        owned: &[WorkspaceId],
        owner: (OrganizationId, UserId),
    ) {
        self.more_people(desk, (events / 200).clamp(20, 20_000))
            .await;
        self.more_spaces(log, events, owned, owner).await;
        self.share(events);
        while log.position() < events {
            let at = self.random.gen_range(0.0..1.0);
            let space = self.shares.partition_point(|share| *share <= at);
            let space = space.min(self.spaces.len() - 1);
            let before = log.position();
            self.happen(log, space).await;
            self.spaces[space].events += log.position() - before;
        }
        log.flush().await;
    }

    async fn more_people(&mut self, desk: &Desk, count: u64) {
        let mut statements = Vec::new();
        while (self.people.len() as u64) < count {
            let person = Person::new();
            let (key, statement) = desk.keyring.create(KeyOwner::Subject(person.subject));
            statements.push(statement);
            self.people.push(Someone { person, key });
        }
        for some in statements.chunks(500) {
            let kept = desk.store.execute(some.to_vec()).await;
            kept.expect("the keys are kept");
        }
    }

    async fn more_spaces(
        &mut self,
        log: &mut LogWriter,
        events: u64,
        owned: &[WorkspaceId],
        (own, owner): (OrganizationId, UserId),
    ) {
        let wanted = (events / EVENTS_OF_ONE).clamp(10, 5_000) as usize;
        let mut organization = own;
        while self.spaces.len() < wanted {
            let number = self.spaces.len();
            let id = owned.get(number).copied();
            if id.is_none() && (number - owned.len()).is_multiple_of(10) {
                organization = OrganizationId::from_uuid(SystemSource.uuid());
            }
            let chief = self.someone();
            let organization = if id.is_some() { own } else { organization };
            let space = Space::new(id, organization, number);
            self.spaces.push(space);
            let at = self.spaces.len() - 1;
            match id {
                // It was made by its owner, who is somebody that can be signed in.
                Some(_) => {
                    let mut owning = chief.clone();
                    owning.person.user = owner;
                    self.spaces[at].members.push((owning, Role::Owner));
                }
                None => self.begin(log, at, chief).await,
            }
            for environment in Environment::ALL {
                for _ in 0..2 {
                    self.new_crew(log, at, environment).await;
                }
            }
            for _ in 0..4 {
                let (someone, role) = (self.someone(), self.role());
                self.join(log, at, someone, role).await;
            }
            self.new_key(log, at, None).await;
        }
    }

    /// Shares: those of the three are given, the others get less and less of the rest.
    fn share(&mut self, events: u64) {
        // In a log that is too small for them they get less.
        let of =
            |wanted: u64, has: u64| (wanted.saturating_sub(has) as f64 / events as f64).min(0.2);
        let middle = of(MIDDLE_EVENTS, self.spaces[MIDDLE].events);
        let small = of(SMALL_EVENTS, self.spaces[SMALL].events);
        let weight = |number: usize| ((number + 1) as f64).powf(-0.7);
        let others = self.spaces.len() - 3;
        let all: f64 = (0..others).map(weight).sum();
        let rest = 1.0 - LARGE_SHARE - middle - small;
        let mut sum = 0.0;
        let shares = [LARGE_SHARE, middle, small].into_iter();
        let shares = shares.chain((0..others).map(|number| rest * weight(number) / all));
        self.shares = shares
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
    }

    fn someone(&mut self) -> Someone {
        let people = &self.people;
        people[self.random.gen_range(0..people.len())].clone()
    }

    fn role(&mut self) -> Role {
        [Role::Viewer, Role::Member, Role::Member, Role::Admin][self.random.gen_range(0..4)]
    }

    fn content(&mut self) -> Content {
        Content {
            digest: Digest(self.random.r#gen()),
            size: self.random.gen_range(200..20_000),
        }
    }

    async fn begin(&mut self, log: &mut LogWriter, at: usize, chief: Someone) {
        let space = &self.spaces[at];
        let by = By::Person(chief.clone(), Role::Owner);
        if (at - 3).is_multiple_of(10) {
            let made = OrganizationEvent::OrganizationCreated {
                organization: space.organization,
                name: format!("Organization {at}"),
                created_by: chief.person.user,
            };
            let target = Target::organization(space.organization);
            let about = metadata(log, &by, &target, None);
            log.add(&target, about, made).await;
        }
        let target = space.target.clone();
        let events = [
            WorkspaceEvent::WorkspaceCreated {
                workspace: space.id,
                organization: space.organization,
                name: space.name.clone(),
                created_by: chief.person.user,
            },
            WorkspaceEvent::PlanSelected {
                from: None,
                to: "free".parse().expect("a plan"),
            },
            WorkspaceEvent::MemberJoined {
                user: chief.person.user,
                role: Role::Owner,
                source: MembershipSource::Creation,
            },
        ];
        for event in events {
            let about = metadata(log, &by, &target, None);
            log.add(&target, about, event).await;
        }
        self.spaces[at].members.push((chief, Role::Owner));
    }

    /// One thing, in about the shares that an installation in use would have.
    async fn happen(&mut self, log: &mut LogWriter, at: usize) {
        match self.random.gen_range(0..1_000) {
            0..520 => self.edit(log, at, false).await,
            520..600 => self.edit(log, at, true).await,
            600..640 => self.describe_crew(log, at).await,
            640..660 => self.promote(log, at).await,
            660..700 => self.refused(log, at).await,
            700..760 => self.change_role(log, at).await,
            760..800 => self.invite(log, at).await,
            800..830 => self.answer_invitation(log, at).await,
            830..850 => self.leave(log, at).await,
            850..900 => self.turn_keys(log, at).await,
            900..930 => self.rename(log, at).await,
            930..998 => self.edit(log, at, false).await,
            998 => self.change_policy(log, at).await,
            _ => {
                let environment = *Environment::ALL
                    .choose(&mut self.random)
                    .expect("there are three");
                self.new_crew(log, at, environment).await;
            }
        }
    }

    fn member(&mut self, at: usize) -> By {
        // The first members do most of it.
        let count = self.spaces[at].members.len();
        let (one, other) = (
            self.random.gen_range(0..count),
            self.random.gen_range(0..count),
        );
        let (someone, role) = self.spaces[at].members[one.min(other)].clone();
        By::Person(someone, role)
    }

    fn actor(&mut self, at: usize) -> By {
        let keys = &self.spaces[at].keys;
        match self.random.gen_range(0..100) {
            0..30 if !keys.is_empty() => {
                By::Key(keys.choose(&mut self.random).expect("there are some").0)
            }
            30..33 => By::Nobody,
            _ => self.member(at),
        }
    }

    async fn edit(&mut self, log: &mut LogWriter, at: usize, is_pathway: bool) {
        let by = self.actor(at);
        // The first crew of a workspace is quiet: an entry in a thousand is about it.
        let crews = self.spaces[at].crews.len();
        let crew = match self.random.gen_range(0..1_000) {
            0 => 0,
            _ => self.random.gen_range(1..crews),
        };
        let (content, number) = (self.content(), self.random.r#gen::<u32>());
        let has = self.spaces[at].crews[crew].items.len();
        let does = self.random.gen_range(0..100);
        let item = self.random.gen_range(0..has.max(1));
        let crew = &mut self.spaces[at].crews[crew];
        let event = match does {
            0..10 if has < ITEMS_MAX => {
                let id: ItemId = match is_pathway {
                    true => PathwayId::from_uuid(SystemSource.uuid()).into(),
                    false => AgentId::from_uuid(SystemSource.uuid()).into(),
                };
                let name = format!("Helper {number}");
                let to = Item { name, content };
                crew.items.push((id, to.clone()));
                let made = ItemCreated { item: id, to };
                match is_pathway {
                    true => CrewEvent::PathwayCreated(made),
                    false => CrewEvent::AgentCreated(made),
                }
            }
            10..14 if has > ITEMS_MAX / 2 => {
                let (id, from) = crew.items.swap_remove(item);
                let gone = ItemRemoved { item: id, from };
                match id {
                    ItemId::Pathway(_) => CrewEvent::PathwayRemoved(gone),
                    ItemId::Agent(_) => CrewEvent::AgentRemoved(gone),
                }
            }
            _ if has > 0 => {
                let (id, from) = crew.items[item].clone();
                let to = Item {
                    name: from.name.clone(),
                    content,
                };
                crew.items[item].1 = to.clone();
                let updated = ItemUpdated { item: id, from, to };
                match id {
                    ItemId::Pathway(_) => CrewEvent::PathwayUpdated(updated),
                    ItemId::Agent(_) => CrewEvent::AgentUpdated(updated),
                }
            }
            _ => renamed(profile(&crew.name), profile(&crew.name)),
        };
        crew.version += 1;
        let (target, environment) = (crew.target.clone(), crew.place.environment);
        let about = metadata(log, &by, &target, Some(environment));
        log.add(&target, about, event).await;
    }

    async fn describe_crew(&mut self, log: &mut LogWriter, at: usize) {
        let by = self.member(at);
        let (crew, number) = (
            self.random.gen_range(1..self.spaces[at].crews.len()),
            self.random.r#gen::<u16>(),
        );
        let crew = &mut self.spaces[at].crews[crew];
        let from = profile(&crew.name);
        crew.name = format!("Acme {number} - {}", crew.place.environment.name());
        let to = profile(&crew.name);
        let (target, environment) = (crew.target.clone(), crew.place.environment);
        let about = metadata(log, &by, &target, Some(environment));
        log.add(&target, about, renamed(from, to)).await;
    }

    /// Proposed, approved, applied: three entries of the promotion and one of the crew.
    async fn promote(&mut self, log: &mut LogWriter, at: usize) {
        let (proposer, approver) = (self.member(at), self.member(at));
        let crews = self.spaces[at].crews.len();
        let (source, target) = (
            self.random.gen_range(1..crews),
            self.random.gen_range(1..crews),
        );
        let (content, plan) = (self.content(), self.content());
        let space = &mut self.spaces[at];
        let (workspace, organization) = (space.id, space.organization);
        let source = (space.crews[source].place, space.crews[source].version);
        let crew = &mut space.crews[target];
        let place = crew.place;
        let id = PromotionId::from_uuid(SystemSource.uuid());
        let review = Review {
            target_version: crew.version,
            bundle_digest: content.digest,
            include: None,
            plan,
            added: 0,
            changed: crew.items.len().min(5) as u64,
            removed: 0,
        };
        let mut changes: Vec<ItemChange> = Vec::new();
        for (item, present) in crew.items.iter_mut().take(5) {
            let to = Item {
                name: present.name.clone(),
                content,
            };
            let from = std::mem::replace(present, to.clone());
            changes.push(ItemChange {
                item: *item,
                from: Some(from),
                to: Some(to),
            });
        }
        changes.sort_by_key(|change| change.item);
        crew.version += 1;
        let (version, crew_target) = (crew.version, crew.target.clone());
        let people = |by: &By| match by {
            By::Person(someone, _) => someone.person.user,
            By::Key(_) | By::Nobody => unreachable!("members are people"),
        };
        let digest = review.plan.digest;
        let proposed = PromotionEvent::PromotionProposed {
            promotion: id,
            workspace,
            organization,
            source: PromotionSource::Crew {
                crew: source.0,
                version: source.1,
            },
            target: place,
            review,
            terms: ApprovalTerms {
                approvals_needed: 1,
                self_approval: true,
            },
            proposed_by: actor_of(&proposer),
            proposers: vec![people(&proposer)],
        };
        let approved = PromotionEvent::PromotionApproved {
            target: place.id,
            user: people(&approver),
            review: digest,
            suffices: true,
        };
        let applied = PromotionEvent::PromotionApplied {
            target: place.id,
            user: people(&approver),
            version,
            scheduled: false,
        };
        let of_promotion = Target::in_workspace("promotion", id, workspace, organization);
        let environment = Some(place.environment);
        for (by, event) in [
            (&proposer, proposed),
            (&approver, approved),
            (&approver, applied),
        ] {
            let about = metadata(log, by, &of_promotion, environment);
            log.add(&of_promotion, about, event).await;
        }
        let promoted = CrewEvent::CrewPromoted(CrewPromoted {
            promotion: id,
            changes,
        });
        let about = metadata(log, &approver, &crew_target, environment);
        log.add(&crew_target, about, promoted).await;
    }

    async fn refused(&mut self, log: &mut LogWriter, at: usize) {
        let by = self.member(at);
        let crew = self.random.gen_range(1..self.spaces[at].crews.len());
        let actions = ["agent.updated", "member.invited", "promotion.applied"];
        let action = *actions.choose(&mut self.random).expect("there are some");
        let space = &self.spaces[at];
        let crew = space.crews[crew].place;
        let (crew, target) = match action {
            "member.invited" => (None, space.id.to_string()),
            _ => (Some(crew), crew.id.to_string()),
        };
        let event = AttemptsEvent::AttemptRefused {
            organization: space.organization,
            actor: actor_of(&by),
            action: action.to_owned(),
            target,
            crew: crew.map(|crew| crew.id),
            environment: crew.map(|crew| crew.environment),
            code: "not_permitted".to_owned(),
            minute: log.recorded_at.minute(),
            count: 1,
            repeats: false,
        };
        let target = space.attempts.clone();
        let about = metadata(log, &by, &target, crew.map(|crew| crew.environment));
        log.add(&target, about, event).await;
    }

    async fn change_role(&mut self, log: &mut LogWriter, at: usize) {
        let count = self.spaces[at].members.len();
        if count < 2 {
            return self.rename(log, at).await;
        }
        let (member, to) = (self.random.gen_range(1..count), self.role());
        let by = self.chief(at);
        let (someone, from) = &mut self.spaces[at].members[member];
        let changed = WorkspaceEvent::MemberRoleChanged {
            user: someone.person.user,
            from: std::mem::replace(from, to),
            to,
            changed_by: user_of(&by),
        };
        self.of_workspace(log, at, &by, None, changed).await;
    }

    /// The first member: an owner.
    fn chief(&self, at: usize) -> By {
        let (someone, role) = self.spaces[at].members[0].clone();
        By::Person(someone, role)
    }

    async fn of_workspace(
        &self,
        log: &mut LogWriter,
        at: usize,
        by: &By,
        environment: Option<Environment>,
        event: WorkspaceEvent,
    ) {
        let target = &self.spaces[at].target;
        let about = metadata(log, by, target, environment);
        log.add(target, about, event).await;
    }

    async fn invite(&mut self, log: &mut LogWriter, at: usize) {
        let (by, someone, role) = (self.chief(at), self.someone(), self.role());
        let invitation = InvitationId::from_uuid(SystemSource.uuid());
        self.spaces[at].pending.push(invitation);
        let email = format!("{}@example.com", someone.person.user);
        let invited = WorkspaceEvent::MemberInvited {
            invitation,
            email: seal(log, &someone.key, "email", &email),
            role,
            invited_by: user_of(&by),
            token_hash: BASE64_STANDARD.encode(invitation.uuid().as_bytes().repeat(2)),
            expires_at: FAR,
        };
        self.of_workspace(log, at, &by, None, invited).await;
    }

    async fn answer_invitation(&mut self, log: &mut LogWriter, at: usize) {
        let Some(invitation) = self.spaces[at].pending.pop() else {
            return self.rename(log, at).await;
        };
        let (someone, role) = (self.someone(), self.role());
        let by = By::Person(someone.clone(), role);
        let user = someone.person.user;
        let is_member = |(member, _): &(Someone, Role)| member.person.user == user;
        let space = &self.spaces[at];
        if space.members.len() >= MEMBERS_MAX || space.members.iter().any(is_member) {
            let declined = WorkspaceEvent::InvitationDeclined { invitation };
            return self.of_workspace(log, at, &by, None, declined).await;
        }
        let accepted = WorkspaceEvent::InvitationAccepted { invitation, user };
        self.of_workspace(log, at, &by, None, accepted).await;
        self.join(log, at, someone, role).await;
    }

    async fn join(&mut self, log: &mut LogWriter, at: usize, someone: Someone, role: Role) {
        let user = someone.person.user;
        let members = &self.spaces[at].members;
        if members.iter().any(|(member, _)| member.person.user == user) {
            return;
        }
        if at <= SMALL {
            // Their names can be read by whoever is measured.
            let target = Target::organization(self.spaces[at].organization);
            let by = By::Person(someone.clone(), role);
            let recorded = OrganizationEvent::PersonRecorded {
                user,
                profile_sequence: 1,
                email: seal(log, &someone.key, "email", &format!("{user}@example.com")),
                name: seal(log, &someone.key, "name", &format!("Person {user}")),
            };
            let about = metadata(log, &by, &target, None);
            log.add(&target, about, recorded).await;
        }
        let by = self.chief(at);
        let joined = WorkspaceEvent::MemberJoined {
            user,
            role,
            source: MembershipSource::Creation,
        };
        self.of_workspace(log, at, &by, None, joined).await;
        self.spaces[at].members.push((someone, role));
    }

    async fn leave(&mut self, log: &mut LogWriter, at: usize) {
        let count = self.spaces[at].members.len();
        if count < 5 {
            return self.rename(log, at).await;
        }
        let member = self.random.gen_range(1..count);
        let by = self.chief(at);
        let (someone, role) = self.spaces[at].members.remove(member);
        let removed = WorkspaceEvent::MemberRemoved {
            user: someone.person.user,
            role,
            removed_by: user_of(&by),
        };
        self.of_workspace(log, at, &by, None, removed).await;
    }

    async fn turn_keys(&mut self, log: &mut LogWriter, at: usize) {
        let by = self.chief(at);
        let count = self.spaces[at].keys.len();
        let does = self.random.gen_range(0..3);
        let chosen = self.random.gen_range(0..count.max(1));
        match does {
            0 if count > 3 => {
                let (key, terms, environment) = self.spaces[at].keys.swap_remove(chosen);
                let revoked = WorkspaceEvent::ApiKeyRevoked(KeyRevoked {
                    key,
                    name: terms.name,
                    environment: Some(environment),
                    revoked_by: user_of(&by),
                });
                self.of_workspace(log, at, &by, Some(environment), revoked)
                    .await;
            }
            1 if count > 1 => {
                let (key, terms, environment) = self.spaces[at].keys.swap_remove(chosen);
                let successor = KeyId::from_uuid(SystemSource.uuid());
                let rotated = WorkspaceEvent::ApiKeyRotated(KeyRotated {
                    key,
                    name: terms.name,
                    environment: Some(environment),
                    successor,
                    expires_at: log.recorded_at,
                    rotated_by: user_of(&by),
                });
                self.of_workspace(log, at, &by, Some(environment), rotated)
                    .await;
                self.new_key(log, at, Some((successor, key))).await;
            }
            _ if count < KEYS_MAX => self.new_key(log, at, None).await,
            _ => self.rename(log, at).await,
        }
    }

    async fn new_key(&mut self, log: &mut LogWriter, at: usize, turned: Option<(KeyId, KeyId)>) {
        let by = self.chief(at);
        let environment = *Environment::ALL
            .choose(&mut self.random)
            .expect("there are three");
        let key = turned.map_or_else(|| KeyId::from_uuid(SystemSource.uuid()), |turned| turned.0);
        let terms = KeyTerms {
            name: format!("Deploy {}", self.random.r#gen::<u16>()),
            scopes: BTreeSet::new(),
            crews: None,
            expires_at: None,
            allowed_cidrs: vec![],
        };
        let created = WorkspaceEvent::ApiKeyCreated(KeyCreated {
            key,
            environment: Some(environment),
            terms: terms.clone(),
            token_hash: BASE64_STANDARD.encode(key.uuid().as_bytes().repeat(2)),
            prefix: "crew_prod_abcd".to_owned(),
            created_by: user_of(&by),
            created_at: log.recorded_at,
            rotated_from: turned.map(|turned| turned.1),
        });
        self.of_workspace(log, at, &by, Some(environment), created)
            .await;
        self.spaces[at].keys.push((key, terms, environment));
    }

    async fn rename(&mut self, log: &mut LogWriter, at: usize) {
        let by = self.chief(at);
        let to = format!("Workspace {}", self.random.r#gen::<u32>());
        let from = std::mem::replace(&mut self.spaces[at].name, to.clone());
        let renamed = WorkspaceEvent::WorkspaceRenamed { from, to };
        self.of_workspace(log, at, &by, None, renamed).await;
    }

    async fn change_policy(&mut self, log: &mut LogWriter, at: usize) {
        let by = self.chief(at);
        let from = self.spaces[at].policy;
        let to = Policy {
            key_rotation_days: Some(self.random.gen_range(30..365)),
            ..from
        };
        self.spaces[at].policy = to;
        let changed = WorkspaceEvent::PolicyChanged { from, to };
        self.of_workspace(log, at, &by, None, changed).await;
    }

    async fn new_crew(&mut self, log: &mut LogWriter, at: usize, environment: Environment) {
        let by = self.chief(at);
        let space = &self.spaces[at];
        if space.crews.len() >= 60 {
            return self.rename(log, at).await;
        }
        let place = CrewPlace {
            id: CrewId::from_uuid(SystemSource.uuid()),
            environment,
        };
        let target = Target::in_workspace("crew", place.id, space.id, space.organization);
        let name = format!("Acme {} - {}", space.crews.len(), environment.name());
        let created = CrewEvent::CrewCreated {
            crew: place,
            workspace: space.id,
            organization: space.organization,
            profile: profile(&name),
            description: None,
        };
        let listed = WorkspaceEvent::CrewListed {
            crew: place.id,
            environment,
        };
        self.of_workspace(log, at, &by, Some(environment), listed)
            .await;
        let about = metadata(log, &by, &target, Some(environment));
        log.add(&target, about, created).await;
        self.spaces[at].crews.push(Crew {
            place,
            target,
            items: Vec::new(),
            version: 1,
            name,
        });
    }
}

impl Space {
    fn new(id: Option<WorkspaceId>, organization: OrganizationId, number: usize) -> Self {
        let id = id.unwrap_or_else(|| WorkspaceId::from_uuid(SystemSource.uuid()));
        Self {
            id,
            organization,
            target: Target::workspace(id, organization),
            attempts: Target::in_workspace("attempts", id, id, organization),
            members: Vec::new(),
            keys: Vec::new(),
            crews: Vec::new(),
            pending: Vec::new(),
            name: format!("Workspace {number}"),
            policy: Policy {
                production_changes: ProductionChanges::Direct,
                approvals_needed: 1,
                self_approval: true,
                key_rotation_days: None,
            },
            events: 0,
        }
    }
}

fn profile(name: &str) -> CrewProfile {
    CrewProfile {
        name: name.to_owned(),
        client: Some("Acme Corp".to_owned()),
    }
}

/// Of a crew that says nothing of what it is for.
fn renamed(from: CrewProfile, to: CrewProfile) -> CrewEvent {
    CrewEvent::CrewUpdated {
        from,
        to,
        previous: None,
        description: None,
    }
}

fn actor_of(by: &By) -> Actor {
    match by {
        By::Person(someone, _) => Actor::User {
            id: someone.person.user,
        },
        By::Key(id) => Actor::ApiKey { id: *id },
        By::Nobody => Actor::System,
    }
}

fn user_of(by: &By) -> UserId {
    match by {
        By::Person(someone, _) => someone.person.user,
        By::Key(_) | By::Nobody => unreachable!("only people do this"),
    }
}

/// A text in the event that is added next.
fn seal(log: &LogWriter, key: &DataKey, field: &str, text: &str) -> Sealed {
    key.seal(&SystemSource, log.next_event, field, text)
}

/// What a request leaves behind.
fn metadata(
    log: &LogWriter,
    by: &By,
    target: &Target,
    environment: Option<Environment>,
) -> Metadata {
    let position = log.position();
    let (authority, context) = match by {
        By::Person(someone, role) => {
            let session = AuthorityLink::Session {
                id: someone.person.session,
                position,
            };
            let role = AuthorityLink::Role {
                role: *role,
                position,
            };
            let said = r#"{"ip":"192.0.2.17","user_agent":"Mozilla/5.0 (X11; Linux x86_64)"}"#;
            let context = seal(log, &someone.key, CONTEXT, said);
            (vec![session, role], Some(context))
        }
        By::Key(id) => (vec![AuthorityLink::ApiKey { id: *id, position }], None),
        By::Nobody => (vec![], None),
    };
    Metadata {
        actor: actor_of(by),
        authority,
        organization: target.organization,
        environment,
        request_id: Some(format!("req_{}", SystemSource.uuid().simple())),
        correlation: None,
        causation: None,
        reason: None,
        context,
    }
}
