//! Random commands of every kind, so that every read model has something in it.

use std::sync::Arc;
use std::time::Duration;

use crewlog::domain::Name;
use crewlog::domain::Timestamp;
use crewlog::domain::attempts::{Attempts, AttemptsCommand};
use crewlog::domain::authority::{Actor, OrganizationRole, Permission, Role};
use crewlog::domain::contents::{Content, Digest};
use crewlog::domain::crew::{
    Connection, ConnectionCommand, ConnectionKind, Crew, CrewCommand, CrewPlace, CrewProfile,
    DescriptionChange, Item, ItemChange, ItemCommand, ItemId, KnowledgeCommand, ProfileChange,
};
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::{
    AgentId, CredentialId, CrewId, DocumentId, EventId, InvitationId, KnowledgeBaseId, PathwayId,
    PrincipalId, PromotionId, ReviewId, SessionId, UserId,
};
use crewlog::domain::organization::{Organization, OrganizationCommand};
use crewlog::domain::plans::Quotas;
use crewlog::domain::promotion::{
    ApprovalTerms, CheckOutcome, CheckResult, Circumstances, Promotion, PromotionCommand,
    PromotionSource, Review, ScheduleEnd,
};
use crewlog::domain::review::{
    DecideAccess, Decision, Finding, Review as AccessReview, ReviewCommand, ReviewTerms, Reviewed,
    Settlement, Undecided,
};
use crewlog::domain::sealed::{KeyOwner, Sealed};
use crewlog::domain::user::{User, UserCommand};
use crewlog::domain::workspace::{Policy, Workspace, WorkspaceCommand};
use crewlog::journal::{Source, StreamRef, SubmitError, Unit};

use crate::support::journal::{
    Fixture, Person, Team, command, done, name, organization_stream, token_hash, unit,
};

/// People, organizations and workspaces with something of everything about them.
pub(super) struct World {
    pub people: Vec<Person>,
    pub teams: Vec<Team>,
    invitations: Vec<(Team, InvitationId)>,
    sessions: Vec<(Person, SessionId)>,
    crews: Vec<(Team, CrewPlace)>,
    reviews: Vec<(Team, ReviewId)>,
}

/// Hundreds of random commands in concurrent handfuls; many are refused, as they should be.
pub(super) async fn workload(fixture: &Arc<Fixture>, circle: &str) -> World {
    let mut world = World {
        people: Vec::new(),
        teams: Vec::new(),
        invitations: Vec::new(),
        sessions: Vec::new(),
        crews: Vec::new(),
        reviews: Vec::new(),
    };
    for label in ["ada", "bob", "cyd", "dan", "eve"] {
        let person = fixture.sign_up(&format!("{label}.{circle}")).await;
        world.people.push(person);
    }
    for owner in &world.people[..2] {
        let team = fixture.workspace(owner, "first").await;
        let second = fixture
            .workspace_in(team.organization, owner, "second")
            .await;
        world.teams.extend([team, second]);
        for (person, role) in world.people[2..].iter().zip([Role::Owner, Role::Admin]) {
            fixture.join(team, owner, person, role).await;
        }
    }
    let mut accepted = 0;
    for round in 0..60 {
        let units: Vec<_> = (0..12).map(|_| random_unit(fixture, &mut world)).collect();
        let answers = units.into_iter().map(|unit| fixture.submit(unit));
        for answer in futures::future::join_all(answers).await {
            match answer {
                Ok(_) => accepted += 1,
                Err(SubmitError::Refused(_)) => {}
                Err(other) => panic!("neither accepted nor refused: {other}"),
            }
        }
        if round % 8 == 7 {
            fixture.source.pass(Duration::from_secs(3 * 24 * 3600));
        }
    }
    assert!(accepted > 100, "{accepted} accepted");
    world
}

fn random_unit(fixture: &Fixture, world: &mut World) -> Unit {
    let source = &fixture.source;
    let team = *source.one_of(&world.teams);
    let actor = source.one_of(&world.people).clone();
    let other = source.one_of(&world.people).clone();
    let role = *source.one_of(&Role::ALL);
    let label = format!("name {}", source.below(1_000));
    let mut unit = match source.below(22) {
        21 => review_unit(fixture, world, team, &actor, &other),
        20 if !world.crews.is_empty() => promotion_unit(fixture, world, &actor, &label),
        18..=20 => crew_unit(fixture, world, team, &actor, &label),
        0 | 1 => {
            let invitation = fixture.invitation_id();
            world.invitations.push((team, invitation));
            invitation_unit(fixture, team, &actor, invitation, &other.email, role)
        }
        2..=5 if !world.invitations.is_empty() => {
            let newest = world.invitations.len().saturating_sub(5);
            let (team, invitation) = *source.one_of(&world.invitations[newest..]);
            answer_unit(fixture, team, &actor, invitation)
        }
        6 => session_unit(fixture, world, &actor),
        7 => command::<Attempts>(
            team.attempts(),
            AttemptsCommand::Record {
                organization: team.organization,
                actor: actor.actor(),
                action: "workspace.rename".to_owned(),
                target: team.workspace.to_string(),
                crew: None,
                environment: None,
                code: "not_permitted".to_owned(),
                minute: source.now().minute(),
                count: 1,
                repeats: false,
            },
        ),
        8 => command::<Organization>(
            organization_stream(team.organization),
            OrganizationCommand::Rename {
                actor: actor.actor(),
                name: name(&label),
            },
        ),
        12 => command::<Organization>(
            organization_stream(team.organization),
            organization_member_command(fixture, &actor, &other),
        ),
        13..=17 => command::<Workspace>(team.stream(), rule_command(fixture, &actor, &other)),
        number => command::<Workspace>(
            team.stream(),
            match number {
                9 => WorkspaceCommand::Rename {
                    actor: actor.user,
                    name: name(&label),
                },
                10 => WorkspaceCommand::ChangeRole {
                    actor: actor.user,
                    user: other.user,
                    role,
                },
                11 if source.below(2) == 0 => WorkspaceCommand::Remove {
                    actor: actor.user,
                    user: other.user,
                },
                _ => WorkspaceCommand::SelectPlan {
                    actor: actor.user,
                    plan: format!("plan-{}", source.below(3)).parse().expect("a plan"),
                },
            },
        ),
    };
    unit.origin.actor = actor.actor();
    unit
}

/// Free text of a workspace that nobody opens.
fn sealed(team: Team) -> Sealed {
    Sealed {
        subject: KeyOwner::Workspace(team.workspace),
        key_version: 1,
        commitment: "commitment".to_owned(),
        ciphertext: "ciphertext".to_owned(),
    }
}

/// A crew is made, renamed, described, or archived: what it is called in its own stream, that there is one
/// in its workspace's.
fn crew_unit(
    fixture: &Fixture,
    world: &mut World,
    team: Team,
    actor: &Person,
    label: &str,
) -> Unit {
    let (source, actor) = (&fixture.source, actor.actor());
    let known = world.crews.len();
    let is_new = known == 0 || source.below(3) == 0;
    if is_new {
        let crew = CrewPlace {
            id: CrewId::from_uuid(source.uuid()),
            environment: *source.one_of(&Environment::ALL),
        };
        world.crews.push((team, crew));
    }
    let (team, crew) = match is_new {
        true => *world.crews.last().expect("a crew"),
        false => *source.one_of(&world.crews),
    };
    let stream = StreamRef::of::<Crew>(crew.id, team.workspace);
    let change = item_change(fixture, crew, &name(label));
    let (knowledge, learns) = (
        knowledge_change(fixture, crew, &name(label)),
        source.below(3) == 0,
    );
    let (connection, joins) = (connection_change(fixture, crew), source.below(3) == 0);
    let (archives, name) = (source.below(4) == 0, name(label));
    let [description, described] = [(); 2].map(|()| (source.below(2) == 0).then(|| sealed(team)));
    // It is the newest as long as nothing else has changed the profile.
    let profile_sequence = (source.below(2) == 0).then_some(1);
    let streams = vec![team.stream(), stream.clone()];
    unit(team.organization, streams, move |desk| {
        let (workspace, now) = (team.stream(), desk.now());
        let permission = Permission::DescribeCrews;
        let workspace = desk.read::<Workspace>(&workspace);
        workspace.authorise_in_crew(actor, permission, crew, now)?;
        let (list, inside) = if is_new {
            let created = CrewCommand::Create {
                crew,
                workspace: team.workspace,
                organization: team.organization,
                profile: CrewProfile {
                    name: name.to_string(),
                    ..CrewProfile::default()
                },
                description: description.clone(),
            };
            (Some(WorkspaceCommand::ListCrew { actor, crew }), created)
        } else if archives {
            let unlisted = WorkspaceCommand::UnlistCrew { actor, crew };
            (Some(unlisted), CrewCommand::Archive)
        } else if learns {
            (None, CrewCommand::Knowledge(knowledge.clone()))
        } else if let (Some(change), true) = (&connection, joins) {
            (None, CrewCommand::Connection(change.clone()))
        } else if let Some(change) = &change {
            (None, CrewCommand::Item(change.clone()))
        } else {
            let redescribed = |profile_sequence| DescriptionChange {
                previous: description.clone(),
                description: described.clone(),
                profile_sequence,
            };
            let change = ProfileChange {
                name: None,
                client: Some(Some(name.clone())),
                description: profile_sequence.map(redescribed),
            };
            (None, CrewCommand::Update { change })
        };
        if let Some(list) = list {
            desk.execute::<Workspace>(&team.stream(), list, &[])?;
        }
        desk.execute::<Crew>(&stream, inside, &[])?;
        Ok(done())
    })
}

/// An access review from its opening as far as chance has it; what is decided is about somebody
/// else, and is carried out as their removal.
fn review_unit(
    fixture: &Fixture,
    world: &mut World,
    team: Team,
    actor: &Person,
    other: &Person,
) -> Unit {
    let (source, user, about) = (&fixture.source, actor.user, PrincipalId::User(other.user));
    let review = ReviewId::from_uuid(source.uuid());
    let stream = StreamRef::of::<AccessReview>(review, team.workspace);
    let how_far = source.below(5);
    let event = fixture.event_id();
    let reason = sealed(team);
    let before = world
        .reviews
        .last()
        .copied()
        .filter(|(of, _)| of.workspace == team.workspace);
    world.reviews.push((team, review));
    let mut streams = vec![team.stream(), stream.clone()];
    let previous = before.map(|(_, id)| StreamRef::of::<AccessReview>(id, team.workspace));
    streams.extend(previous.clone());
    unit(team.organization, streams, move |desk| {
        let now = desk.now();
        let workspace = desk.read::<Workspace>(&team.stream());
        workspace.authorise(user, Permission::RunReviews, now)?;
        let opened = ReviewCommand::Open {
            review,
            workspace: team.workspace,
            organization: team.organization,
            terms: ReviewTerms {
                name: "Who has access".to_owned(),
                principals: Reviewed::ALL.into(),
                environment: None,
                reviewers: [user].into(),
                due_at: now.plus(chrono::TimeDelta::days(1)),
                undecided: Undecided::Keep,
                recurs_after_days: Some(1),
            },
            actor: user,
            pinned_at: 1,
            items: 2,
            previous: None,
        };
        desk.execute::<AccessReview>(&stream, opened, &[])?;
        if let Some(previous) = &previous {
            let recur = ReviewCommand::Recur { next: Ok(review) };
            desk.execute::<AccessReview>(previous, recur, &[])?;
        }
        let begin = || ReviewCommand::BeginClosing { actor: Some(user) };
        let settle = |outcome| ReviewCommand::Settle {
            item: about,
            decision: Decision::Revoke,
            outcome,
            applied_by: None,
        };
        let mut asked = Vec::new();
        if how_far > 0 {
            asked.push(ReviewCommand::Remind { days_left: 1 });
            asked.push(ReviewCommand::Decide(DecideAccess {
                actor: user,
                item: about,
                kind: Reviewed::Members,
                decision: Decision::Revoke,
                seen_at: 1,
                present: Some(1),
                subjects: [].into(),
                reason: reason.clone(),
                findings: vec![Finding::NeverUsed],
                last_used_at: None,
            }));
        }
        match how_far {
            0 | 1 => {}
            2 => asked.extend([
                begin(),
                settle(Settlement::Changed),
                ReviewCommand::FinishClosing,
            ]),
            3 => asked.extend([
                begin(),
                settle(Settlement::Gone),
                ReviewCommand::FinishClosing,
                ReviewCommand::StopRecurring { actor: user },
            ]),
            _ => asked.push(begin()),
        }
        let mut ids = vec![event].into_iter();
        for command in asked {
            let id: Vec<_> = match command {
                ReviewCommand::Decide(_) => ids.next().into_iter().collect(),
                _ => vec![],
            };
            desk.execute::<AccessReview>(&stream, command, &id)?;
        }
        Ok(done())
    })
}

/// A promotion into one of the crews, from its proposal as far as chance has it: some of the items
/// go, a new one comes.
fn promotion_unit(fixture: &Fixture, world: &World, actor: &Person, label: &str) -> Unit {
    let (source, user) = (&fixture.source, actor.user);
    let (team, crew) = *source.one_of(&world.crews);
    let promotion = PromotionId::from_uuid(source.uuid());
    let (place, stream) = (
        StreamRef::of::<Crew>(crew.id, team.workspace),
        StreamRef::of::<Promotion>(promotion, team.workspace),
    );
    let new = ItemId::Agent(AgentId::from_uuid(source.uuid()));
    let (name, how_far, needed) = (label.to_owned(), source.below(6), source.below(2) as u8);
    let event = fixture.event_id();
    let streams = vec![team.stream(), place.clone(), stream.clone()];
    unit(team.organization, streams, move |desk| {
        let (workspace, now, by) = (team.stream(), desk.now(), Actor::User { id: user });
        let permission = Permission::ProposePromotions;
        let workspace = desk.read::<Workspace>(&workspace);
        workspace.authorise_in_crew(by, permission, crew, now)?;
        let there = desk.read::<Crew>(&place);
        there.changeable_in(team.workspace)?;
        let version = there.contents_version();
        let items: Vec<_> = there
            .items()
            .all()
            .map(|(id, item)| (id, item.clone()))
            .collect();
        let gone = items
            .iter()
            .skip(1)
            .step_by(2)
            .map(|(item, from)| ItemChange {
                item: *item,
                from: Some(from.clone()),
                to: None,
            });
        let (digest, size) = (Digest([7; 32]), 2);
        let content = Content { digest, size };
        let mut changes: Vec<_> = gone.collect();
        changes.push(ItemChange {
            item: new,
            from: None,
            to: Some(Item {
                name: format!("new {name}"),
                content,
            }),
        });
        changes.sort_by_key(|change| change.item);
        let terms = ApprovalTerms {
            approvals_needed: needed,
            self_approval: true,
        };
        let review = Review {
            target_version: version,
            bundle_digest: digest,
            include: None,
            plan: content,
            added: 1,
            changed: 0,
            removed: changes.len() as u64 - 1,
        };
        let promoted = PromotionSource::Bundle {};
        let mut asked = vec![PromotionCommand::Propose {
            promotion,
            workspace: team.workspace,
            organization: team.organization,
            source: promoted,
            target: crew,
            review: review.clone(),
            terms,
            proposed_by: by,
            proposers: vec![user],
        }];
        let circumstances = |entitled: &[UserId]| Circumstances {
            target_version: version,
            terms,
            entitled: entitled.iter().copied().collect(),
        };
        let approve = PromotionCommand::Approve {
            user,
            now: circumstances(&[]),
        };
        let refresh = PromotionCommand::Refresh {
            source: promoted,
            review,
            terms,
            refreshed_by: by,
            proposers: vec![user],
        };
        let at = Timestamp(now.0 + 1_000_000);
        match how_far {
            0 => asked.push(PromotionCommand::Reject { user }),
            1 => asked.extend([
                approve,
                refresh,
                PromotionCommand::Cancel {
                    actor: by,
                    decides: false,
                },
            ]),
            2 => asked.extend([
                approve,
                PromotionCommand::Schedule {
                    user,
                    at,
                    now: circumstances(&[user]),
                },
                PromotionCommand::EndSchedule {
                    at,
                    why: ScheduleEnd::RightsEnded,
                },
            ]),
            _ => asked.extend([
                approve,
                PromotionCommand::Apply {
                    user,
                    version: desk.sequence(&place) + 1,
                    scheduled: None,
                    now: circumstances(&[user]),
                },
            ]),
        }
        for command in asked {
            desk.execute::<Promotion>(&stream, command, &[])?;
        }
        if how_far < 3 {
            return Ok(done());
        }
        let promote = CrewCommand::Promote {
            promotion,
            expected: version,
            changes: changes.clone(),
            needs: vec![],
        };
        desk.execute::<Crew>(&place, promote, &[])?;
        if how_far > 3 {
            let check = PromotionCommand::Check {
                checks: vec![CheckResult {
                    name: "A call is answered".to_owned(),
                    outcome: match how_far {
                        4 => CheckOutcome::Failed,
                        _ => CheckOutcome::Passed,
                    },
                }],
                evidence: None,
                checked_by: by,
            };
            desk.execute::<Promotion>(&stream, check, &[event])?;
            let present = desk.read::<Crew>(&place).contents_version();
            let back = PromotionCommand::RollBack {
                user,
                present,
                version: desk.sequence(&place) + 1,
                force: false,
            };
            desk.execute::<Promotion>(&stream, back, &[])?;
            let undone = changes.iter().map(|change| ItemChange {
                item: change.item,
                from: change.to.clone(),
                to: change.from.clone(),
            });
            let back = CrewCommand::RollBack {
                promotion,
                expected: present,
                changes: undone.collect(),
            };
            desk.execute::<Crew>(&place, back, &[])?;
        }
        Ok(done())
    })
}

/// Something about one of a few agents and pathways, which may or may not be in the crew; at
/// times nothing.
fn item_change(fixture: &Fixture, crew: CrewPlace, name: &Name) -> Option<ItemCommand> {
    let source = &fixture.source;
    let uuid = uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(4) as u128);
    let item = match source.below(2) {
        0 => ItemId::Agent(AgentId::from_uuid(uuid)),
        _ => ItemId::Pathway(PathwayId::from_uuid(uuid)),
    };
    let (name, digest) = (name.clone(), Digest([source.below(3) as u8; 32]));
    let content = Content { digest, size: 2 };
    match source.below(6) {
        0 | 1 => Some(ItemCommand::Create {
            item,
            name,
            content,
        }),
        2 | 3 => Some(ItemCommand::Update {
            item,
            name,
            content,
        }),
        4 => Some(ItemCommand::Remove { item }),
        _ => None,
    }
}

/// Something about one of a few knowledge bases and documents, which may or may not be there.
fn knowledge_change(fixture: &Fixture, crew: CrewPlace, name: &Name) -> KnowledgeCommand {
    let source = &fixture.source;
    let nearby = |below: usize| {
        uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(below) as u128)
    };
    let base = KnowledgeBaseId::from_uuid(nearby(2));
    let document = DocumentId::from_uuid(nearby(4));
    let (name, digest) = (name.clone(), Digest([source.below(3) as u8; 32]));
    let content = Content { digest, size: 2 };
    match source.below(12) {
        0..=2 => KnowledgeCommand::CreateBase { base, name },
        3 => KnowledgeCommand::RenameBase { base, name },
        4 => KnowledgeCommand::RemoveBase { base },
        5..=8 => KnowledgeCommand::CreateDocument {
            base,
            document,
            title: name,
            content,
        },
        9 | 10 => KnowledgeCommand::UpdateDocument {
            base,
            document,
            title: name,
            content,
        },
        _ => KnowledgeCommand::RemoveDocument { base, document },
    }
}

/// Something about one of a few connections of every kind, which may or may not be in the crew.
fn connection_change(fixture: &Fixture, crew: CrewPlace) -> Option<ConnectionCommand> {
    let source = &fixture.source;
    let uuid = uuid::Uuid::from_u128(crew.id.uuid().as_u128() + source.below(2) as u128);
    let which = source.below(9);
    let connection = source.one_of(&ConnectionKind::ALL).id(uuid);
    let name = |text: &str| Name::parse(text).expect("a name");
    let to = match connection.kind() {
        ConnectionKind::PhoneNumber => Connection::phone_number(&format!("+1202555014{which}")),
        ConnectionKind::Channel => {
            Connection::channel("email", &format!("inbox-{which}@example.com"))
        }
        ConnectionKind::WebhookEndpoint => {
            let events = (which > 4).then(|| ["call.ended".to_owned()].into());
            Connection::webhook_endpoint(&format!("https://example.com/{which}"), events)
        }
        ConnectionKind::Integration => {
            Connection::integration(name(&format!("crm {which}")), "salesforce", name("Acme"))
        }
    };
    let to = to.expect("a connection");
    match source.below(8) {
        0..=2 => Some(ConnectionCommand::Add { connection, to }),
        3 | 4 => Some(ConnectionCommand::Change { connection, to }),
        5 => Some(ConnectionCommand::SetCredential {
            connection,
            credential: CredentialId::from_uuid(source.uuid()),
            grace_seconds: source.below(2) as u64 * 60,
        }),
        6 => Some(ConnectionCommand::RemoveCredential { connection }),
        _ => Some(ConnectionCommand::Remove { connection }),
    }
}

fn organization_member_command(
    fixture: &Fixture,
    actor: &Person,
    other: &Person,
) -> OrganizationCommand {
    let (actor, user) = (actor.user, other.user);
    match fixture.source.below(3) {
        0 => OrganizationCommand::RemoveMember { actor, user },
        _ => OrganizationCommand::SetMember {
            actor,
            user,
            role: *fixture.source.one_of(&OrganizationRole::ALL),
        },
    }
}

/// One of the rules of a workspace: roles for a time, auditors, policy, handing over, deletion.
fn rule_command(fixture: &Fixture, actor: &Person, other: &Person) -> WorkspaceCommand {
    let source = &fixture.source;
    let (actor, user) = (actor.user, other.user);
    let days = chrono::TimeDelta::days(source.below(10) as i64 - 1);
    let moment = source.now().plus(days);
    match source.below(16) {
        0..=4 => WorkspaceCommand::ChangeRoleUntil {
            actor,
            user,
            role: *source.one_of(&Role::ALL),
            until: moment,
        },
        5 | 6 => WorkspaceCommand::ReachLimit { user },
        7..=9 => WorkspaceCommand::GrantAuditor {
            actor,
            user,
            expires_at: moment,
        },
        10 => WorkspaceCommand::RevokeAuditor { actor, user },
        11 => WorkspaceCommand::ExpireAuditor { user },
        13 if source.below(2) == 0 => WorkspaceCommand::ChangeLimits {
            actor,
            limits: Quotas {
                members: Some(20 + source.below(3) as u64),
                api_keys: Some(30 + source.below(3) as u64),
                ..Quotas::UNLIMITED
            },
        },
        12 | 13 => WorkspaceCommand::ChangePolicy {
            actor,
            policy: Policy {
                approvals_needed: u8::try_from(source.below(11)).expect("ten at most"),
                self_approval: source.below(2) == 0,
                ..Policy::default()
            },
        },
        14 => WorkspaceCommand::TransferOwnership { actor, to: user },
        // Of those that were not renamed, so that some are deleted, and not all.
        _ => WorkspaceCommand::Delete {
            actor,
            confirm: "second".to_owned(),
        },
    }
}

pub(super) fn invitation_unit(
    fixture: &Fixture,
    team: Team,
    actor: &Person,
    invitation: InvitationId,
    email: &str,
    role: Role,
) -> Unit {
    let (invite, event, keep_key) = fixture.invite(actor, invitation, email, role);
    unit(team.organization, vec![team.stream()], move |desk| {
        desk.write_beside(keep_key.clone());
        desk.execute::<Workspace>(&team.stream(), invite.clone(), &[event])?;
        Ok(done())
    })
}

fn answer_unit(fixture: &Fixture, team: Team, actor: &Person, invitation: InvitationId) -> Unit {
    let hash = token_hash(invitation);
    let actor_id = actor.user;
    let answer = match fixture.source.below(6) {
        0 | 1 => WorkspaceCommand::AcceptInvitation {
            invitation,
            token_hash: hash,
            user: actor_id,
        },
        2 => WorkspaceCommand::DeclineInvitation {
            invitation,
            token_hash: hash,
        },
        3 => WorkspaceCommand::RevokeInvitation {
            actor: actor_id,
            invitation,
        },
        4 => WorkspaceCommand::ResendInvitation {
            actor: actor_id,
            invitation,
            token_hash: hash,
            expires_at: fixture.source.now().plus(chrono::TimeDelta::days(1)),
        },
        _ => WorkspaceCommand::ExpireInvitation { invitation },
    };
    command::<Workspace>(team.stream(), answer)
}

fn session_unit(fixture: &Fixture, world: &mut World, actor: &Person) -> Unit {
    let asked = match fixture.source.below(4) {
        0 if !world.sessions.is_empty() => {
            let (person, session) = fixture.source.one_of(&world.sessions).clone();
            return command::<User>(person.stream(), UserCommand::RevokeSession { session });
        }
        1 if fixture.source.below(2) == 0 => UserCommand::ChangePassword {
            session: actor.session,
        },
        1 => UserCommand::RecordSignInFailed {
            minute: fixture.source.now().minute(),
            count: 2,
        },
        _ => {
            let session = SessionId::from_uuid(fixture.source.uuid());
            world.sessions.push((actor.clone(), session));
            let days = chrono::TimeDelta::days(fixture.source.below(5) as i64);
            UserCommand::StartSession {
                session,
                expires_at: fixture.source.now().plus(days),
            }
        }
    };
    command::<User>(actor.stream(), asked)
}

/// A change of name, and the organization told of it.
pub(super) async fn profile_changes(fixture: &Fixture, person: &Person, team: Team) {
    let event = fixture.event_id();
    let account = KeyOwner::Subject(person.account);
    let renamed = UserCommand::Rename {
        name: fixture.seal(account, event, "name", "Ada King").await,
        previous: fixture.seal(account, event, "previous", "ada").await,
        profile_sequence: 1,
    };
    let stream = person.stream();
    let rename = unit(person.user, vec![stream.clone()], move |desk| {
        desk.execute::<User>(&stream, renamed.clone(), &[event])?;
        Ok(done())
    });
    fixture.commit(rename).await;
    let event = fixture.event_id();
    let sequence = last_profile(fixture, person).await;
    let record = OrganizationCommand::RecordPerson {
        user: person.user,
        profile_sequence: sequence,
        email: fixture.seal(account, event, "email", &person.email).await,
        name: fixture.seal(account, event, "name", "Ada King").await,
    };
    share(fixture, person, team, event, record, sequence).await;
}

async fn last_profile(fixture: &Fixture, person: &Person) -> u64 {
    let state: User = fixture.in_memory(&person.stream()).await;
    state.profile_to_share().expect("a change of the profile")
}

async fn share(
    fixture: &Fixture,
    person: &Person,
    team: Team,
    event: EventId,
    record: OrganizationCommand,
    profile_sequence: u64,
) {
    let of = organization_stream(team.organization);
    let told = unit(team.organization, vec![of.clone()], move |desk| {
        desk.execute::<Organization>(&of, record.clone(), &[event])?;
        Ok(done())
    });
    fixture.commit(told).await;
    let shared = UserCommand::ShareProfile {
        profile_sequence,
        organizations: vec![team.organization],
    };
    fixture
        .commit(command::<User>(person.stream(), shared))
        .await;
}
