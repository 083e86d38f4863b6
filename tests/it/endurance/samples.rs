//! What was seen of a server while it was under load: a row for each span of time, whether a column
//! of it grows, and the table and the picture that people look at.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// What is asked of the server; latencies are told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Write,
    Read,
    Audit,
}

pub const KINDS: [Kind; 3] = [Kind::Write, Kind::Read, Kind::Audit];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Audit => "audit",
        }
    }
}

/// How long the answers of a kind took, in a span of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    pub answers: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Latency {
    pub fn of(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        let at = |part: f64| {
            let index = (taken.len() as f64 * part) as usize;
            let found = taken.get(index.min(taken.len().saturating_sub(1)));
            found.map_or(0.0, |taken| taken.as_secs_f64() * 1e3)
        };
        Self {
            answers: taken.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
        }
    }
}

/// A span of time, at whose end the server was looked at.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    pub seconds: f64,
    pub resident_mib: f64,
    pub open_files: usize,
    /// The most commands that were seen to wait.
    pub queued: usize,
    pub position: u64,
    /// Of [`KINDS`].
    pub latencies: [Latency; 3],
    /// Entries that tails were handed.
    pub tailed: usize,
    /// How long the last `verify` took; 0 before the first.
    pub verify_seconds: f64,
    /// Lines of the server's log that warn of what is not explained, or tell of an error.
    pub warnings: usize,
}

/// The memory of a process in MiB and its open files; none where there is no `/proc`.
pub fn process(id: u32) -> Option<(f64, usize)> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    let files = fs::read_dir(format!("/proc/{id}/fd")).ok()?.count();
    Some((kib / 1024.0, files))
}

/// How much a series has grown from its first value to its last, by the median of the slopes
/// between any two of them (Theil and Sen): a few spikes do not move it.
pub fn growth(values: &[f64]) -> f64 {
    let mut slopes = Vec::new();
    for (at, one) in values.iter().enumerate() {
        for (ahead, other) in values[at + 1..].iter().enumerate() {
            slopes.push((other - one) / (ahead + 1) as f64);
        }
    }
    median(slopes) * values.len().saturating_sub(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A column that must stay as it is.
pub struct Column {
    pub name: String,
    pub values: Vec<f64>,
    /// What it may grow by over half of a run: a part of what it is, or so much, whichever is more.
    pub part: f64,
    pub least: f64,
}

impl Column {
    /// By how much it grew over the second half, and by how much it might have.
    pub fn judged(&self) -> (f64, f64) {
        let half = &self.values[self.values.len() / 2..];
        let allowed = (median(half.to_vec()) * self.part).max(self.least);
        (growth(half), allowed)
    }
}

/// Everything that must not grow with time.
pub fn columns(samples: &[Sample]) -> Vec<Column> {
    let of = |name: &str, part, least, value: &dyn Fn(&Sample) -> f64| Column {
        name: name.to_owned(),
        values: samples.iter().map(value).collect(),
        part,
        least,
    };
    let mut columns = vec![
        of("memory, MiB", 0.1, 16.0, &|sample| sample.resident_mib),
        of("open files", 0.1, 8.0, &|sample| sample.open_files as f64),
        of("queue", 0.5, 8.0, &|sample| sample.queued as f64),
    ];
    for (at, kind) in KINDS.iter().enumerate() {
        let (p50, p99) = (
            format!("{} p50, ms", kind.name()),
            format!("{} p99, ms", kind.name()),
        );
        columns.push(of(&p50, 0.25, 1.0, &|sample| sample.latencies[at].p50_ms));
        columns.push(of(&p99, 0.5, 10.0, &|sample| sample.latencies[at].p99_ms));
    }
    columns
}

/// Comma-separated, with a head.
pub fn csv(samples: &[Sample]) -> String {
    let mut text =
        "seconds,resident_mib,open_files,queued,position,tailed,verify_seconds,warnings".to_owned();
    for kind in KINDS {
        let name = kind.name();
        let _ = write!(text, ",{name}s,{name}_p50_ms,{name}_p99_ms");
    }
    text.push('\n');
    for sample in samples {
        let _ = write!(
            text,
            "{:.0},{:.1},{},{},{},{},{:.1},{}",
            sample.seconds,
            sample.resident_mib,
            sample.open_files,
            sample.queued,
            sample.position,
            sample.tailed,
            sample.verify_seconds,
            sample.warnings
        );
        for latency in sample.latencies {
            let Latency {
                answers,
                p50_ms,
                p99_ms,
            } = latency;
            let _ = write!(text, ",{answers},{p50_ms:.2},{p99_ms:.2}");
        }
        text.push('\n');
    }
    text
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 130.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 24.0;
const COLOURS: [&str; 3] = ["#1f6feb", "#1a7f37", "#bc4c00"];

/// A picture: memory, the median and the slowest hundredth of each kind of answer, and files.
pub fn svg(title: &str, samples: &[Sample]) -> String {
    let line = |name: &'static str, value: &dyn Fn(&Sample) -> f64| {
        (name, samples.iter().map(value).collect::<Vec<_>>())
    };
    let latencies = |value: fn(&Latency) -> f64| {
        let kinds = KINDS.iter().enumerate();
        let lines = kinds.map(|(at, kind)| line(kind.name(), &|one| value(&one.latencies[at])));
        lines.collect::<Vec<_>>()
    };
    let panels = [
        ("memory, MiB", vec![line("", &|one| one.resident_mib)]),
        ("p50, ms", latencies(|latency| latency.p50_ms)),
        ("p99, ms", latencies(|latency| latency.p99_ms)),
        (
            "open files, and commands that wait",
            vec![
                line("files", &|one| one.open_files as f64),
                line("queue", &|one| one.queued as f64),
            ],
        ),
    ];
    let minutes = samples.last().map_or(0.0, |last| last.seconds / 60.0);
    let step = HEIGHT + TOP + 12.0;
    let height = step * panels.len() as f64 + 40.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"16\" font-size=\"13\">{title}, {minutes:.0} minutes</text>\n"
    );
    for (at, (name, lines)) in panels.iter().enumerate() {
        panel(&mut text, 20.0 + step * at as f64, name, lines);
    }
    text.push_str("</svg>\n");
    text
}

fn panel(text: &mut String, top: f64, name: &str, lines: &[(&str, Vec<f64>)]) {
    let all = lines.iter().flat_map(|(_, values)| values);
    let most = all.copied().fold(1.0, f64::max) * 1.1;
    let (bottom, right) = (top + TOP + HEIGHT, WIDTH - 12.0);
    let _ = writeln!(
        text,
        "<text x=\"{LEFT}\" y=\"{:.0}\">{name}</text>\
         <text x=\"4\" y=\"{:.0}\">{most:.0}</text><text x=\"4\" y=\"{bottom:.0}\">0</text>\
         <path d=\"M{LEFT} {:.0}V{bottom:.0}H{right}\" fill=\"none\" stroke=\"#888\"/>",
        top + TOP - 6.0,
        top + TOP + 8.0,
        top + TOP,
    );
    for (at, (label, values)) in lines.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let across = (right - LEFT) / values.len().saturating_sub(1).max(1) as f64;
        let points = values.iter().enumerate().map(|(at, value)| {
            let x = LEFT + across * at as f64;
            format!("{x:.1},{:.1}", bottom - value / most * HEIGHT)
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            text,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{label}</text>",
            right - 60.0 * (lines.len() - at) as f64,
            top + TOP - 6.0,
        );
    }
}
