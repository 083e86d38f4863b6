//! The README's shell blocks, run as they stand: on SQLite and on PostgreSQL.

use std::path::Path;
use std::process::Command;

use crate::support::commands::{Ended, run};
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
    let toured = shell(&store, "tour", Some(server.base_url()));
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
    let checked = shell(&store, "beside", None);
    assert!(
        checked.stdout.contains("the log is as it was written"),
        "{checked:#?}"
    );
    assert!(
        checked.stdout.contains("every row is what the log says"),
        "{checked:#?}"
    );

    assert!(server.terminate().await.success(), "{}", server.logs());
    let replayed = shell(&store, "stopped", None);
    assert!(replayed.stdout.contains("replayed "), "{replayed:#?}");
    assert!(replayed.stdout.contains(r#""holds":true"#), "{replayed:#?}");
}

/// Runs a block of the README with the program that was built for the tests.
fn shell(store: &StoreUnderTest, block: &str, base_url: Option<&str>) -> Ended {
    let program = env!("CARGO_BIN_EXE_crewlog");
    let script = block_of_readme(block).replace("./target/release/crewlog", program);
    let mut command = Command::new("sh");
    command
        .args(["-euc", &script])
        .env("CREWLOG_DATA", store.data_dir());
    if let Some(url) = store.database_url() {
        command.env("DATABASE_URL", url);
    }
    if let Some(url) = base_url {
        command.env("BASE", url);
    }
    run(command).expect(0)
}

fn block_of_readme(name: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let block = readme
        .split_once(&format!("<!-- {name}: begin -->\n```sh\n"))
        .and_then(|(_, rest)| rest.split_once(&format!("```\n<!-- {name}: end -->")));
    block.expect("the block in README.md").0.to_owned()
}
