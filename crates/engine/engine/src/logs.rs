//! What a container printed.

pub use hako_monitor::log::{Entry, Follow, Reader, Stream, Window};

use crate::{Container, Engine, Error, Result};

impl Engine {
    /// Reads the log of a container: what `window` selects, and with `follow` what comes until the
    /// container ends.
    pub fn logs(&self, container: &Container, window: Window, follow: bool) -> Result<Reader> {
        if container.record.no_log {
            return Err(Error::Unsupported(
                "configured logging driver does not support reading".into(),
            ));
        }
        let alive = follow
            .then(|| self.places.run_dir(&container.id).join(hako_monitor::config::LOCK_NAME));
        Ok(Reader::open(&self.log_path(&container.id), window, Follow { lock: alive })?)
    }
}
