//! The harness of the integration tests.
//!
//! A surface (`tests/<name>.rs`) is a table of [`Case`]s and a `main` that hands it to [`run`]. The
//! harness moves itself into fresh mount, PID, cgroup, network, UTS and IPC namespaces first
//! ([`sandbox`]), so that whatever a test leaves is seen ([`leak`]), and is gone when the run ends.
//!
//! | variable | means |
//! |---|---|
//! | `HAKO_BIN`, `HAKO_RUNC_BIN` | the binaries to drive; else those beside the test's own target directory |
//! | `HAKO_TEST_RUNTIME` | the runtime under test: `hako-runc` (default), `runc`, `crun`, or a path |
//! | `HAKO_TEST_DATA` | foreign test data; else `../shared/data` beside the workspace |
//! | `HAKO_TEST_EVERY_ROW` | run also the rows that this runtime is known to fail |
//! | `HAKO_TEST_JOBS` | how many tests run at once |
//! | `HAKO_TEST_SANDBOX=0` | stay in the caller's namespaces (for a debugger) |

#![forbid(unsafe_code)]

pub mod archive;
pub mod binary;
pub mod bundle;
pub mod caller;
pub mod command;
pub mod debian;
pub mod image;
pub mod install;
pub mod kernel;
pub mod leak;
pub mod place;
pub mod pty;
pub mod registry;
pub mod runner;
pub mod runtime;
pub mod sandbox;

pub use caller::Caller;
pub use runner::{Case, Skip, run};

/// Ends the test as not runnable here: counted and listed, neither passed nor failed.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {
        std::panic::panic_any($crate::Skip(format!($($reason)*)))
    };
}
