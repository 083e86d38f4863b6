//! What a rebuild under way costs those who write: renames of workspaces by many callers, alone and
//! beside rebuilds of everything, one after the other, at each pace. The sides take turns in one
//! run, and what is told of each is its ratio to the writers alone in the same round.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use crewlog::{
    journal::{sealing::RootKey, stores::Store},
    projections::{self, Pace, Projections, Rebuild, Rebuilt},
};

use crate::harness::{Place, calls, median, owner, owner::Owner, setting};

/// Those who write at once.
const CALLERS: usize = 32;
/// Workspaces that they rename.
const WORKSPACES: usize = 64;

/// What goes on beside the writers.
struct Side {
    name: &'static str,
    /// None: nothing.
    pace: Option<Pace>,
    per_second: Vec<f64>,
}

fn sides() -> [Side; 4] {
    let side = |name, pace| Side {
        name,
        pace,
        per_second: Vec::new(),
    };
    let (per_second, latency) = (NonZeroU64::new(10_000), NonZeroU64::new(20));
    [
        side("writers alone", None),
        side("beside rebuilds", Some(Pace::default())),
        side(
            "`--events-per-second 10000`",
            Some(Pace {
                per_second_max: per_second,
                ..Pace::default()
            }),
        ),
        side(
            "`--commit-latency-ms 20`",
            Some(Pace {
                commit_latency_max: latency,
                ..Pace::default()
            }),
        ),
    ]
}

/// Measures on a store with a log in it, which the program has been started on.
pub async fn measure(place: &Place, store: &Arc<dyn Store>) {
    let root = std::fs::read_to_string(place.folder.path().join("root.key"));
    let root = RootKey::from_text(root.expect("the program has made one").trim());
    let service = owner::serve(store.clone(), &root.expect("a root key")).await;
    let owner = Owner::of(service, WORKSPACES).await;
    let seconds = setting("CREWLOG_BENCH_SECONDS", 5.0);
    let mut sides = sides();
    for _ in 0..setting("CREWLOG_BENCH_ROUNDS", 5.0) as usize {
        for side in &mut sides {
            let rebuilds = side
                .pace
                .map(|pace| tokio::spawn(rebuild_again_and_again(store.another(), pace)));
            let owner = owner.clone();
            let call = move |count: usize| {
                let owner = owner.clone();
                async move {
                    let workspace = owner.workspaces[count % owner.workspaces.len()];
                    owner.rename(workspace, count).await;
                }
            };
            let (per_second, _) = calls(CALLERS, seconds, call).await;
            side.per_second.push(per_second);
            if let Some(rebuilds) = rebuilds {
                rebuilds.abort();
                let _ = rebuilds.await;
                // Nothing of it goes into the next round.
                projections::cancel(&**store).await.expect("it is put away");
            }
        }
    }
    println!();
    println!("{}, {CALLERS} writers and a rebuild under way:", place.name);
    println!();
    println!("| | commands/s | of the writers alone |");
    println!("|---|---|---|");
    for side in &sides {
        let pairs = side.per_second.iter().zip(&sides[0].per_second);
        println!(
            "| {} | {:.0} | {:.2} |",
            side.name,
            median(side.per_second.iter().copied()),
            median(pairs.map(|(beside, alone)| beside / alone)),
        );
    }
}

async fn rebuild_again_and_again(store: Arc<dyn Store>, pace: Pace) {
    let (names, projections) = (projections::names(), Projections::default());
    loop {
        let rebuild = Rebuild::begin(&*store, &projections, &names, pace).await;
        let rebuild = rebuild.expect("nothing else is under way");
        let rebuilt: Result<Rebuilt, _> = rebuild.run(&*store, &mut |_| {}).await;
        rebuilt.expect("it is rebuilt");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
