//! Child processes that end when the test process does, whatever ended it.
//!
//! Linux sends a child the signal of `PR_SET_PDEATHSIG` when the *thread* that spawned it ends, and
//! threads of tests end early. So one thread, which lives as long as the process, spawns them all.
//! Elsewhere children are ended by their owners' `Drop`; an abandoned PostgreSQL is stopped by the
//! next run's sweep.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(any(target_os = "linux", target_os = "android"))]
use nix::sys::signal::{self, SigHandler};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Order {
    command: Command,
    started: mpsc::Sender<io::Result<Child>>,
}

static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, incoming) = mpsc::channel::<Order>();
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            // The sender is a static, so this loop ends with the process.
            for mut order in incoming {
                // Whoever no longer waits for the child lost it by a panic; nothing to tell them.
                let _ = order.started.send(order.command.spawn());
            }
        })
        .expect("a thread that spawns the children");
    orders
});

/// Spawns `command` in a process group of its own (so that Ctrl-C reaches it through us), to be
/// sent `at_our_death` when the test process ends.
pub fn spawn(mut command: Command, at_our_death: Signal) -> io::Result<Child> {
    command.process_group(0);
    end_with_us(&mut command, at_our_death);
    let (started, answer) = mpsc::channel();
    SPAWNER
        .send(Order { command, started })
        .expect("the spawner lives as long as the process");
    answer.recv().expect("the spawner answers every order")
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(unsafe_code)]
fn end_with_us(command: &mut Command, at_our_death: Signal) {
    let parent = Pid::this();
    // SAFETY: the closure runs between fork and exec; it makes three system calls, allocates
    // nothing and takes no lock. It runs after the change of user, which would undo the setting.
    unsafe {
        command.pre_exec(move || {
            // A shell may have started us with the signal ignored, which a child inherits: it would
            // be lost on a child that has not yet installed its handler.
            if at_our_death != Signal::SIGKILL {
                signal::signal(at_our_death, SigHandler::SigDfl)?;
            }
            nix::sys::prctl::set_pdeathsig(at_our_death)?;
            if Pid::parent() != parent {
                return Err(io::ErrorKind::BrokenPipe.into()); // we died before the call
            }
            Ok(())
        });
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn end_with_us(_command: &mut Command, _at_our_death: Signal) {}

/// Sends a signal to a child that has not been waited for yet, so its id is still its own.
pub fn signal(child: &Child, signal: Signal) {
    // It may have ended a moment ago; then there is nothing to signal, and waiting will tell.
    signal_id(child.id(), signal);
}

/// Sends a signal to a child by its id, for tests whose server is busy elsewhere; it must not have
/// been waited for yet.
pub fn signal_id(id: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(id).expect("a process id fits i32"));
    let _ = kill(pid, signal);
}

/// Waits, blocking the thread, until the child ends; `None` if it still runs at the limit.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the state of a child of ours") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
