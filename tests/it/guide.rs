//! The pages of `docs/guide/`, followed as they stand: on SQLite and on PostgreSQL.
//!
//! To add a page: its line in [`PAGES`], and its link in the README.

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;

use crate::support::commands::{crewlog_on, run};
use crate::support::pages::Page;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreUnderTest, both, once};

/// The page whose reader makes an operator's key, with no server running yet.
const OPERATOR: &str = "operator";

/// The pages, and what the trial of each is called.
const PAGES: [(&str, &str); 12] = [
    ("getting-in", "getting_in_is_true"),
    ("roles", "roles_are_true"),
    ("api-keys", "api_keys_are_true"),
    ("environments", "environments_are_true"),
    ("workspace-per-client", "a_workspace_per_client_is_true"),
    ("crew-per-client", "a_crew_per_client_is_true"),
    ("promotion", "promotion_is_true"),
    ("audit", "auditing_is_true"),
    ("access-review", "reviewing_access_is_true"),
    ("plans-and-usage", "plans_and_usage_are_true"),
    ("erasure", "erasing_is_true"),
    (OPERATOR, "operating_is_true"),
];

pub fn trials() -> Vec<Case> {
    let pages = PAGES
        .iter()
        .map(|(page, trial)| both("guide", trial, move |store| follow(store, page)));
    let others = [
        once("guide", "every_page_is_followed_and_linked", every_page),
        once("documents", "security_names_tests_that_there_are", security),
    ];
    pages.chain(others).collect()
}

async fn follow(store: StoreUnderTest, page: &str) {
    let mut known = Vec::new();
    if page == OPERATOR {
        let create = ["keys", "operator", "create", "--name", "On call", "--json"];
        let made = run(crewlog_on(&store, &create)).expect(0).json();
        let secret = made["secret"].as_str().expect("a secret").to_owned();
        known.push(("OPERATOR", secret));
    }
    let server = Server::start(&store).await;
    let page = Page::read(&format!("docs/guide/{page}.md"));
    page.follow(&store, server.base_url(), &known);
}

async fn every_page(_: TempDir) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(root.join("docs/guide")).expect("the guide");
    let files: BTreeSet<_> = files
        .map(|file| {
            file.expect("a page")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    // Beside the pages lie the pictures that they show.
    let files: BTreeSet<_> = files
        .into_iter()
        .filter(|file| !file.ends_with(".png"))
        .collect();
    let followed: BTreeSet<_> = PAGES.iter().map(|(page, _)| format!("{page}.md")).collect();
    assert_eq!(files, followed);
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    for page in followed {
        assert!(readme.contains(&format!("(docs/guide/{page})")), "{page}");
    }
}

/// Every test that `docs/security.md` names is there: as a trial, or in the module of the library
/// that the name says.
async fn security(_: TempDir) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/security.md")).expect("the page");
    let cases = crate::cases();
    let trials: BTreeSet<_> = cases.iter().map(Case::name).collect();
    let spans = page.split('`').skip(1).step_by(2);
    let named: BTreeSet<_> = spans.filter(|span| is_name(span)).collect();
    assert!(named.len() >= 30, "promises name their tests: {named:?}");
    for name in named {
        assert!(
            trials.contains(name) || is_of_library(root, name),
            "docs/security.md names `{name}`, and there is no such test"
        );
    }
}

fn is_name(span: &str) -> bool {
    let part = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        !part.is_empty() && part.bytes().all(letter)
    };
    span.contains("::") && span.split("::").all(part)
}

fn is_of_library(root: &Path, name: &str) -> bool {
    let Some((module, function)) = name.split_once("::tests::") else {
        return false;
    };
    let module = root.join("src").join(module.replace("::", "/"));
    let files = [
        module.with_extension("rs"),
        module.join("mod.rs"),
        module.join("tests.rs"),
    ];
    let function = format!("fn {function}(");
    files.iter().any(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.contains(&function)
    })
}
