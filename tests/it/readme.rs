//! The README's shell blocks, run as they stand: on SQLite and on PostgreSQL.

use crate::support::pages::Page;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![both(
        "readme",
        "its_shell_blocks_are_true",
        its_shell_blocks_are_true,
    )]
}

async fn its_shell_blocks_are_true(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let readme = Page::read("README.md");
    let toured = readme.run_block(&store, "tour", Some(server.base_url()));
    for expected in [
        r#""role":"member""#,
        r#""code":"not_permitted""#,
        r#""action":"member.role_changed""#,
        r#""reason":"Joins the night shift""#,
        r#""outcome":"denied""#,
    ] {
        assert!(toured.stdout.contains(expected), "{expected}: {toured:#?}");
    }
    for unexpected in ["malformed", "unauthenticated", "invalid_body", "not_found"] {
        assert!(
            !toured.stdout.contains(unexpected),
            "{unexpected}: {toured:#?}"
        );
    }
    let checked = readme.run_block(&store, "beside", None);
    assert!(
        checked.stdout.contains("the log is as it was written"),
        "{checked:#?}"
    );
    assert!(
        checked.stdout.contains("every row is what the log says"),
        "{checked:#?}"
    );

    let replayed = readme.run_block(&store, "replay", None);
    assert!(replayed.stdout.contains("replayed "), "{replayed:#?}");
    assert!(replayed.stdout.contains(r#""holds":true"#), "{replayed:#?}");
    assert!(server.terminate().await.success(), "{}", server.logs());
}
