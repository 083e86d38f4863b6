//! How long the program takes until it listens, and how much memory it then holds.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    harness::{Place, median},
    support::postgres::Cluster,
};

const STARTS: usize = 5;
/// For what happens in the background once it listens.
const SETTLES: Duration = Duration::from_secs(2);

struct Start {
    until_listening_ms: f64,
    resident_mib: f64,
    peak_mib: f64,
}

/// Starts the program on an empty log of each store, and on the logs that were filled.
pub async fn measure(cluster: &Cluster, filled: &[Place; 2]) {
    let empty = Place::both(cluster).await;
    println!(
        "The program, until it listens, and {} s later:",
        SETTLES.as_secs()
    );
    println!();
    println!("| | start, ms | resident, MiB | peak, MiB |");
    println!("|---|---|---|---|");
    for (log, places) in [("empty log", &empty), ("filled log", filled)] {
        for place in places {
            let starts: Vec<_> = (0..STARTS).map(|_| start(place)).collect();
            let of = |part: fn(&Start) -> f64| median(starts.iter().map(part));
            println!(
                "| {}, {log} | {:.0} | {:.1} | {:.1} |",
                place.name,
                of(|start| start.until_listening_ms),
                of(|start| start.resident_mib),
                of(|start| start.peak_mib),
            );
        }
    }
}

fn start(place: &Place) -> Start {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crewlog"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(place.folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(database) = &place.database {
        command.args(["--database-url", database.url()]);
    }
    let started = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let listens = lines.any(|line| line.is_ok_and(|line| line.contains("listening on http://")));
    let until_listening = started.elapsed();
    assert!(listens, "it ended before it listened");
    std::thread::sleep(SETTLES);
    let start = Start {
        until_listening_ms: until_listening.as_secs_f64() * 1_000.0,
        resident_mib: memory_mib(&child, "VmRSS:"),
        peak_mib: memory_mib(&child, "VmHWM:"),
    };
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is asked to end");
    child.wait().expect("it ends");
    start
}

fn memory_mib(child: &Child, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1_024.0
}
