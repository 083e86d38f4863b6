//! The process dies while a promotion is applied: all of it is there afterwards, or nothing.

use serde_json::json;

use super::{Running, Shop};
use crate::edge::team::{Team, text};
use crate::support::server::Server;
use crate::support::trials::StoreUnderTest;

const AGENTS: usize = 60;

pub async fn whole(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let production = team.crew(&server, "production").await;
    let (mut whole, mut nothing) = (0, 0);
    let points = [
        "append_before_send",
        "append_after_send",
        "append_after_commit",
    ];
    for (round, point) in points.into_iter().cycle().take(6).enumerate() {
        let shop = Shop {
            server: &server,
            team: &team,
        };
        let agents: serde_json::Map<String, serde_json::Value> = (0..AGENTS)
            .map(|at| (format!("Agent {at:03}"), json!({"round": round, "at": at})))
            .collect();
        let bundle = json!({"format": "crewlog/bundle/1", "agents": agents, "pathways": {}});
        let body = json!({"bundle": bundle, "target": production, "reason": "All at once"});
        let made = shop.propose_with(&team.member, body).await.expect(201);
        let promotion = text(&made.body, "/id");
        let digest = text(&made.body, "/bundle_digest");
        shop.act(&team.admin, &promotion, "approve")
            .await
            .expect(200);
        let before = shop.export(&production).await;
        assert!(server.terminate().await.success(), "{}", server.logs());

        let mut command = Server::command(&store);
        command.env("CREWLOG_FAIL_POINT", format!("{point}:1"));
        let mut dying = Server::launch(command).await;
        let path = team.path(&format!("/promotions/{promotion}/apply"));
        // It may answer before it dies, or not at all.
        let _ = dying.post(&path).bearer(&team.owner.token).attempt().await;
        assert!(!dying.ended().await.success(), "{}", dying.logs());
        server = Server::start(&store).await;
        let shop = Shop {
            server: &server,
            team: &team,
        };
        let after = shop.export(&production).await;
        let status = text(&shop.read(&promotion).await.body, "/status");
        match status.as_str() {
            "applied" => {
                assert_eq!(after.header("etag"), Some(format!("\"{digest}\"").as_str()));
                whole += 1;
            }
            "approved" => {
                assert_eq!(after.text, before.text);
                shop.act(&team.owner, &promotion, "apply").await.expect(200);
                let now = shop.export(&production).await;
                assert_eq!(now.header("etag"), Some(format!("\"{digest}\"").as_str()));
                nothing += 1;
            }
            other => panic!("it is {other}"),
        }
    }
    assert!(
        whole > 0 && nothing > 0,
        "{whole} whole, {nothing} not there"
    );
    super::super::held(&store);
}
