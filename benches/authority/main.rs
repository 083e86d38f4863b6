//! What authority costs a command: renames that stand on a session and a role, both looked at on
//! the newest state inside the append and named in the entry, beside the same renames that stand
//! on nothing, through the same journal.
//!
//! `cargo bench --bench authority`; the sides take turns, each has a store of its own. What the
//! aggregate itself looks at, the role of who renames, is in both.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "a benchmark uses only a part of it")]
mod support;

use std::sync::Arc;

use crewlog::{
    domain::workspace::{Workspace, WorkspaceCommand},
    journal::{JournalSettings, Unit},
};
use harness::{Place, calls, median, setting};
use support::{
    journal::{Fixture, Person, Team, command, name, rename},
    postgres::{Cluster, Durability},
};

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const WORKSPACES: usize = 512;
const CALLERS: [usize; 3] = [1, 32, 256];

/// A rename by its workspace, its owner and its number.
type Rename = fn(Team, &Person, usize) -> Unit;

/// Renames of one kind, on a store of their own.
struct Side {
    fixture: Arc<Fixture>,
    owner: Person,
    teams: Arc<[Team]>,
    rename: Rename,
    count: usize,
    place: Place,
}

fn main() {
    let _session = support::Session::begin();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let cluster = Cluster::start(Durability::Safe).expect("PostgreSQL is needed to compare");
    runtime.block_on(run(&cluster));
}

fn on_authority(team: Team, owner: &Person, number: usize) -> Unit {
    rename(team, owner, &format!("Workspace {number}"))
}

fn on_nothing(team: Team, owner: &Person, number: usize) -> Unit {
    let renamed = WorkspaceCommand::Rename {
        actor: owner.user,
        name: name(&format!("Workspace {number}")),
    };
    let mut unit = command::<Workspace>(team.stream(), renamed);
    unit.lane = team.organization.to_string();
    unit.origin.actor = owner.actor();
    unit
}

async fn run(cluster: &Cluster) {
    println!("Commands a second (processor µs of this process for one):");
    println!();
    println!("| store, callers | on a session and a role | on nothing | what authority costs |");
    println!("|---|---|---|---|");
    for store in 0..2 {
        let mut sides = Vec::new();
        for rename in [on_authority as Rename, on_nothing] {
            let places = Place::both(cluster).await;
            let place = places.into_iter().nth(store).expect("there are two");
            sides.push(Side::start(place, rename).await);
        }
        for callers in CALLERS {
            let mut figures = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (side, figures) in sides.iter_mut().zip(&mut figures) {
                    figures.push(side.measure(callers).await);
                }
            }
            print_row(sides[0].place.name, callers, &figures);
        }
    }
}

fn print_row(store: &str, callers: usize, [with, without]: &[Vec<(f64, f64)>; 2]) {
    let cell = |of: &[(f64, f64)]| {
        let per_second = median(of.iter().map(|figure| figure.0));
        let cpu_us = median(of.iter().map(|figure| figure.1));
        format!("{per_second:.0} ({cpu_us:.0})")
    };
    // Of the time that a command takes without.
    let pairs = with.iter().zip(without);
    let cost = median(pairs.map(|(with, without)| without.0 / with.0 - 1.0));
    println!(
        "| {store}, {callers} | {} | {} | {:.0} % |",
        cell(with),
        cell(without),
        cost * 100.0
    );
}

impl Side {
    async fn start(place: Place, rename: Rename) -> Self {
        let fixture = Fixture::on(place.open().await, 7, JournalSettings::default()).await;
        let owner = fixture.sign_up("owner").await;
        let first = fixture.workspace(&owner, "Workspace").await;
        let mut teams = vec![first];
        while teams.len() < WORKSPACES {
            let organization = first.organization;
            teams.push(
                fixture
                    .workspace_in(organization, &owner, "Workspace")
                    .await,
            );
        }
        Self {
            fixture: Arc::new(fixture),
            owner,
            teams: teams.into(),
            rename,
            count: 0,
            place,
        }
    }

    async fn measure(&mut self, callers: usize) -> (f64, f64) {
        let seconds = setting("CREWLOG_BENCH_SECONDS", 0.5);
        // Every name is a new one.
        self.count += 1_000_000;
        let (fixture, owner, teams) =
            (self.fixture.clone(), self.owner.clone(), self.teams.clone());
        let (rename, base) = (self.rename, self.count);
        calls(callers, seconds, move |number| {
            let team = teams[number * 7 % teams.len()];
            let unit = rename(team, &owner, base + number);
            let fixture = fixture.clone();
            async move {
                fixture.commit(unit).await;
            }
        })
        .await
    }
}
