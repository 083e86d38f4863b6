//! Who had access, against an oracle that reads nothing but the rows of the log, and knows none of
//! the program's types.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use crewlog::domain::Timestamp;
use crewlog::domain::api_keys::{KeyChange, KeyScope};
use crewlog::domain::authority::{OrganizationRole, Role};
use crewlog::domain::environment::Environment;
use crewlog::domain::ids::{KeyId, PrincipalId};
use crewlog::domain::workspace::{Policy, ProductionChanges};
use crewlog::journal::Source;
use crewlog::journal::stores::{Statement, Store};
use crewlog::service::{
    AccessQuestion, AccessView, AsOf, Caller, NewKey, Request, ServiceError, ServiceSettings,
};
use serde_json::{Value, json};

use super::Running;
use super::routes::problem;
use super::team::{Team, number, text};
use super::time::{Clocked, Owned, name, request};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "who_had_access_is_what_the_log_says", oracle),
        both("edge", "access_is_told_and_compared", told),
        both(
            "edge",
            "what_is_kept_of_access_only_saves_time",
            only_saves_time,
        ),
    ]
}

/// Access as the rows of the log have it.
#[derive(Debug, Clone, PartialEq, Default)]
struct Naive {
    role: Option<String>,
    scopes: Option<Value>,
    environments: BTreeSet<String>,
    since: i64,
    by: Option<String>,
    position: u64,
    until: Option<i64>,
    afterwards: Option<String>,
    edits_production: bool,
    breaks_glass: bool,
}

type Accesses = BTreeMap<(String, String), Naive>;

/// One row of the log.
struct Row {
    position: u64,
    recorded_at: i64,
    name: String,
    body: Value,
    actor: Option<String>,
}

async fn rows(store: &dyn Store, owner: &Owned) -> Vec<Row> {
    let sql = "SELECT position, recorded_at, event_type, CAST(payload AS TEXT),
                      CAST(metadata AS TEXT)
                 FROM events
                WHERE aggregate_type IN ('workspace', 'organization')
                  AND aggregate_id IN ($1, $2)
                ORDER BY position";
    let ids = vec![
        owner.workspace.to_string().into(),
        owner.organization.to_string().into(),
    ];
    let found = store.query(sql, ids).await.expect("the log");
    let row = |row: &crewlog::journal::stores::Row| {
        let json = |column| -> Value {
            serde_json::from_str(row.text(column).expect("text")).expect("JSON")
        };
        let name = row.text(2).expect("a name").to_owned();
        Row {
            position: row.count(0).expect("a position"),
            recorded_at: row.integer(1).expect("a time"),
            body: json(3)[&name].clone(),
            actor: json(4)["actor"]["id"].as_str().map(str::to_owned),
            name,
        }
    };
    found.iter().map(row).collect()
}

/// Who had access at `now`, of the rows up to `position`.
fn naive(rows: &[Row], position: u64, now: i64) -> Accesses {
    let mut held: BTreeMap<(String, String), Naive> = BTreeMap::new();
    let mut direct = false;
    // Before it was made, nobody had access to it.
    let is_made = |row: &Row| row.position <= position && row.name == "workspace_created";
    if !rows.iter().any(is_made) {
        return BTreeMap::new();
    }
    for row in rows.iter().filter(|row| row.position <= position) {
        let body = &row.body;
        let id = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let key = |through: &str, field: &str| (through.to_owned(), id(field));
        let given = |role: Option<String>, by: Option<String>| Naive {
            role,
            since: row.recorded_at,
            by,
            position: row.position,
            ..Naive::default()
        };
        match row.name.as_str() {
            "member_joined" => {
                let inviter = body["source"]["invitation"]["invited_by"].as_str();
                let by = inviter.map_or_else(|| id("user"), str::to_owned);
                held.insert(key("membership", "user"), given(Some(id("role")), Some(by)));
            }
            "member_role_changed" => {
                let by = Some(id("changed_by"));
                held.insert(key("membership", "user"), given(Some(id("to")), by));
            }
            "membership_limited" => {
                let member = held.get_mut(&key("membership", "user")).expect("a member");
                member.until = body["until"].as_i64();
                member.afterwards = body["afterwards"].as_str().map(str::to_owned);
                // What it falls back to was decided here.
                let fallback = json!([row.position, id("limited_by")]);
                member.scopes = Some(fallback);
            }
            "membership_limit_lifted" => {
                let member = held.get_mut(&key("membership", "user")).expect("a member");
                (member.until, member.afterwards, member.scopes) = (None, None, None);
            }
            "membership_limit_reached" => {
                let at = key("membership", "user");
                let member = held.remove(&at).expect("a member");
                held.extend(fallen_back(&member).map(|member| (at, member)));
            }
            "member_removed" | "member_left" => {
                held.remove(&key("membership", "user"));
            }
            "auditor_granted" => {
                let mut grant = given(Some("auditor".to_owned()), Some(id("granted_by")));
                grant.until = body["expires_at"].as_i64();
                held.insert(key("auditor_grant", "user"), grant);
            }
            "auditor_revoked" | "auditor_expired" => {
                held.remove(&key("auditor_grant", "user"));
            }
            "organization_member_added" | "organization_member_role_changed" => {
                let role = body["role"].as_str().or(body["to"].as_str());
                let role = role.map(str::to_owned);
                held.insert(
                    key("organization_role", "user"),
                    given(role, row.actor.clone()),
                );
            }
            "organization_member_removed" => {
                held.remove(&key("organization_role", "user"));
            }
            "api_key_created" | "organization_key_created" => {
                let through = row.name.trim_end_matches("_created");
                let mut made = given(None, Some(id("created_by")));
                made.scopes = Some(body["terms"]["scopes"].clone());
                made.until = body["terms"]["expires_at"].as_i64();
                made.environments = body["environment"]
                    .as_str()
                    .map(str::to_owned)
                    .into_iter()
                    .collect();
                held.insert(key(through, "key"), made);
            }
            "api_key_updated" | "organization_key_updated" => {
                let at = key(row.name.trim_end_matches("_updated"), "key");
                let environments = held[&at].environments.clone();
                let mut made = given(None, Some(id("updated_by")));
                made.scopes = Some(body["to"]["scopes"].clone());
                made.until = body["to"]["expires_at"].as_i64();
                made.environments = environments;
                held.insert(at, made);
            }
            "api_key_rotated" | "organization_key_rotated" => {
                let at = key(row.name.trim_end_matches("_rotated"), "key");
                held.get_mut(&at).expect("a key").until = body["expires_at"].as_i64();
            }
            "api_key_revoked" | "api_key_expired" => {
                held.remove(&key("api_key", "key"));
            }
            "organization_key_revoked" | "organization_key_expired" => {
                held.remove(&key("organization_key", "key"));
            }
            "policy_changed" => direct = body["to"]["production_changes"] == "direct",
            _ => {}
        }
    }
    let counts = |(at, access): ((String, String), Naive)| {
        let access = match access.until {
            Some(until) if until <= now && at.0 == "membership" => fallen_back(&access)?,
            Some(until) if until <= now => return None,
            Some(_) | None => access,
        };
        Some((at.clone(), settled(&at.0, access, direct)?))
    };
    held.into_iter().filter_map(counts).collect()
}

/// What is left when the end of a role has come.
fn fallen_back(member: &Naive) -> Option<Naive> {
    let fallback = member.scopes.as_ref().expect("what decided the end");
    Some(Naive {
        role: Some(member.afterwards.clone()?),
        since: member.until?,
        by: fallback[1].as_str().map(str::to_owned),
        position: fallback[0].as_u64().expect("a position"),
        ..Naive::default()
    })
}

/// With what follows from the role or the scopes.
fn settled(through: &str, mut access: Naive, direct: bool) -> Option<Naive> {
    let role = access.role.clone().unwrap_or_default();
    let scopes = match through {
        "api_key" | "organization_key" => access.scopes.clone(),
        _ => None,
    };
    let has = |scope: &str| {
        let all = scopes.as_ref().and_then(Value::as_array);
        all.is_some_and(|all| all.contains(&json!(scope)))
    };
    match through {
        "membership" => {
            access.environments = ["development", "staging", "production"]
                .map(str::to_owned)
                .into();
            access.edits_production = direct && role != "viewer";
            access.breaks_glass = !direct && ["owner", "admin"].contains(&role.as_str());
        }
        "organization_role" if role == "billing" => return None,
        "organization_key" if !has("audit:read") && !has("workspaces:read") => return None,
        "api_key" => {
            let production = access.environments.contains("production");
            access.edits_production = production && direct && has("crews:write");
        }
        _ => {}
    }
    access.scopes = scopes;
    Some(access)
}

fn told_as(views: Vec<AccessView>) -> Accesses {
    let naive = |view: AccessView| {
        let held = view.access.held;
        let at = (held.through.name().to_owned(), held.principal.to_string());
        let production = held.reach.get(&Environment::Production);
        let may = |name: &str| {
            production.is_some_and(|may| may.iter().any(|permission| permission.name() == name))
        };
        let access = Naive {
            role: held.through.role().map(str::to_owned),
            scopes: held.scopes.map(|scopes| json!(scopes)),
            environments: held
                .reach
                .keys()
                .map(|reached| reached.name().to_owned())
                .collect(),
            since: view.since.0,
            by: view.access.grant.by.map(|by| by.to_string()),
            position: view.access.grant.position,
            until: held.until.map(|until| until.0),
            afterwards: held.afterwards.map(|role| role.name().to_owned()),
            edits_production: may("crew.edit"),
            breaks_glass: may("production.break_glass"),
        };
        (at, access)
    };
    views.into_iter().map(naive).collect()
}

/// A team that changes at random, what is refused included.
struct Changing<'a> {
    clocked: &'a Clocked,
    owner: &'a Owned,
    people: Vec<Caller>,
    keys: Vec<KeyId>,
    organization_keys: Vec<KeyId>,
}

impl Changing<'_> {
    fn new_key(&self, scopes: &[KeyScope]) -> NewKey {
        let source = &self.clocked.source;
        let end = i64::try_from(source.below(5_000)).expect("a span");
        NewKey {
            name: name(&format!("key {}", number())),
            scopes: scopes
                .iter()
                .copied()
                .filter(|_| source.below(2) == 0)
                .collect(),
            crews: None,
            allowed_cidrs: vec![],
            expires_at: (source.below(2) == 0).then(|| self.clocked.in_seconds(60 + end)),
        }
    }

    async fn step(&mut self) {
        let (source, service) = (&self.clocked.source, &self.clocked.service);
        let (owner, request) = (&self.owner.caller, request());
        let (workspace, organization) = (self.owner.workspace, self.owner.organization);
        let person = source.one_of(&self.people).user;
        let role = *source.one_of(&Role::ALL);
        let until = (source.below(2) == 0).then(|| {
            self.clocked
                .in_seconds(i64::try_from(30 + source.below(3_000)).expect("a span"))
        });
        match source.below(13) {
            0 => self.people.push(self.clocked.member(self.owner).await),
            1..=3 => drop(
                service
                    .change_role(&request, owner, workspace, person, role, until)
                    .await,
            ),
            4 => drop(
                service
                    .remove_member(&request, owner, workspace, person)
                    .await,
            ),
            5 => {
                let (caller, _) = self.clocked.signed_up(None).await;
                let email = service
                    .me_of(&Request::default(), &caller)
                    .await
                    .expect("somebody")
                    .value
                    .email;
                let email = crewlog::domain::EmailAddress::parse(&email.into_text()).expect("one");
                let end = self.clocked.in_seconds(600);
                let grant = service.grant_auditor(&request, owner, workspace, &email, end);
                grant.await.expect("a grant");
                self.people.push(caller);
            }
            6 => drop(
                service
                    .revoke_auditor(&request, owner, workspace, person)
                    .await,
            ),
            7 => {
                let environment = *source.one_of(&Environment::ALL);
                let new = self.new_key(&KeyScope::OF_WORKSPACE);
                let made = service.create_api_key(&request, owner, workspace, environment, new);
                self.keys
                    .extend(made.await.ok().map(|made| made.value.key.id));
                let new = self.new_key(&KeyScope::OF_ORGANIZATION);
                let made = service.create_organization_key(&request, owner, organization, new);
                self.organization_keys
                    .extend(made.await.ok().map(|made| made.value.key.id));
            }
            8 if !self.keys.is_empty() => {
                let key = *source.one_of(&self.keys);
                let scopes = KeyScope::OF_WORKSPACE
                    .into_iter()
                    .filter(|_| source.below(2) == 0);
                let change = KeyChange {
                    scopes: Some(scopes.collect()),
                    ..KeyChange::default()
                };
                drop(
                    service
                        .update_api_key(&request, owner, workspace, key, change)
                        .await,
                );
            }
            9 if !self.keys.is_empty() => {
                let key = *source.one_of(&self.keys);
                let made = service
                    .rotate_api_key(&request, owner, workspace, key, 300)
                    .await;
                self.keys.extend(made.ok().map(|made| made.value.key.id));
            }
            10 if !self.keys.is_empty() => {
                let key = *source.one_of(&self.keys);
                drop(
                    service
                        .revoke_api_key(&request, owner, workspace, key)
                        .await,
                );
                let key = *source.one_of(&self.organization_keys);
                if source.below(2) == 0 {
                    let revoke =
                        service.revoke_organization_key(&request, owner, organization, key);
                    drop(revoke.await);
                }
            }
            11 => {
                let production_changes = match source.below(2) {
                    0 => ProductionChanges::Direct,
                    _ => ProductionChanges::PromotionOnly,
                };
                let policy = Policy {
                    production_changes,
                    ..Policy::default()
                };
                let change = service
                    .change_policy(&request, owner, workspace, policy)
                    .await;
                change.expect("a policy");
            }
            _ => {
                let role = *source.one_of(&OrganizationRole::ALL);
                let set =
                    service.set_organization_member(&request, owner, organization, person, role);
                drop(set.await);
            }
        }
        source.pass(Duration::from_secs(source.below(400) as u64));
        if source.below(3) == 0 {
            service.do_what_is_due().await.expect("due work");
        }
    }
}

/// A service that keeps access every few events of a stream.
async fn keeping(store: StoreUnderTest) -> Clocked {
    let settings = ServiceSettings {
        access_snapshot_events: NonZeroU64::new(5).expect("some"),
        ..ServiceSettings::default()
    };
    Clocked::with(store, settings).await
}

/// A team after so many random steps.
async fn changed(clocked: &Clocked, steps: usize) -> Owned {
    let owner = clocked.owner().await;
    let first = clocked.member(&owner).await;
    let mut changing = Changing {
        clocked,
        owner: &owner,
        people: vec![first],
        keys: vec![],
        organization_keys: vec![],
    };
    for _ in 0..steps {
        changing.step().await;
    }
    owner
}

async fn oracle(store: StoreUnderTest) {
    let clocked = keeping(store).await;
    let owner = changed(&clocked, 120).await;
    let rows = rows(&*clocked.rows, &owner).await;
    let head = clocked.service.position();
    let last = rows.last().expect("rows").recorded_at;
    let request = request();
    let ask = async |as_of, environment| {
        let question = AccessQuestion {
            environment,
            principal: None,
            as_of,
        };
        let asked = clocked
            .service
            .access(&request, &owner.caller, owner.workspace, question);
        asked.await.expect("a report").value
    };
    let (mut most, mut ended) = (0, 0);
    let mut compared = BTreeSet::new();
    for _ in 0..90 {
        let position = 1 + clocked.source.below(usize::try_from(head).expect("few")) as u64;
        let report = ask(Some(AsOf::Position(position)), None).await;
        let expected = naive(&rows, position, report.at.0);
        assert_eq!(told_as(report.principals), expected, "at {position}");
        most = most.max(expected.len());
        compared.extend(expected.keys().map(|(through, _)| through.clone()));

        let after = clocked
            .source
            .below(usize::try_from(last - rows[0].recorded_at).expect("a span"));
        let time = Timestamp(rows[0].recorded_at + i64::try_from(after).expect("a span"));
        let report = ask(Some(AsOf::Time(time)), Some(Environment::Production)).await;
        let mut expected = naive(&rows, report.position, time.0);
        ended += naive(&rows, report.position, 0).len() - expected.len();
        expected.retain(|_, access| access.environments.contains("production"));
        expected.values_mut().for_each(|access| {
            access.environments = BTreeSet::from(["production".to_owned()]);
        });
        assert_eq!(told_as(report.principals), expected, "at {time:?}");
    }
    assert!(most > 12, "at most {most} had access at once");
    assert!(ended > 10, "{ended} had ended by time alone");
    assert_eq!(compared.len(), 5, "{compared:?}");
    let now = ask(None, None).await;
    let expected = naive(&rows, now.position, now.at.0);
    assert_eq!(told_as(now.principals), expected, "now");
    differences(&clocked, &owner, &rows, head).await;
    clocked.holds().await;
}

/// What differs between two positions is what their reports differ in.
async fn differences(clocked: &Clocked, owner: &Owned, rows: &[Row], head: u64) {
    let below = |bound: u64| clocked.source.below(usize::try_from(bound).expect("few")) as u64;
    for _ in 0..20 {
        let from = 1 + below(head - 1);
        let to = from + 1 + below(head - from);
        let question = AccessQuestion {
            as_of: Some(AsOf::Position(to)),
            ..AccessQuestion::default()
        };
        let from = Some(AsOf::Position(from));
        let (request, workspace) = (request(), owner.workspace);
        let asked =
            clocked
                .service
                .access_difference(&request, &owner.caller, workspace, from, question);
        let told = asked.await.expect("a difference").value;
        let before = naive(rows, told.from.position, told.from.at.0);
        let after = naive(rows, told.to.position, told.to.at.0);
        let only = |these: &Accesses, those: &Accesses| -> Accesses {
            let kept = these.iter().filter(|(at, _)| !those.contains_key(*at));
            kept.map(|(at, access)| (at.clone(), access.clone()))
                .collect()
        };
        assert_eq!(told_as(told.added), only(&after, &before));
        assert_eq!(told_as(told.removed), only(&before, &after));
        let said = |access: &Naive| Naive {
            since: 0,
            by: None,
            position: 0,
            ..access.clone()
        };
        let (were, are): (Vec<_>, Vec<_>) = told.changed.into_iter().unzip();
        let (were, are) = (told_as(were), told_as(are));
        for (at, access) in &before {
            let Some(now) = after.get(at) else { continue };
            // Names of keys stay here, so that all that can change is compared.
            let differs = said(access) != said(now);
            assert_eq!(were.get(at), differs.then_some(access), "{at:?}");
            assert_eq!(are.get(at), differs.then_some(now), "{at:?}");
        }
    }
    let request = request();
    let ahead = AccessQuestion {
        as_of: Some(AsOf::Position(clocked.service.position() + 100)),
        ..AccessQuestion::default()
    };
    let asked = clocked
        .service
        .access(&request, &owner.caller, owner.workspace, ahead);
    let refused = asked.await.expect_err("what has not come");
    assert!(
        matches!(
            refused,
            ServiceError::InvalidParameter { name: "as_of", .. }
        ),
        "{refused}"
    );
    let one = AccessQuestion {
        principal: Some(PrincipalId::User(owner.caller.user)),
        ..AccessQuestion::default()
    };
    let asked = clocked
        .service
        .access(&request, &owner.caller, owner.workspace, one);
    let of_owner = asked.await.expect("a report").value.principals;
    let through: Vec<_> = of_owner
        .iter()
        .map(|view| view.access.held.through.name())
        .collect();
    assert_eq!(through, ["membership", "organization_role"]);
    assert!(of_owner.iter().all(|view| view.last_used_at.is_some()));
    assert!(clocked.source.now() > Timestamp(0));
}

/// Whoever changes what is kept of access, as far as they can write to the store, changes no report.
async fn only_saves_time(store: StoreUnderTest) {
    let clocked = keeping(store).await;
    let owner = changed(&clocked, 60).await;
    let (head, request) = (clocked.service.position(), request());
    // Of more moments than are remembered.
    let asked: Vec<u64> = (1..=16).map(|part| head * part / 16).collect();
    let reports = async || {
        let mut reports = Vec::new();
        for position in &asked {
            let question = AccessQuestion {
                as_of: Some(AsOf::Position(*position)),
                ..AccessQuestion::default()
            };
            let report = (clocked.service)
                .access(&request, &owner.caller, owner.workspace, question)
                .await;
            reports.push(report.expect("a report").value.principals);
        }
        reports
    };
    let rows = async |of: &str| {
        let sql = format!("SELECT count(*) FROM access_snapshots WHERE {of}");
        let counted = clocked.rows.query(&sql, vec![]).await.expect("a count");
        counted[0].count(0).expect("a count")
    };
    let change = async |sql: &'static str| {
        let changed = clocked.rows.execute(vec![Statement::new(sql, [])]).await;
        changed.expect("a change")[0]
    };
    let told = reports().await;
    let kept = rows("fold_version > 0").await;
    assert!(kept > 10, "{kept} snapshots");
    for changing in [
        "UPDATE access_snapshots SET payload = replace(payload, 'owner', 'viewer')",
        "UPDATE access_snapshots SET payload = '{'",
        "UPDATE access_snapshots SET sequence = sequence + 1",
        "UPDATE access_snapshots SET position = position - 1",
        "UPDATE access_snapshots SET fold_version = fold_version - 1",
        "DELETE FROM access_snapshots WHERE sequence > 20",
    ] {
        assert!(change(changing).await > 0, "{changing}");
        assert_eq!(reports().await, told, "{changing}");
        let signed = "payload LIKE '%owner%' AND sequence % 5 = 0";
        assert!(rows(signed).await >= kept, "made again: {changing}");
    }
    let old = "fold_version < (SELECT max(fold_version) FROM access_snapshots)";
    assert_eq!(rows(old).await, 0, "what an older fold has left");
    clocked.holds().await;
}

/// The shape over HTTP, the entry that a report is, and who may not.
async fn told(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/access");
    let made = server
        .post(&team.path("/api-keys"))
        .bearer(&team.owner.token)
        .json(json!({
            "name": "Deployer", "environment": "production", "scopes": ["crews:read"],
            "reason": "For the pipeline",
        }))
        .await
        .expect(201);
    let (key, secret) = (text(&made.body, "/id"), text(&made.body, "/secret"));
    let used = server.get(&team.path("")).bearer(&secret).await;
    used.expect(200);
    let report = server
        .get(&format!("{path}?environment=production&principal={key}"))
        .bearer(&team.auditor.token)
        .await
        .expect(200);
    let one = &report.body["principals"][0];
    let granted = one["granted_at_position"].as_u64().expect("a position");
    let expected = json!({
        "type": "api_key", "id": key, "name": "Deployer", "through": "api_key",
        "scopes": ["crews:read"], "environments": ["production"],
        "may": {"production": ["crew.read"]}, "since": one["since"],
        "granted_by": team.owner.user, "granted_by_name": team.owner.name,
        "granted_at_position": granted, "reason": "For the pipeline", "until": null,
        "afterwards": null, "last_used_at": one["last_used_at"],
    });
    assert_eq!(report.body["principals"], json!([expected]));
    assert!(one["last_used_at"].is_string(), "{one}");
    let entry = server
        .get(&team.path("/audit?action=access.reported"))
        .bearer(&team.owner.token)
        .await
        .expect(200);
    let entry = &entry.body["data"][0];
    assert_eq!(entry["actor"]["id"], team.auditor.user.as_str());
    assert_eq!(entry["target"]["id"], team.workspace.as_str());
    assert_eq!(entry["environment"], "production");
    assert_eq!(entry["outcome"], "ok");
    let changes = json!([
        {"path": "principal", "from": null, "to": key},
        {"path": "position", "from": null, "to": report.body["position"]},
    ]);
    assert_eq!(entry["changes"], changes);

    let before = granted - 1;
    let difference = server
        .get(&format!("{path}/diff?from={before}&to={granted}"))
        .bearer(&team.admin.token)
        .await
        .expect(200);
    assert_eq!(difference.body["added"][0]["id"], key.as_str());
    for list in ["removed", "changed"] {
        assert_eq!(difference.body[list], json!([]), "{difference:?}");
    }
    for query in [
        "as_of=tomorrow",
        "as_of=99999999",
        "principal=ws_1",
        "environment=prod",
    ] {
        let reply = server
            .get(&format!("{path}?{query}"))
            .bearer(&team.owner.token);
        problem(&reply.await, 400, "invalid_request");
    }
    let refused = server.get(&path).bearer(&team.member.token).await;
    problem(&refused, 403, "not_permitted");
    let refused = server.get(&path).bearer(&secret).await;
    problem(&refused, 403, "scope_missing");
    super::held(&store);
}
