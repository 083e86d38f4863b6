//! How far long work has come, on stderr: a bar on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{projections::Progress, transfer::Step};

/// How often a plain line is printed at most.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows the progress of one piece of work over the log.
#[derive(Debug)]
pub struct Meter {
    what: &'static str,
    unit: &'static str,
    bar: Option<ProgressBar>,
    told_at: Instant,
}

impl Meter {
    /// Starts one; `what` is what is being done: "replaying".
    pub fn start(what: &'static str) -> Self {
        Self::counting(what, "entries")
    }

    /// The same of something else than entries.
    pub fn counting(what: &'static str, unit: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(&format!(
                "{{msg}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left",
            ));
            let bar = ProgressBar::new(0).with_message(what);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            what,
            unit,
            bar,
            told_at: Instant::now(),
        }
    }

    /// Shows how far it is now.
    pub fn show(&mut self, progress: Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(progress.head);
            bar.set_position(progress.position);
        } else if self.told_at.elapsed() >= LINE_EVERY {
            self.told_at = Instant::now();
            // Progress that nobody can read is no reason to stop.
            let _ = writeln!(
                std::io::stderr(),
                "{}",
                line(self.what, self.unit, progress)
            );
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows work that has several steps, one after the other.
#[derive(Debug, Default)]
pub struct Steps {
    present: Option<Meter>,
}

impl Steps {
    /// Shows how far it is now.
    pub fn show(&mut self, step: Step) {
        if self
            .present
            .as_ref()
            .is_none_or(|meter| meter.what != step.what)
        {
            self.finish();
        }
        let meter = || Meter::counting(step.what, step.unit);
        self.present.get_or_insert_with(meter).show(Progress {
            position: step.done,
            head: step.of,
            elapsed: step.elapsed,
        });
    }

    /// Takes the bar away.
    pub fn finish(&mut self) {
        if let Some(meter) = self.present.take() {
            meter.finish();
        }
    }
}

fn line(what: &str, unit: &str, progress: Progress) -> String {
    let Progress { position, head, .. } = progress;
    let rate = rate(position, progress.elapsed);
    let left = head.saturating_sub(position).checked_div(rate).unwrap_or(0);
    format!("{what}: {position} of {head} {unit}, {rate}/s, {left} s left")
}

/// Entries in a second.
pub fn rate(entries: u64, elapsed: Duration) -> u64 {
    let elapsed_us = elapsed.as_micros().max(1);
    let rate = u128::from(entries) * 1_000_000 / elapsed_us;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_rate_and_time_left() {
        let progress = Progress {
            position: 4_000,
            head: 10_000,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(
            line("replaying", "entries", progress),
            "replaying: 4000 of 10000 entries, 2000/s, 3 s left"
        );
        assert_eq!(rate(0, Duration::ZERO), 0);
    }
}
