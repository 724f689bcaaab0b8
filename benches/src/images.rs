//! Loading an archive into an empty store: hako, podman, skopeo.

use std::{fs, path::PathBuf, process::Command, rc::Rc};

use hako_tests::{
    archive::{Entry, tar},
    binary, command,
    image::{Image, pack},
    install::Hako,
    place::Place,
};

use crate::{
    disk::Disk,
    measure::{Contestant, qualify, take_turns},
    peers::Podman,
    report::Table,
};

/// Layers made of this machine's own files: real sizes, real content, no network.
const LAYERS: &[&[&str]] = &[
    &["/usr/bin", "/etc"],
    &["/usr/share/doc", "/usr/share/locale"],
    &["/usr/lib/x86_64-linux-gnu"],
];

/// How much of each tree is taken, so that the archive is some hundred megabytes on any machine.
const LAYER_BYTES_MAX: u64 = 120 << 20;

/// Small (alpine where the data is there) and big.
pub(crate) fn load() -> Result<Table, String> {
    let place = Rc::new(Place::new("archives"));
    let mut table = Table::new(&[]);
    match binary::find_data("archives/alpine-310.tar.gz") {
        Some(path) => table.group("alpine 3.10 (gzip, 5.6 MB)", contest(&path, 7)?),
        None => table.note("no alpine archive: set HAKO_TEST_DATA".to_owned()),
    }
    let (path, bytes, files) = big(&place)?;
    let name = format!("big ({} MB, {files} files)", bytes >> 20);
    table.group(&name, contest(&path, 3)?);
    Ok(table)
}

fn contest(archive: &std::path::Path, rounds: u32) -> Result<Table, String> {
    let archive = archive.to_string_lossy().into_owned();
    let mut contestants = Vec::new();

    // Places outlive the file systems that are mounted in them.
    let (hako, place) = (Hako::new(), Place::new("skopeo"));
    let (call, path) = (hako.caller(), archive.clone());
    contestants
        .push(on_disk(&hako.root(), "hako load", move |_| call(&["load", "-q", "-i", &path]))?);
    let podman = Podman::find();
    if let Some(podman) = &podman {
        let (call, path) = (podman.caller(), archive.clone());
        contestants.push(on_disk(&podman.root(), "podman load", move |_| {
            call(&["load", "-q", "-i", &path])
        })?);
    }
    if let Some(skopeo) = command::find("skopeo") {
        let (root, temporary) = (place.join("oci"), place.path().to_owned());
        let target = format!("oci:{}:x", root.join("layout").display());
        contestants.push(on_disk(&root, "skopeo copy to oci:", move |_| {
            let mut command = Command::new(&skopeo);
            command.args(["--insecure-policy", "copy", "-q", &format!("docker-archive:{archive}")]);
            command.arg(&target).env("TMPDIR", &temporary);
            command
        })?);
    }
    let (contestants, notes) = qualify(contestants);
    let mut table = Table::of_costs(&take_turns(&contestants, rounds)?);
    for note in notes {
        table.note(note);
    }
    Ok(table)
}

/// A contestant whose store at `root` is a file system of its own.
fn on_disk(
    root: &std::path::Path,
    name: &str,
    command: impl Fn(u32) -> Command + 'static,
) -> Result<Contestant, String> {
    let disk = Disk::at(root)?;
    let contestant = Contestant::new(name, command);
    Ok(contestant.after(move |_| disk.renew().unwrap_or_else(|error| panic!("{error}"))))
}

/// A docker archive of some hundred megabytes: path, size, number of files.
fn big(place: &Place) -> Result<(PathBuf, u64, usize), String> {
    let mut files = 0;
    let mut layers = Vec::new();
    for roots in LAYERS {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut waiting: Vec<PathBuf> = roots.iter().map(PathBuf::from).collect();
        while let Some(directory) = waiting.pop() {
            let mut listed: Vec<_> =
                fs::read_dir(&directory).into_iter().flatten().flatten().collect();
            listed.sort_by_key(fs::DirEntry::file_name);
            for entry in listed {
                let name = entry.path().to_string_lossy().trim_start_matches('/').to_owned();
                let Ok(kind) = entry.file_type() else { continue };
                if kind.is_dir() {
                    entries.push(Entry::directory(&format!("{name}/"), 0o755));
                    waiting.push(entry.path());
                } else if kind.is_file() && bytes < LAYER_BYTES_MAX && name.len() < 100 {
                    let data =
                        fs::read(entry.path()).map_err(|error| format!("{name}: {error}"))?;
                    bytes += data.len() as u64;
                    entries.push(Entry::file(&name, 0o644, data));
                }
            }
        }
        files += entries.len();
        layers.push(tar(&entries));
    }
    let bytes = pack(&Image::new("big:1", layers).docker_archive());
    let path = place.write("big.tar", &bytes);
    // What was just written must not be flushed while the first contestant is measured.
    command::run(&mut Command::new(binary::tool("sync"))).ok();
    Ok((path, bytes.len() as u64, files))
}
