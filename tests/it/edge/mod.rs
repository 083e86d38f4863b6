//! The program from outside: HTTP against the real binary, on both stores.
//!
//! Each trial starts one server, asks it many things, and at its end has the log verified and the
//! projections checked by the program itself ([`held`]). Where something new is answered:
//!
//! - a new route gets its row in [`routes`], which succeeds with it in every way that it can; the
//!   walks over all routes ([`answers`], [`refusals`], [`permissions`]) then hold it to the
//!   contract without more ado, and fail where the row is missing;
//! - a rule of the state gets its story in [`flow`] ([`account`], of an account), what the audit
//!   log says of it goes to [`audit`], and what time alone does to [`time`];
//! - a route below a crew is walked from everywhere else in [`isolation`], and what is claimed is
//!   raced in [`claims`];
//! - a `GET` that is no state has its reason in [`past`];
//! - a way to attack it gets its trial in [`attacks`];
//! - what an operator does to an organization or a workspace goes to [`operator`].
//! - a rule of the state gets its story in [`flow`] or [`rules`], what the audit log says of it goes to
//!   [`audit`], and what time alone does to [`time`].

mod access;
mod account;
mod activity;
mod addresses;
mod answers;
mod attacks;
mod audit;
mod claims;
mod connections;
mod crews;
mod erasure;
mod flow;
mod isolation;
mod keys;
mod knowledge;
mod limits;
mod meta;
mod metering;
pub mod operator;
mod outages;
mod past;
mod permissions;
mod promotions;
mod races;
mod refusals;
pub mod reviews;
mod routes;
mod rules;
mod secrets;
mod statements;
pub mod tails;
pub mod team;
mod time;
mod usage;

use std::process::Command;

use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest};

pub fn trials() -> Vec<Case> {
    [
        access::trials(),
        account::trials(),
        activity::trials(),
        addresses::trials(),
        answers::trials(),
        attacks::trials(),
        audit::trials(),
        claims::trials(),
        connections::trials(),
        erasure::trials(),
        crews::trials(),
        flow::trials(),
        isolation::trials(),
        keys::trials(),
        knowledge::trials(),
        limits::trials(),
        meta::trials(),
        metering::trials(),
        operator::trials(),
        outages::trials(),
        past::trials(),
        permissions::trials(),
        promotions::trials(),
        races::trials(),
        refusals::trials(),
        reviews::trials(),
        rules::trials(),
        secrets::trials(),
        statements::trials(),
        tails::trials(),
        time::trials(),
        usage::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The program with a command line on the store.
fn crewlog(data: &std::path::Path, database_url: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewlog"));
    command.env_clear().args(arguments).arg("--data").arg(data);
    if let Some(url) = database_url {
        command.args(["--database-url", url]);
    }
    command
}

/// That the log of a store is as it was written, and every read model what the log says, by the
/// program itself, beside a server that may be running.
///
/// # Panics
/// If not, with what the program says.
pub fn held(store: &StoreUnderTest) {
    held_at(store.data_dir(), store.database_url());
}

fn held_at(data: &std::path::Path, database_url: Option<&str>) {
    for arguments in [&["verify"][..], &["replay", "--check"][..]] {
        let output = crewlog(data, database_url, arguments)
            .output()
            .expect("the program to run");
        assert!(
            output.status.success(),
            "`crewlog {}` ended with {}:\n{}\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }
}

/// Does everything once that can be done on a server, and hands it back.
///
/// # Panics
/// If something of it is refused.
pub async fn everything(server: Server) -> Server {
    let world = routes::World::on(server).await;
    // An operator comes with a store of their own: see `Running::operated`.
    let is_theirs = |route: &&routes::Route| route.writes() && !route.is_operators();
    for route in routes::ROUTES.iter().filter(is_theirs) {
        let caller = world.team.person(world.entitled(route)).expect("a person");
        let ask = world.fresh(route, caller).await;
        let key = format!("once {}", route.name());
        let call = world.send(&ask).header("Idempotency-Key", &key);
        let reply = match route.is_open() {
            true => call.await,
            false => call.bearer(&caller.token).await,
        };
        assert!(reply.status < 300, "{}: {}", route.name(), reply.text);
    }
    world.server
}

/// Asks again and again until an answer is there.
///
/// # Panics
/// If that takes longer than 30 seconds.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{what} did not happen within 30 s"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A started server, and the store that it is on.
struct Running {
    server: Server,
    store: StoreUnderTest,
}

impl Running {
    async fn on(store: StoreUnderTest) -> Self {
        let server = Server::start(&store).await;
        Self { server, store }
    }

    /// The same on a store that was made ready for an operator.
    async fn operated(store: StoreUnderTest) -> Self {
        let operated = operator::prepare(&store).await;
        let server = Server::start(&store).await;
        let server = server.operated_by(std::sync::Arc::new(operated));
        Self { server, store }
    }
}
