//! The process dies while people are being erased, and while their organizations' retention runs
//! out: at the places where it writes, and at any moment at all. Each of them is either wholly
//! there or erased, and erasing goes on by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{RETENTION_DAYS, hold, is_erased};
use crate::edge::eventually;
use crate::edge::routes::problem;
use crate::edge::team::{Person, Team, grant};
use crate::projections::assert_store_is_its_log;
use crate::support::journal::reading;
use crate::support::server::{Call, Server};
use crate::support::trials::{Case, FAULT_ROUNDS, StoreUnderTest, both, rounds};

pub fn trials() -> Vec<Case> {
    vec![both(
        "erasure",
        "a_killed_process_leaves_nobody_half_erased",
        killed,
    )]
}

/// Who goes at once.
const AT_ONCE: usize = 3;
/// How long a process may take to meet its fail point, before it is killed.
const PATIENCE: Duration = Duration::from_secs(4);

/// Where somebody is.
struct Scene {
    team: Team,
    /// Under a legal hold until the end; they audit it.
    held: Team,
}

fn random(below: u64) -> u64 {
    rand::random::<u64>() % below
}

/// A server that dies by itself at a place where it writes, or does not.
async fn serve(store: &StoreUnderTest, fail_point: Option<String>) -> Server {
    let mut command = Server::command(store);
    command.env(RETENTION_DAYS, "0");
    if let Some(fail_point) = fail_point {
        command.env("CREWLOG_FAIL_POINT", fail_point);
    }
    Server::launch(command).await
}

async fn killed(store: StoreUnderTest) {
    let mut server = serve(&store, None).await;
    let scene = Scene {
        team: Team::make(&server).await,
        held: Team::make(&server).await,
    };
    let hold_call = |server: &Server, method| hold(server, &scene.held, method, &scene.held.owner);
    hold_call(&server, reqwest::Method::PUT).await.expect(204);
    let (mut gone, mut found_there) = (Vec::new(), 0);
    for round in 0..rounds(FAULT_ROUNDS, 6) {
        let mut people = Vec::new();
        for _ in 0..AT_ONCE {
            let person = scene.team.joined(&server, "admin").await;
            let held = &scene.held;
            let granted = grant(&server, &held.workspace, &held.owner, &person);
            granted.await.expect(201);
            people.push(person);
        }
        // Half of them meet a fail point; the others are killed from outside.
        let fail_point = (round % 2 == 0).then(|| {
            let points = [
                "append_before_send",
                "append_after_send",
                "append_after_commit",
            ];
            format!("{}:{}", points[round / 2 % 3], 1 + random(9))
        });
        assert!(server.terminate().await.success(), "{}", server.logs());
        server = serve(&store, fail_point.clone()).await;
        let asked = people.iter().map(|person| {
            let call = erases(&server, person);
            tokio::spawn(async move { call.attempt().await.ok() })
        });
        let asked: Vec<_> = asked.collect();
        let dying = match fail_point {
            Some(_) => PATIENCE,
            None => Duration::from_millis(random(600)),
        };
        dies_within(&mut server, dying).await;
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.expect("a client to be content"));
        }
        server = serve(&store, None).await;
        for (person, answer) in people.into_iter().zip(answers) {
            let was_erased = is_one_or_the_other(&server, &scene, &person).await;
            if let Some(reply) = answer {
                reply.expect(204);
                assert!(was_erased, "what was answered is done");
            }
            // Asked again, it is done; where it was done before, it is answered again.
            let again = erases(&server, &person).await.expect(204);
            assert_eq!(again.header("idempotent-replayed").is_some(), was_erased);
            found_there += usize::from(!was_erased);
            assert!(is_one_or_the_other(&server, &scene, &person).await);
            gone.push(person);
        }
    }
    println!(
        "{} erased, of whom {found_there} were there after a death",
        gone.len()
    );
    goes_on_by_itself(&store, server, &scene, &gone).await;
}

/// Lifts the hold, and kills the process again and again while what is due is done.
async fn goes_on_by_itself(
    store: &StoreUnderTest,
    mut server: Server,
    scene: &Scene,
    gone: &[Person],
) {
    for person in gone {
        let early = is_erased(&server, &scene.held, &person.user).await;
        assert!(!early, "it is under a hold, whoever dies");
    }
    hold(
        &server,
        &scene.held,
        reqwest::Method::DELETE,
        &scene.held.owner,
    )
    .await
    .expect(204);
    for _ in 0..4 {
        dies_within(&mut server, Duration::from_millis(random(1_500))).await;
        let fail_point = format!("append_after_send:{}", 1 + random(6));
        server = serve(store, Some(fail_point)).await;
    }
    dies_within(&mut server, Duration::from_millis(random(1_500))).await;
    let mut server = serve(store, None).await;
    for known_to in [&scene.team, &scene.held] {
        for person in gone {
            eventually("what was begun is done", async || {
                let erased = is_erased(&server, known_to, &person.user).await;
                erased.then_some(())
            })
            .await;
        }
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let reading = reading(store).await;
    for person in gone {
        let sql = "SELECT COUNT(*) FROM subject_keys k
                     JOIN subjects s ON s.subject = k.owner WHERE s.user_id = $1";
        let of = vec![person.user.as_str().into()];
        let rows = reading.query(sql, of).await.expect("the keys");
        assert_eq!(rows[0].count(0).expect("a count"), 0, "{}", person.user);
    }
    let sql = "SELECT COUNT(*) FROM untold_erasures";
    let rows = reading.query(sql, vec![]).await.expect("who is untold");
    assert_eq!(rows[0].count(0).expect("a count"), 0);
    assert_store_is_its_log(&*reading).await;
    reading.close().await;
    crate::edge::held(store);
}

fn erases(server: &Server, person: &Person) -> Call {
    let call = super::erase(server, person, &person.password);
    call.header("Idempotency-Key", "going")
}

/// Waits for a process to die by itself, and kills it where it does not.
async fn dies_within(server: &mut Server, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && !server.logs().contains("aborting") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = server.kill().await;
    assert!(!status.success(), "{status}");
}

/// Whether somebody is erased; if not, nothing of them is.
async fn is_one_or_the_other(server: &Server, scene: &Scene, person: &Person) -> bool {
    let me = server.get("/v1/me").bearer(&person.token).await;
    let member = scene.team.path(&format!("/members/{}", person.user));
    let member = server.get(&member).bearer(&scene.team.owner.token).await;
    let grant = scene.held.path(&format!("/auditors/{}", person.user));
    let grant = server.get(&grant).bearer(&scene.held.owner.token).await;
    let sign_in = json!({"email": person.email, "password": person.password});
    let sign_in = server.post("/v1/sessions").json(sign_in).await;
    match me.status {
        200 => {
            assert_eq!(me.body["email"], person.email.as_str());
            assert_eq!(me.body["name"], person.name.as_str());
            assert_eq!(member.expect(200).body["name"], person.name.as_str());
            assert_eq!(grant.expect(200).body["name"], person.name.as_str());
            sign_in.expect(201);
            false
        }
        _ => {
            problem(&me, 401, "unauthenticated");
            problem(&member, 404, "not_found");
            problem(&grant, 404, "not_found");
            problem(&sign_in, 401, "invalid_credentials");
            true
        }
    }
}
