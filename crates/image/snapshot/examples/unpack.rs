//! Prints how fast layers are unpacked: `cargo run --release -p hako-snapshot --example unpack --
//! LAYER...`, in a directory beneath `TMPDIR` that is removed again.
//!
//! The steps are timed apart: reading and hashing alone, applying to a directory, and the whole
//! way into a store of snapshots.

#![forbid(unsafe_code)]

use std::{
    error::Error,
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use hako_layer::{ApplyOptions, Limits, Onto};
use hako_root::Root;
use hako_snapshot::{ActiveOptions, Layer, Overlay, Snapshotter as _};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let dir = std::env::temp_dir().join(format!("hako-unpack-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = run(&paths, &dir);
    Root::open(&std::env::temp_dir())?.remove_all(dir.file_name().unwrap_or_default().as_ref())?;
    result
}

fn run(paths: &[PathBuf], dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let mut layers = Vec::new();
    for (n, path) in paths.iter().enumerate() {
        let start = Instant::now();
        let digests = hako_layer::digest(File::open(path)?, &Limits::default())?;
        report("digest", start.elapsed(), digests.tar_bytes);

        let dest = dir.join(format!("apply-{n}"));
        std::fs::create_dir(&dest)?;
        let options = ApplyOptions { onto: Onto::Base, ..ApplyOptions::default() };
        let start = Instant::now();
        let applied = hako_layer::apply(File::open(path)?, &Root::open(&dest)?, &options)?;
        report("apply", start.elapsed(), digests.tar_bytes);
        println!("  {} entries, {} of {}", applied.entries, applied.compression, path.display());
        let start = Instant::now();
        Root::open(dir)?.remove_all(format!("apply-{n}").as_ref())?;
        report("remove", start.elapsed(), digests.tar_bytes);
        let path = path.clone();
        let open = move || Ok(Box::new(File::open(&path)?) as _);
        layers.push((digests, Layer::new(applied.diff_id, Box::new(open))));
    }
    let bytes = layers.iter().map(|(digests, _)| digests.tar_bytes).sum();
    let layers: Vec<_> = layers.into_iter().map(|(_, layer)| layer).collect();
    let store = Overlay::open(&dir.join("store"))?;
    let start = Instant::now();
    let chain = store.ensure_layers(&layers)?;
    report("ensure_layers", start.elapsed(), bytes);

    let rounds = 1000;
    let start = Instant::now();
    for n in 0..rounds {
        store.prepare(&format!("key-{n}"), &chain, ActiveOptions { volatile: true })?;
    }
    println!("prepare        {:8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    let start = Instant::now();
    for n in 0..rounds {
        store.mounts(&format!("key-{n}"))?;
    }
    println!("mounts         {:8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    let start = Instant::now();
    for n in 0..rounds {
        store.view(&format!("key-{n}"))?;
    }
    println!("view           {:8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    let start = Instant::now();
    for n in 0..rounds {
        store.remove(&format!("key-{n}"))?;
    }
    println!("remove         {:8.1} us", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    Ok(())
}

fn report(what: &str, time: Duration, bytes: u64) {
    let speed = bytes as f64 / 1e6 / time.as_secs_f64();
    println!("{what:14} {:8.3} s  {speed:8.1} MB/s of tar", time.as_secs_f64());
}
