//! Places in the writing of a batch, a transfer and a rotation, where the process can be made to die, or to stop for a
//! while, so that tests can hold it to what it promises.
//!
//! `CREWLOG_FAIL_POINT=append_after_send:3` aborts the process when it sends its third batch;
//! with `:stop` at the end it stops itself (SIGSTOP) instead and goes on when it is continued;
//! with `:hold=FILE` the writer alone waits, for as long as there is that file;
//! with `:slow=FILE` it waits from then on at each batch, for as many milliseconds as the file says.
//! There is nothing of it in a release build.

/// A place: `append_before_send`, `transfer_sealed` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    /// Decided, and nothing of it has been sent.
    BeforeSend,
    /// On its way: PostgreSQL executes it; on SQLite everything but the COMMIT has happened.
    AfterSend,
    /// On the disk, and nobody has been answered.
    AfterCommit,
    /// Some rows of a transfer have been written.
    Carried,
    /// What was carried is there, and has not been proven.
    Filled,
    /// Proven, and both ends are as they were.
    Proven,
    /// The old end takes nothing any more, and the new one nothing yet.
    Sealed,
    /// Done, and nobody has been told.
    Opened,
    /// A step of a rotation of the root key is on the disk.
    Rewrapped,
}

#[cfg(not(debug_assertions))]
impl FailPoint {
    pub fn hit(self) {}

    pub async fn hit_during<T>(self, work: impl Future<Output = T> + Send) -> T {
        work.await
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        future::Future,
        io::Write,
        path::PathBuf,
        pin::pin,
        process::{Command, abort},
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::FailPoint;

    /// The environment variable.
    const NAME: &str = "CREWLOG_FAIL_POINT";

    /// What was asked for.
    #[derive(Debug, PartialEq, Eq)]
    struct Plan {
        point: FailPoint,
        /// Which time that it is met, from 1.
        time: u64,
        act: Act,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Act {
        Abort,
        Stop,
        Hold(PathBuf),
        Slow(PathBuf),
    }

    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(|| {
        let text = std::env::var(NAME).ok()?;
        let plan = Plan::of(&text);
        if plan.is_none() {
            say(&format!("{NAME}={text} is no fail point"));
            abort();
        }
        plan
    });

    /// How often the point of the plan has been met.
    static MET: AtomicU64 = AtomicU64::new(0);

    impl Plan {
        fn of(text: &str) -> Option<Self> {
            let mut parts = text.split(':');
            let point = match parts.next()? {
                "append_before_send" => FailPoint::BeforeSend,
                "append_after_send" => FailPoint::AfterSend,
                "append_after_commit" => FailPoint::AfterCommit,
                "transfer_carried" => FailPoint::Carried,
                "transfer_filled" => FailPoint::Filled,
                "transfer_proven" => FailPoint::Proven,
                "transfer_sealed" => FailPoint::Sealed,
                "transfer_opened" => FailPoint::Opened,
                "rotation_rewrapped" => FailPoint::Rewrapped,
                _ => return None,
            };
            let time = parts.next()?.parse().ok().filter(|time| *time > 0)?;
            let act = match parts.next() {
                None => Act::Abort,
                Some("stop") => Act::Stop,
                Some(other) => match other.split_once('=')? {
                    ("hold", file) => Act::Hold(file.into()),
                    ("slow", file) => Act::Slow(file.into()),
                    _ => return None,
                },
            };
            Some(Self { point, time, act })
        }

        /// Whether it acts when its point is met for this time.
        fn is_due(&self, time: u64) -> bool {
            match self.act {
                Act::Slow(_) => time >= self.time,
                Act::Abort | Act::Stop | Act::Hold(_) => time == self.time,
            }
        }

        fn act(&self) {
            match &self.act {
                Act::Abort => {
                    say(&format!("fail point {:?}: aborting", self.point));
                    abort();
                }
                Act::Stop => {
                    say(&format!("fail point {:?}: stopping", self.point));
                    // The shell is our child; with it gone and us continued, we go on.
                    let _ = Command::new("sh").args(["-c", "kill -STOP $PPID"]).status();
                    say(&format!("fail point {:?}: going on", self.point));
                }
                Act::Hold(file) => {
                    say(&format!("fail point {:?}: holding", self.point));
                    tokio::task::block_in_place(|| {
                        while file.exists() {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    });
                }
                Act::Slow(file) => {
                    let text = std::fs::read_to_string(file).unwrap_or_default();
                    if let Ok(wait_ms) = text.trim().parse() {
                        let wait = Duration::from_millis(wait_ms);
                        tokio::task::block_in_place(|| std::thread::sleep(wait));
                    }
                }
            }
        }
    }

    impl FailPoint {
        /// The plan, if it is for this point and now is the time.
        fn plan(self) -> Option<&'static Plan> {
            let plan = PLAN.as_ref().filter(|plan| plan.point == self)?;
            let time = MET.fetch_add(1, Ordering::SeqCst) + 1;
            plan.is_due(time).then_some(plan)
        }

        /// Acts here, where that was asked for.
        pub fn hit(self) {
            if let Some(plan) = self.plan() {
                plan.act();
            }
        }

        /// Does the work, and acts in the midst of it, where that was asked for: a moment
        /// after it was sent, which is another one each time.
        pub async fn hit_during<T>(self, work: impl Future<Output = T> + Send) -> T {
            let Some(plan) = self.plan() else {
                return work.await;
            };
            let mut work = pin!(work);
            let moment = Duration::from_micros(u64::from(std::process::id()) % 10 * 200);
            let done = tokio::time::timeout(moment, &mut work).await;
            plan.act();
            match done {
                Ok(done) => done,
                Err(_under_way) => work.await,
            }
        }
    }

    fn say(text: &str) {
        // Nobody may be reading; it dies all the same.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_points_are_taken() {
            let plan = |point, time, act| Some(Plan { point, time, act });
            for (text, expected) in [
                (
                    "append_before_send:1",
                    plan(FailPoint::BeforeSend, 1, Act::Abort),
                ),
                (
                    "append_after_send:20:stop",
                    plan(FailPoint::AfterSend, 20, Act::Stop),
                ),
                (
                    "append_after_commit:3",
                    plan(FailPoint::AfterCommit, 3, Act::Abort),
                ),
                (
                    "append_before_send:2:hold=/a",
                    plan(FailPoint::BeforeSend, 2, Act::Hold("/a".into())),
                ),
                (
                    "append_after_send:1:slow=/a",
                    plan(FailPoint::AfterSend, 1, Act::Slow("/a".into())),
                ),
                ("append_after_commit", None),
                ("append_after_commit:0", None),
                ("append_after_commit:1:go", None),
                ("append_after_commit:1:go=/a", None),
                ("elsewhere:1", None),
            ] {
                assert_eq!(Plan::of(text), expected, "{text}");
            }
        }
    }
}
