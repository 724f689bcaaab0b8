//! Unpacking the missing layers of an image: in parallel first, in order where it must be.
//!
//! Most layers can be unpacked without knowing what is below them: whiteouts say what they hide.
//! When those below are done, directories that a layer puts files into without describing them get
//! the looks of those below (`hako_layer::settle`). A few layers need more. They link to files of a
//! lower layer, write through its symbolic links, or hide all of the root. Those are unpacked once
//! more, lowest first, onto a detached overlay mount of their parents: then the kernel makes of
//! them what unpacking all layers one after another would have made.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::DirBuilderExt as _},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use hako_layer::{Applied, ApplyOptions, Devices, Onto};
use hako_oci::Digest;
use hako_root::Root;

use crate::{
    Chain, Error, Layer, Result, Snapshotter as _,
    detached::Stack,
    lock::Named,
    overlay::{LayerRecord, Overlay, copy_attributes, write_record},
};

/// A layer that this call unpacks. Its lock is held.
struct Job<'l, 'a> {
    layer: &'l Layer<'a>,
    id: Digest,
    parent: Option<Digest>,
    _lock: Named,
}

pub(crate) fn ensure(store: &Overlay, layers: &[Layer<'_>]) -> Result<Chain> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let chain = Chain::of(&diff_ids);
    if store.has(&chain) {
        return Ok(chain);
    }
    let jobs = take_missing(store, layers, &chain)?;
    let result = run(store, &jobs);
    if result.is_err() {
        for job in &jobs {
            // What cannot be removed now is removed by the next sweep: the first error counts.
            store.discard(&store.staging_dir(&job.id)).ok();
        }
    }
    result.map(|()| chain)
}

/// Locks are taken lowest first. Chains that share a layer share all below it: so nobody waits in
/// a circle.
fn take_missing<'l, 'a>(
    store: &Overlay,
    layers: &'l [Layer<'a>],
    chain: &Chain,
) -> Result<Vec<Job<'l, 'a>>> {
    let mut jobs = Vec::new();
    let mut parent = None;
    for (layer, id) in layers.iter().zip(chain.ids()) {
        if !store.layer_dir(id).exists() {
            let lock = store.lock(id)?;
            if !store.layer_dir(id).exists() {
                let parent = parent.clone();
                jobs.push(Job { layer, id: id.clone(), parent, _lock: lock });
            }
        }
        parent = Some(id.clone());
    }
    Ok(jobs)
}

fn run(store: &Overlay, jobs: &[Job<'_, '_>]) -> Result<()> {
    let applied = unpack_apart(store, jobs)?;
    for (n, (job, mut applied)) in jobs.iter().zip(applied).enumerate() {
        if job.parent.is_some() && !fit(store, jobs, n, &applied)? {
            applied = unpack_onto_parents(store, jobs, n)?;
        }
        write_record(
            &store.staging_dir(&job.id),
            &LayerRecord {
                diff_id: job.layer.diff_id.clone(),
                parent: job.parent.clone(),
                size_bytes: applied.size_bytes,
            },
        )?;
    }
    // Once for all layers: whatever is in `layers/` survives a power cut.
    let staging = store.staging();
    let dir = fs::File::open(&staging).map_err(Error::io("open", &staging))?;
    hako_sys::fs::syncfs(dir.as_fd()).map_err(|e| Error::io("syncfs", &staging)(e.into()))?;
    for job in jobs {
        let (from, to) = (store.staging_dir(&job.id), store.layer_dir(&job.id));
        fs::rename(&from, &to).map_err(Error::io("rename", from))?;
    }
    Ok(())
}

/// Every layer for itself, as many at once as there are processors.
fn unpack_apart(store: &Overlay, jobs: &[Job<'_, '_>]) -> Result<Vec<Applied>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Applied>>>> =
        Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = unpack_one(store, job);
            let failed = result.is_err();
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(n) = jobs.iter().position(|other| std::ptr::eq(other, job)) {
                results[n] = Some(result);
            }
            if failed {
                // The others need not begin what will be thrown away.
                next.store(jobs.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // With an error somewhere, layers that were not begun have no result, and come after it or
    // before it: look for the error first.
    let (done, failed): (Vec<_>, Vec<_>) =
        results.into_iter().flatten().partition(|result| result.is_ok());
    match failed.into_iter().next() {
        Some(Err(error)) => Err(error),
        _ => done.into_iter().collect(),
    }
}

fn unpack_one(store: &Overlay, job: &Job<'_, '_>) -> Result<Applied> {
    let fs_dir = fresh_staging(store, &job.id)?;
    let onto = if job.parent.is_some() { Onto::Directory } else { Onto::Base };
    apply(store, job, &Root::open(&fs_dir)?, onto)
}

/// Makes a layer that was unpacked for itself fit those below, which are done; false where it
/// cannot.
fn fit(store: &Overlay, jobs: &[Job<'_, '_>], n: usize, applied: &Applied) -> Result<bool> {
    let job = &jobs[n];
    let lower = lower_dirs(store, jobs, n)?;
    let layer = Root::open(&store.staging_dir(&job.id).join("fs"))?;
    let settled = if applied.stands_alone() {
        // Its root can only look like that of the layer just below.
        let below = Root::open(&lower[0])?;
        hako_layer::settle(&layer, &below, applied)
    } else {
        hako_layer::settle(&layer, &store.join(&lower)?, applied)
    };
    settled.map_err(|source| Error::Layer { diff_id: job.layer.diff_id.clone(), source })
}

fn unpack_onto_parents(store: &Overlay, jobs: &[Job<'_, '_>], n: usize) -> Result<Applied> {
    let job = &jobs[n];
    let fs_dir = fresh_staging(store, &job.id)?;
    let lower = lower_dirs(store, jobs, n)?;
    let work = store.staging_dir(&job.id).join("work");
    fs::create_dir(&work).map_err(Error::io("mkdir", &work))?;
    let stack = Stack {
        lower: &lower,
        image: None,
        writable: Some((&fs_dir, &work)),
        userxattr: store.userxattr(),
    };
    let applied = apply(store, job, &stack.mount(&fs_dir)?, Onto::Overlay)?;
    if !applied.has_root {
        copy_attributes(&lower[0], &fs_dir)?;
    }
    Root::open(&store.staging_dir(&job.id))?.remove_all("work".as_ref())?;
    Ok(applied)
}

/// The directories of the layers below the `n`th job, top first.
fn lower_dirs(store: &Overlay, jobs: &[Job<'_, '_>], n: usize) -> Result<Vec<PathBuf>> {
    let mut lower = Vec::new();
    let mut parent = jobs[n].parent.clone();
    while let Some(id) = parent {
        let dir = dir_of(store, jobs, &id);
        parent = match jobs.iter().find(|other| other.id == id) {
            Some(other) => other.parent.clone(),
            None => crate::overlay::parent_of(&store.layer_dir(&id))?,
        };
        lower.push(dir);
    }
    Ok(lower)
}

fn apply(store: &Overlay, job: &Job<'_, '_>, root: &Root, onto: Onto) -> Result<Applied> {
    let expected = &job.layer.diff_id;
    let reader =
        (job.layer.open)().map_err(|source| Error::Open { diff_id: expected.clone(), source })?;
    // Who needs attributes of users cannot make devices either.
    let userxattr = store.userxattr();
    let devices = if userxattr { Devices::Omitted } else { Devices::Made };
    let options = ApplyOptions { userxattr, devices, onto, ..ApplyOptions::default() };
    let applied = hako_layer::apply(reader, root, &options)
        .map_err(|source| Error::Layer { diff_id: expected.clone(), source })?;
    if applied.diff_id != *expected {
        return Err(Error::DiffId { expected: expected.clone(), actual: applied.diff_id });
    }
    Ok(applied)
}

/// An empty `staging/<chain>/fs`; what a killed process left there is removed.
fn fresh_staging(store: &Overlay, id: &Digest) -> Result<PathBuf> {
    let dir = store.staging_dir(id);
    store.discard(&dir)?;
    fs::DirBuilder::new().mode(0o700).create(&dir).map_err(Error::io("mkdir", &dir))?;
    let fs_dir = dir.join("fs");
    let made: io::Result<()> = fs::DirBuilder::new().mode(0o755).create(&fs_dir);
    made.map_err(Error::io("mkdir", &fs_dir))?;
    Ok(fs_dir)
}

/// Where a layer's files are now: still in staging if this call unpacks it.
fn dir_of(store: &Overlay, jobs: &[Job<'_, '_>], id: &Digest) -> PathBuf {
    match jobs.iter().any(|job| job.id == *id) {
        true => store.staging_dir(id).join("fs"),
        false => store.layer_dir(id).join("fs"),
    }
}
