//! `^C` as a wish that whoever works looks at.

use std::{
    io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use hako_engine::{
    poll::{PollFd, poll},
    signal::{self, SignalFd},
};

use crate::failure::Failure;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Sets `wish` when the user interrupts, or somebody asks this process to end. Threads that are
/// started afterwards are not interrupted themselves.
pub(crate) fn on_interrupt(wish: &Arc<AtomicBool>) -> Result<(), Failure> {
    let failed = |call| move |e| Failure::new(format!("{call}: {e}"));
    signal::block(&[SIGINT, SIGTERM]).map_err(failed("sigprocmask"))?;
    let signals = SignalFd::new(&[SIGINT, SIGTERM]).map_err(failed("signalfd"))?;
    let wish = Arc::clone(wish);
    let wait = move || {
        while poll(&mut [PollFd::readable(signals.as_fd())], None).is_ok() {
            if let Ok(Some(_)) = signals.read() {
                wish.store(true, Ordering::Relaxed);
            }
        }
    };
    let started = thread::Builder::new().name("interrupt".into()).spawn(wait);
    started.map(drop).map_err(|e: io::Error| Failure::new(format!("cannot start a thread: {e}")))
}
