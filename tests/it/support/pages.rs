//! Pages that people follow by copy and paste: their shell blocks, run as they stand, and what the
//! page shows as the answer to each.
//!
//! A block is fenced as `sh`. One that stands between `<!-- name: begin -->` and `<!-- name: end -->`
//! is run by its name. In a guide all of them are run in one shell, from top to bottom; where a
//! `json` or `text` block comes next, it is what the shell block prints, with `…` for whatever is
//! another every time.

use std::path::Path;
use std::process::Command;

use super::commands::{Ended, run};
use super::trials::StoreUnderTest;

/// Between what two blocks print.
const CUT: &str = "--- the next block ---";

pub struct Page {
    name: String,
    text: String,
}

/// A shell block, and what it prints; none where the page shows nothing.
struct Step {
    script: String,
    shown: Option<String>,
}

impl Page {
    /// Reads a page by its path in the repository.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = std::fs::read_to_string(path);
        Self {
            name: name.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{name}: {error}")),
        }
    }

    /// Runs the block of a name; without a base URL, where it needs no server.
    pub fn run_block(&self, store: &StoreUnderTest, block: &str, base_url: Option<&str>) -> Ended {
        let base = base_url.map(|url| ("BASE", url));
        let base: Vec<_> = base.into_iter().collect();
        shell(store, self.block(block), &base)
    }

    /// The same where the block asks for other settings.
    pub fn run_block_with(
        &self,
        store: &StoreUnderTest,
        block: &str,
        settings: &[(&str, &str)],
    ) -> Ended {
        shell(store, self.block(block), settings)
    }

    fn block(&self, block: &str) -> &str {
        let found = self
            .text
            .split_once(&format!("<!-- {block}: begin -->\n```sh\n"))
            .and_then(|(_, rest)| rest.split_once(&format!("```\n<!-- {block}: end -->")));
        let (script, _) = found.unwrap_or_else(|| panic!("{}: no block {block}", self.name));
        script
    }

    /// Runs all blocks in one shell, with variables of it that its reader has set before, and
    /// compares what they print with what the page shows.
    ///
    /// # Panics
    /// With both, where they differ.
    pub fn follow(&self, store: &StoreUnderTest, base_url: &str, known: &[(&str, String)]) {
        let steps = self.steps();
        let scripts = steps.iter().map(|step| step.script.as_str());
        let script = scripts
            .collect::<Vec<_>>()
            .join(&format!("echo; echo '{CUT}'\n"));
        let mut settings = vec![("BASE", base_url)];
        settings.extend(known.iter().map(|(name, value)| (*name, value.as_str())));
        let printed = shell(store, &script, &settings).stdout;
        let printed: Vec<_> = printed.split(CUT).map(str::trim).collect();
        assert_eq!(printed.len(), steps.len(), "{}: {printed:#?}", self.name);
        assert!(
            steps.iter().any(|step| step.shown.is_some()),
            "{} shows answers",
            self.name
        );
        for (step, printed) in steps.iter().zip(printed) {
            let expected = step.shown.as_deref().unwrap_or_default();
            assert!(
                is_like(printed, expected),
                "{}: after\n{}it shows\n{expected}\nand prints\n{printed}",
                self.name,
                step.script
            );
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        // Fences open and close in turn.
        let mut blocks = self.text.split("```");
        blocks.next();
        while let (Some(block), _) = (blocks.next(), blocks.next()) {
            let (kind, text) = block.split_once('\n').expect("a fence ends its line");
            match (kind, steps.last_mut()) {
                ("sh", _) => steps.push(Step {
                    script: text.to_owned(),
                    shown: None,
                }),
                ("json" | "text", Some(step)) => {
                    assert!(step.shown.is_none(), "{}: two answers: {text}", self.name);
                    step.shown = Some(text.trim().to_owned());
                }
                (kind, _) => panic!("{}: a block of {kind:?}", self.name),
            }
        }
        steps
    }
}

/// Whether a text is as shown, with anything where a `…` is.
fn is_like(text: &str, shown: &str) -> bool {
    let mut pieces = shown.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<_> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in between {
        match rest.split_once(piece) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Runs a script with the program that was built for the tests.
fn shell(store: &StoreUnderTest, script: &str, settings: &[(&str, &str)]) -> Ended {
    let program = env!("CARGO_BIN_EXE_crewlog");
    let script = script.replace("./target/release/crewlog", program);
    let mut command = Command::new("sh");
    command
        .args(["-euc", &script])
        .env("CREWLOG_DATA", store.data_dir());
    if let Some(url) = store.database_url() {
        command.env("DATABASE_URL", url);
    }
    command.envs(settings.iter().copied());
    run(command).expect(0)
}
