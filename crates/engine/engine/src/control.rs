//! Signals, stopping and waiting.

use std::time::Duration;

use hako_monitor::{Exit, Streams};

use crate::{Attachment, Container, Engine, Error, Result, Status};

/// The number that is the same on every architecture.
pub(crate) const SIGKILL: i32 = 9;

/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether a monitor that cannot be talked to yet, or any more, is there.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// Sends a signal to the container's first process.
    pub fn kill(&self, container: &Container, signal: i32) -> Result<()> {
        if !self.monitor_lives(&container.id)? {
            return Err(Error::NotRunning(container.id.clone()));
        }
        match hako_runtime::kill(&self.places.runtime_root(), &container.id, signal) {
            Err(hako_runtime::Error::NotFound(_) | hako_runtime::Error::State { .. }) => {
                Err(Error::NotRunning(container.id.clone()))
            }
            killed => Ok(killed?),
        }
    }

    /// Asks the container to end, and kills it if it has not after `timeout` (`None`: waits for
    /// ever). Succeeds if it does not run.
    pub fn stop(
        &self,
        container: &Container,
        signal: Option<i32>,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let Some(mut attachment) = self.watch(container)? else { return Ok(()) };
        let signal = match signal {
            Some(signal) => signal,
            None => hako_bundle::stop_signal(&container.record.options, &container.record.config)?,
        };
        match self.kill(container, signal) {
            Err(Error::NotRunning(_)) => {}
            killed => {
                killed?;
                if attachment.wait(timeout)?.is_some() {
                    return Ok(());
                }
                self.end(container, &mut attachment)?;
            }
        }
        Ok(())
    }

    /// Kills the container and waits until it has ended. Succeeds if it does not run.
    pub(crate) fn kill_and_wait(&self, container: &Container) -> Result<()> {
        match self.watch(container)? {
            Some(mut attachment) => self.end(container, &mut attachment),
            None => Ok(()),
        }
    }

    fn end(&self, container: &Container, attachment: &mut Attachment) -> Result<()> {
        match self.kill(container, SIGKILL) {
            Err(Error::NotRunning(_)) => return Ok(()),
            killed => killed?,
        }
        match attachment.wait(Some(KILLED_WITHIN)) {
            Ok(Some(_)) | Err(Error::MonitorLost(_)) => Ok(()),
            Ok(None) => Err(Error::Busy(container.id.clone())),
            Err(e) => Err(e),
        }
    }

    /// An attachment that only waits; `None` if the container does not run.
    fn watch(&self, container: &Container) -> Result<Option<Attachment>> {
        match self.attach(container, Streams::default()) {
            Ok(attachment) => Ok(Some(attachment)),
            Err(Error::NotRunning(_)) => Ok(None),
            // It ended between the look at its lock and the connection.
            Err(Error::Client(hako_monitor::ClientError::NotRunning { .. })) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits until the container does not run, and returns how it ended: 0 for one that never was
    /// started, as Docker says of it.
    pub fn wait(&self, container: &Container) -> Result<Exit> {
        loop {
            if let Some(mut attachment) = self.watch(container)? {
                match attachment.wait(None) {
                    Ok(Some(exit)) => return Ok(exit),
                    Ok(None) | Err(Error::MonitorLost(_)) => {}
                    Err(e) => return Err(e),
                }
            }
            match self.status(container)? {
                Status::Exited(record) | Status::Created(Some(record)) => return Ok(record.exit),
                // Without a row it is gone, and with it what was known of its end.
                Status::Created(None) => {
                    return self.find(&container.id).map(|_| Exit::default());
                }
                Status::Running(_) => {
                    self.find(&container.id)?;
                    std::thread::sleep(POLL_INTERVAL);
                }
            }
        }
    }
}
