//! The layers of an image on their way from an archive into the content store.

use std::{
    io::{self, Read},
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use hako_content::Lease;
use hako_oci::{Descriptor, Digest};

use crate::{
    Progress, Result,
    archive::Contents,
    layer,
    layout::{Candidate, LayerFile},
    progress::Told,
};

/// Two at once: while one waits for the disk, the other hashes.
const THREADS: usize = 2;

/// What of a layer is known.
#[derive(Debug, Clone)]
enum State {
    Waiting,
    /// As the blob of this digest.
    Stored(Digest),
    Failed,
}

/// Stores layers, and tells those who unpack them which are stored.
pub(crate) struct Storing<'a> {
    contents: &'a Contents,
    lease: &'a Lease,
    pub(crate) layers: &'a [LayerFile],
    pub(crate) diff_ids: &'a [Digest],
    progress: Option<&'a Progress>,
    states: Mutex<Vec<State>>,
    changed: Condvar,
}

impl<'a> Storing<'a> {
    pub(crate) fn new(
        contents: &'a Contents,
        lease: &'a Lease,
        found: &'a Candidate,
        progress: Option<&'a Progress>,
    ) -> Storing<'a> {
        let (layers, diff_ids) = (&found.layers[..], &found.config.rootfs.diff_ids[..]);
        let states = Mutex::new(vec![State::Waiting; layers.len()]);
        let changed = Condvar::new();
        Storing { contents, lease, layers, diff_ids, progress, states, changed }
    }

    /// Stores all of them, and says what they are.
    pub(crate) fn run(&self) -> Result<Vec<Descriptor>> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Descriptor)>> {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some(file), Some(diff_id)) =
                    (self.layers.get(index), self.diff_ids.get(index))
                else {
                    return Ok(done);
                };
                match layer::put(self.contents, self.lease, index, file, diff_id, self.progress) {
                    Ok(descriptor) => {
                        self.set(index, &State::Stored(descriptor.digest.clone()));
                        done.push((index, descriptor));
                    }
                    Err(e) => {
                        // The other thread need not begin what will be thrown away.
                        next.store(self.layers.len(), Ordering::Relaxed);
                        (0..self.layers.len()).for_each(|index| self.set(index, &State::Failed));
                        return Err(e);
                    }
                }
            }
        };
        let done = thread::scope(|scope| {
            let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done = done.and_then(|mut done| {
                    done.extend(other?);
                    Ok(done)
                });
            }
            done
        });
        let mut done = done?;
        done.sort_by_key(|(index, _)| *index);
        Ok(done.into_iter().map(|(_, descriptor)| descriptor).collect())
    }

    /// Opens a layer's content in the archive, or where it is stored.
    pub(crate) fn open(&self, index: usize) -> io::Result<Box<dyn Read + Send>> {
        let found = match self.contents.find(&self.layers[index].path, self.lease) {
            Ok(Some(found)) => found,
            Ok(None) => return Err(io::ErrorKind::NotFound.into()),
            Err(e) => return Err(io::Error::other(e)),
        };
        Ok(match self.progress {
            Some(progress) => {
                let diff_id = self.diff_ids[index].clone();
                Box::new(Told::new(found.reader, progress.clone(), diff_id, found.size))
            }
            None => found.reader,
        })
    }

    /// Waits until a layer is stored that may be its own tar, and says as what.
    pub(crate) fn wait(&self, index: usize) -> io::Result<Option<Digest>> {
        let (file, diff_id) = (&self.layers[index], &self.diff_ids[index]);
        let is_plain = layer::is_plain(self.contents, self.lease, file, diff_id);
        if !is_plain.map_err(io::Error::other)? {
            return Ok(None);
        }
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &states[index] {
                State::Stored(blob) => return Ok(Some(blob.clone())),
                State::Failed => return Err(io::Error::other("it could not be stored")),
                State::Waiting => {}
            }
            states = self.changed.wait(states).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is stored stays so.
    fn set(&self, index: usize, state: &State) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(states[index], State::Stored(_)) {
            states[index] = state.clone();
        }
        self.changed.notify_all();
    }
}
