//! What can go wrong on the host's side of a guest run.

use std::io;
use std::path::{Path, PathBuf};

/// A guest run that did not come to results.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// This host lacks something: the run is skipped, unless it was required.
    #[error("{what}: {why}")]
    Unavailable { what: String, why: String },
    #[error("{call} {}: {source}", path.display())]
    Io { call: &'static str, path: PathBuf, source: io::Error },
    #[error("`{command}` failed ({status}): {stderr}")]
    Command { command: String, status: String, stderr: String },
    #[error("{0}")]
    Usage(String),
    /// The guest ended, or was ended, before it had run every job.
    #[error("the guest {what}; its console ends with:\n{console}")]
    Guest { what: String, console: String },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Adds call and path to an I/O error.
pub(crate) trait At<T> {
    fn at(self, call: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, call: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { call, path: path.to_owned(), source })
    }
}

/// Runs a program to its end and returns its standard output.
pub(crate) fn output(command: &mut std::process::Command) -> Result<Vec<u8>> {
    let done = command.output().at("run", Path::new(command.get_program()))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    Err(Error::Command {
        command: format!("{command:?}"),
        status: done.status.to_string(),
        stderr: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
    })
}
