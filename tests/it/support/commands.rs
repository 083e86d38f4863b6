//! The program's other commands, run to their end.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::process;
use super::server::without_settings_of_ours;
use super::trials::StoreUnderTest;

const LIMIT: Duration = Duration::from_secs(30);

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Itself, if it ended with the status, and its failure is told in one line and no dump.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert!(!self.stderr.contains("RUST_BACKTRACE"), "{self:#?}");
        self
    }

    /// Itself, if it could not run and said so in one line with these words.
    #[track_caller]
    pub fn refused_with(self, words: &[&str]) -> Self {
        let ended = self.expect(3);
        let told: Vec<_> = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("crewlog: "))
            .collect();
        assert_eq!(told.len(), 1, "one sentence: {ended:#?}");
        for word in words {
            assert!(told[0].contains(word), "{word:?} in {told:?}");
        }
        assert_eq!(ended.stdout, "", "nothing on stdout: {ended:#?}");
        ended
    }

    /// The same for a command that logs on its way.
    #[track_caller]
    pub fn refused_with_log(self, words: &[&str]) -> Self {
        let ended = self.expect(3);
        let told = ended
            .stderr
            .lines()
            .rfind(|line| line.starts_with("crewlog: "));
        let told = told.unwrap_or_else(|| panic!("a sentence: {ended:#?}"));
        for word in words {
            assert!(told.contains(word), "{word:?} in {told:?}");
        }
        ended
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// `crewlog` with arguments, and nothing of the caller's settings.
pub fn crewlog(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewlog"));
    command.args(arguments);
    command
}

/// `crewlog` with arguments, on a store.
pub fn crewlog_on(store: &StoreUnderTest, arguments: &[&str]) -> Command {
    let mut command = crewlog(arguments);
    command.arg("--data").arg(store.data_dir());
    if let Some(url) = store.database_url() {
        command.args(["--database-url", url]);
    }
    command
}

/// Runs a command to its end.
///
/// # Panics
/// If it still runs after 30 seconds.
pub fn run(command: Command) -> Ended {
    run_within(command, LIMIT)
}

/// The same for a command that has much to do.
///
/// # Panics
/// If it still runs at the limit.
pub fn run_within(mut command: Command, limit: Duration) -> Ended {
    without_settings_of_ours(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = process::spawn(command, Signal::SIGKILL).expect("the command to start");
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = process::wait(&mut child, limit);
    if status.is_none() {
        process::signal(&child, Signal::SIGKILL);
    }
    let ended = Ended {
        status: status.as_ref().and_then(ExitStatus::code),
        stdout: stdout.join().expect("its output"),
        stderr: stderr.join().expect("its error output"),
    };
    assert!(status.is_some(), "it did not end in {limit:?}: {ended:#?}");
    ended
}

/// Runs a command, and kills it after a while; none where it ended by itself before. What it printed
/// is not kept.
pub fn killed_after(mut command: Command, moment: Duration) -> Option<Ended> {
    without_settings_of_ours(&mut command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = process::spawn(command, Signal::SIGKILL).expect("the command to start");
    let status = process::wait(&mut child, moment);
    if status.is_none() {
        process::signal(&child, Signal::SIGKILL);
        process::wait(&mut child, Duration::from_secs(10)).expect("it to be killed");
    }
    status.map(|status| Ended {
        status: status.code(),
        stdout: String::new(),
        stderr: String::new(),
    })
}

fn collect(output: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut output = output.expect("a piped output");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing.
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
