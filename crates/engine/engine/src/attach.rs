//! Being attached to a running container.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use hako_monitor::{Client, ClientError, Exit, Request, Streams, client::Received};
use hako_sys::{Errno, tty::WindowSize};

use crate::{Attachment, Container, Engine, Error, Result, start::reap};

impl Engine {
    /// Attaches to a running container.
    pub fn attach(&self, container: &Container, streams: Streams) -> Result<Attachment> {
        if !self.monitor_lives(&container.id)? {
            return Err(Error::NotRunning(container.id.clone()));
        }
        let mut client = Client::connect(&self.places.run_dir(&container.id))?;
        // Who only waits says nothing: it may come while the monitor is going.
        if streams != Streams::default() {
            client.send(&Request::Attach(streams))?;
        }
        Ok(Attachment { client, container: container.clone(), pid: 0, monitor: None })
    }

    /// Ends an attachment whose container has ended: removes it if it was to be removed (`--rm`)
    /// and this side owned that.
    pub fn finish(&self, mut attachment: Attachment) -> Result<()> {
        if attachment.container.record.auto_remove {
            self.remove_ended(&attachment.container)?;
            match attachment.client.send(&Request::Cleaned) {
                // It did not wait for us for ever, and has cleaned up by itself.
                Err(ClientError::Socket { source: Errno::EPIPE | Errno::ECONNRESET, .. }) => {}
                sent => sent?,
            }
        }
        match &mut attachment.monitor {
            Some(monitor) => reap(monitor),
            None => Ok(()),
        }
    }
}

impl Attachment {
    /// The next event, waiting for it for at most `timeout` (without: as long as it takes).
    pub fn receive(&mut self, timeout: Option<Duration>) -> Result<Received<'_>> {
        Ok(self.client.receive(timeout)?)
    }

    /// The next event if it is there already.
    pub fn try_receive(&mut self) -> Result<Received<'_>> {
        Ok(self.client.try_receive()?)
    }

    /// How many bytes of stdin can be sent now.
    pub fn stdin_room(&self) -> usize {
        self.client.stdin_room()
    }

    /// Sends bytes to the container's stdin, at most [`stdin_room`](Self::stdin_room).
    pub fn send_stdin(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.client.send(&Request::Stdin(bytes))?)
    }

    /// There is no more stdin.
    pub fn close_stdin(&mut self) -> Result<()> {
        Ok(self.client.send(&Request::StdinEof)?)
    }

    /// The terminal has another size.
    pub fn resize(&mut self, size: WindowSize) -> Result<()> {
        Ok(self.client.send(&Request::Resize(size))?)
    }

    /// Sends a signal to the container's first process.
    pub fn signal(&mut self, signal: i32) -> Result<()> {
        Ok(self.client.send(&Request::Signal(signal))?)
    }

    /// Waits for the container's end, and hands its output to nobody.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<Exit>> {
        let deadline = timeout.map(|t| std::time::Instant::now() + t);
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(std::time::Instant::now()));
            match self.client.receive(left)? {
                Received::Event(hako_monitor::Event::Exited(exit)) => return Ok(Some(exit)),
                Received::Event(_) => {}
                Received::Nothing => return Ok(None),
                Received::End => return Err(Error::MonitorLost(self.container.id.clone())),
            }
        }
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}
