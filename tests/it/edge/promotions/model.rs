//! Promotions against a model: random edits, proposals, approvals, applies and rollbacks, by several
//! people on several crews.
//!
//! The model knows of each crew only its bundle as text and how often it changed, and of each
//! promotion the bundle that was reviewed. It foretells every answer: what the server does more or
//! less than that is a failure, with the seed that led there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Running, Shop};
use crate::edge::team::{Person, Team, text};
use crate::support::server::Reply;
use crate::support::trials::StoreUnderTest;

const STEPS: usize = 200;

struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).expect("a small number")
    }
}

struct Crew {
    id: String,
    bundle: String,
    /// Raised by every change of its contents.
    version: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Open,
    Applied,
    Over,
}

struct Promotion {
    id: String,
    source: usize,
    target: usize,
    /// The bundle that was reviewed.
    bundle: String,
    made_for: u64,
    proposers: BTreeSet<usize>,
    approvals: BTreeSet<usize>,
    status: Status,
    /// What the target was before it was applied, and its version since.
    before: Option<(String, u64)>,
}

struct World<'a> {
    shop: Shop<'a>,
    people: [&'a Person; 3],
    crews: Vec<Crew>,
    promotions: Vec<Promotion>,
    needed: usize,
    chance: Chance,
    seen: BTreeSet<&'static str>,
}

fn code(reply: &Reply) -> &str {
    match reply.status {
        200..300 => "done",
        _ => reply.body["code"].as_str().unwrap_or("?"),
    }
}

pub async fn agrees(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let third = team.joined(&server, "admin").await;
    let seed = std::env::var("CREWLOG_TEST_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("CREWLOG_TEST_SEED={seed}");
    let shop = Shop {
        server: &server,
        team: &team,
    };
    // Whatever environment a crew is of, it may be edited: what promotes is under test.
    shop.policy(json!({"production_changes": "direct"})).await;
    let mut crews = Vec::new();
    for environment in ["staging", "production", "production"] {
        let id = team.crew(&server, environment).await;
        let bundle = shop.export(&id).await.text;
        crews.push(Crew {
            id,
            bundle,
            version: 0,
        });
    }
    let mut world = World {
        shop,
        people: [&team.owner, &team.admin, &third],
        crews,
        promotions: Vec::new(),
        needed: 1,
        chance: Chance(seed),
        seen: BTreeSet::new(),
    };
    for _ in 0..STEPS {
        world.step().await;
    }
    for one in [
        "edited",
        "proposed",
        "approved",
        "applied",
        "rolled back",
        "stale",
        "refused",
    ] {
        assert!(world.seen.contains(one), "{one} of {:?}", world.seen);
    }
    super::super::held(&store);
}

impl World<'_> {
    async fn step(&mut self) {
        match self.chance.below(16) {
            0..=2 => self.edit().await,
            3 | 4 => self.propose().await,
            5..=8 => self.approve().await,
            9..=12 => self.apply().await,
            13 | 14 => self.roll_back().await,
            _ => self.refresh().await,
        }
    }

    fn anybody(&mut self) -> usize {
        self.chance.below(self.people.len())
    }

    fn any_promotion(&mut self) -> Option<usize> {
        // Mostly the newest, so that some get far before their targets move.
        let newest = match self.chance.below(3) {
            0 => self.promotions.len().min(5),
            _ => self.promotions.len().min(1),
        };
        (newest > 0).then(|| self.promotions.len() - 1 - self.chance.below(newest))
    }

    /// Reads a crew as it is now, which must be what the model thinks unless it was just edited.
    async fn read(&self, crew: usize) -> String {
        self.shop.export(&self.crews[crew].id).await.text
    }

    async fn edit(&mut self) {
        // Mostly in the one that the others are promoted from.
        let crew = self.chance.below(6).saturating_sub(3);
        let name = format!("Agent {}", self.chance.below(4));
        let id = self.crews[crew].id.clone();
        let path = self.shop.team.path(&format!("/crews/{id}/agents"));
        let server = self.shop.server;
        let token = &self.people[0].token;
        let list = server.get(&path).bearer(token).await.expect(200).body;
        let items = list["data"].as_array().cloned().unwrap_or_default();
        let known = items.iter().find(|item| item["name"] == name.as_str());
        let steps: Vec<Value> = (0..self.chance.below(4))
            .map(|at| json!({"id": format!("s{at}"), "text": self.chance.below(5)}))
            .collect();
        let body = json!({"name": name, "config": {"steps": steps}});
        match known {
            None => drop(
                server
                    .post(&path)
                    .bearer(token)
                    .json(body)
                    .await
                    .expect(201),
            ),
            Some(item) => {
                let one = format!("{path}/{}", text(item, "/id"));
                match self.chance.below(4) {
                    0 => drop(server.delete(&one).bearer(token).await.expect(204)),
                    _ => drop(server.put(&one).bearer(token).json(body).await.expect(200)),
                }
            }
        }
        let now = self.read(crew).await;
        if now != self.crews[crew].bundle {
            self.crews[crew].bundle = now;
            self.crews[crew].version += 1;
            self.seen.insert("edited");
        }
    }

    async fn propose(&mut self) {
        let source = self.chance.below(6).saturating_sub(3);
        let target = self.chance.below(3);
        let by = self.anybody();
        let [from, to] = [source, target].map(|crew| self.crews[crew].id.clone());
        let reply = self.shop.propose(self.people[by], &from, &to).await;
        let is_same = self.crews[source].bundle == self.crews[target].bundle;
        let expected = match source == target {
            true => "invalid_body",
            false if is_same => "nothing_to_promote",
            false => "done",
        };
        assert_eq!(code(&reply), expected, "{}", reply.text);
        if expected != "done" {
            return;
        }
        self.seen.insert("proposed");
        self.promotions.push(Promotion {
            id: text(&reply.body, "/id"),
            source,
            target,
            bundle: self.crews[source].bundle.clone(),
            made_for: self.crews[target].version,
            proposers: [by].into(),
            approvals: BTreeSet::new(),
            status: Status::Open,
            before: None,
        });
    }

    async fn approve(&mut self) {
        let Some(at) = self.any_promotion() else {
            return;
        };
        let by = self.anybody();
        let promotion = &self.promotions[at];
        let expected = match promotion.status {
            Status::Applied | Status::Over => "promotion_not_open",
            Status::Open if promotion.made_for != self.crews[promotion.target].version => {
                self.seen.insert("stale");
                "crew_moved"
            }
            Status::Open if promotion.proposers.contains(&by) => "own_proposal",
            Status::Open => "done",
        };
        let reply = self
            .shop
            .act(self.people[by], &promotion.id, "approve")
            .await;
        assert_eq!(code(&reply), expected, "{}", reply.text);
        if expected == "done" {
            self.promotions[at].approvals.insert(by);
            self.seen.insert("approved");
        }
    }

    async fn apply(&mut self) {
        let Some(at) = self.any_promotion() else {
            return;
        };
        let by = self.anybody();
        let promotion = &self.promotions[at];
        let (target, id) = (promotion.target, promotion.id.clone());
        let expected = match promotion.status {
            Status::Applied | Status::Over => "promotion_not_open",
            Status::Open if promotion.made_for != self.crews[target].version => "crew_moved",
            Status::Open if promotion.approvals.len() < self.needed => "approvals_missing",
            Status::Open => "done",
        };
        let reply = self.shop.act(self.people[by], &id, "apply").await;
        assert_eq!(code(&reply), expected, "{}", reply.text);
        let there = self.read(target).await;
        if expected != "done" {
            self.seen.insert("refused");
            assert_eq!(
                there, self.crews[target].bundle,
                "a refused one changes nothing"
            );
            return;
        }
        self.seen.insert("applied");
        let promotion = &mut self.promotions[at];
        assert_eq!(there, promotion.bundle, "what was reviewed is there");
        let crew = &mut self.crews[target];
        let before = std::mem::replace(&mut crew.bundle, there);
        crew.version += 1;
        promotion.before = Some((before, crew.version));
        promotion.status = Status::Applied;
    }

    async fn roll_back(&mut self) {
        let applied = |promotion: &Promotion| promotion.status == Status::Applied;
        let applied = self.promotions.iter().rposition(applied);
        // Mostly one that can be.
        let any = self.any_promotion();
        let Some(at) = applied.filter(|_| self.chance.below(4) > 0).or(any) else {
            return;
        };
        let (by, force) = (self.anybody(), self.chance.below(2) == 0);
        let promotion = &self.promotions[at];
        let (target, id) = (promotion.target, promotion.id.clone());
        let version = self.crews[target].version;
        let expected = match &promotion.before {
            Some((_, since)) if promotion.status == Status::Applied => match *since == version {
                false if !force => "changed_since",
                _ => "done",
            },
            _ => "promotion_not_applied",
        };
        let body = json!({"force": force, "reason": "back"});
        let reply = self
            .shop
            .act_with(self.people[by], &id, "rollback", body)
            .await;
        assert_eq!(code(&reply), expected, "{}", reply.text);
        if expected != "done" {
            return;
        }
        self.seen.insert("rolled back");
        let there = self.read(target).await;
        let promotion = &mut self.promotions[at];
        let (before, _) = promotion.before.take().expect("what it was");
        assert_eq!(there, before, "it is what it was, byte for byte");
        promotion.status = Status::Over;
        self.crews[target].bundle = there;
        self.crews[target].version += 1;
    }

    async fn refresh(&mut self) {
        let Some(at) = self.any_promotion() else {
            return;
        };
        let by = self.anybody();
        let promotion = &self.promotions[at];
        let (source, target) = (promotion.source, promotion.target);
        let is_same = self.crews[source].bundle == self.crews[target].bundle;
        let expected = match promotion.status {
            // Whether there is anything to promote is looked at first.
            _ if is_same => "nothing_to_promote",
            Status::Applied | Status::Over => "promotion_not_open",
            Status::Open => "done",
        };
        let reply = self
            .shop
            .act(self.people[by], &promotion.id, "refresh")
            .await;
        assert_eq!(code(&reply), expected, "{}", reply.text);
        if expected == "done" {
            let promotion = &mut self.promotions[at];
            promotion.bundle = self.crews[source].bundle.clone();
            promotion.made_for = self.crews[target].version;
            promotion.approvals.clear();
            promotion.proposers.insert(by);
        }
    }
}
