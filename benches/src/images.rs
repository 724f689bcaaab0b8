//! Images: from an archive or a registry to something that can be run, used, pushed and removed.

use std::{path::PathBuf, process::Command, rc::Rc};

use hako_tests::{binary, command, install::Hako, place::Place};

use crate::{
    daemons::{Docker, Registry},
    disk::Disk,
    measure::{self, Contestant, qualify, take_turns},
    packages::{self, Packages},
    peers::{Podman, prepare},
    report::Table,
};

/// Megabytes and layers of the images.
const SIZES: &[(u64, usize)] = &[(100, 3), (600, 5)];
const ROUNDS: u32 = 3;

type Call = Box<dyn Fn(&[&str]) -> Command>;

/// The engines that are here, each with a store on a file system of its own.
struct Engines {
    // First: they are unmounted before whose they are looks for what is left.
    disks: Vec<Rc<Disk>>,
    hako: Hako,
    unpacking: Hako,
    podman: Option<Podman>,
    docker: Option<Docker>,
    /// skopeo and umoci, which have no store: a directory.
    pair: Option<(PathBuf, PathBuf, Rc<Place>)>,
}

impl Engines {
    fn start() -> Result<Self, String> {
        let (hako, unpacking, podman) = (Hako::new(), Hako::that_unpacks(), Podman::find());
        let tools = command::find("skopeo").zip(command::find("umoci"));
        let pair = tools.map(|(skopeo, umoci)| (skopeo, umoci, Rc::new(Place::new("skopeo"))));
        let mut disks = Vec::new();
        let mut roots = vec![hako.root(), unpacking.root()];
        roots.extend(podman.as_ref().map(Podman::root));
        roots.extend(pair.as_ref().map(|(.., place)| place.join("oci")));
        for root in roots {
            disks.push(Rc::new(Disk::at(&root)?));
        }
        Ok(Self { disks, hako, unpacking, podman, docker: Docker::start()?, pair })
    }

    /// Names and commands of all that have a store; hako's first.
    fn all(&self) -> Vec<(&'static str, Call)> {
        let mut all: Vec<(&str, Call)> = vec![
            ("hako", Box::new(self.hako.caller())),
            ("hako, unpacking", Box::new(self.unpacking.caller())),
        ];
        if let Some(podman) = &self.podman {
            all.push(("podman", Box::new(podman.caller())));
        }
        if let Some(docker) = &self.docker {
            all.push(("docker", Box::new(docker.caller())));
        }
        all
    }

    /// All of them doing the same with an empty store: a new file system after each round, and for
    /// a daemon, which keeps its own, the image's removal.
    fn with_empty_stores(&self, image: &str, words: &[&str]) -> Vec<Contestant> {
        let mut contestants = Vec::new();
        for (n, (name, call)) in self.all().into_iter().enumerate() {
            let mut words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            if name == "podman" && words[0] == "pull" {
                words.insert(1, "--tls-verify=false".to_owned());
            }
            let verb = format!("{name} {}", words[0]);
            let call = Rc::new(call);
            let command = Rc::clone(&call);
            let contestant = Contestant::new(&verb, move |_| {
                command(&words.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let image = image.to_owned();
            contestants.push(match self.disks.get(n).filter(|_| name != "docker") {
                Some(disk) => {
                    let disk = Rc::clone(disk);
                    contestant.after(move |_| disk.renew().unwrap_or_else(|e| panic!("{e}")))
                }
                None => contestant.after(move |_| {
                    command::run(&mut call(&["rmi", &image])).ok();
                    command::run(&mut Command::new(binary::tool("sync"))).ok();
                }),
            });
        }
        contestants
    }

    /// `skopeo copy SOURCE` into a layout, which `umoci unpack` makes a bundle of.
    fn pair(&self, source: &str) -> Option<Contestant> {
        let (skopeo, umoci, place) = self.pair.as_ref()?;
        let (root, temporary) = (place.join("oci"), place.path().to_owned());
        let script = format!(
            "'{}' --insecure-policy copy -q --src-tls-verify=false '{source}' oci:'{root}'/layout:x \
             && '{}' unpack --image '{root}'/layout:x '{root}'/bundle",
            skopeo.display(),
            umoci.display(),
            root = root.display()
        );
        let disk = Rc::clone(self.disks.last()?);
        let contestant = Contestant::new("skopeo copy, umoci unpack", move |_| {
            let mut command = Command::new(binary::tool("sh"));
            command.args(["-c", &script]).env("TMPDIR", &temporary);
            command
        });
        Some(contestant.after(move |_| disk.renew().unwrap_or_else(|e| panic!("{e}"))))
    }
}

/// Measures contestants, and says who could not take part.
fn contest(contestants: Vec<Contestant>) -> Result<Table, String> {
    let (contestants, notes) = qualify(contestants);
    let mut table = Table::of_costs(&take_turns(&contestants, ROUNDS)?);
    for note in notes {
        table.note(note);
    }
    Ok(table)
}

/// The same bench for each size of image.
fn sizes(bench: impl Fn(&Engines, &Packages) -> Result<Table, String>) -> Result<Table, String> {
    let place = Place::new("archives");
    let mut table = Table::new(&[]);
    for &(megabytes, layers) in SIZES {
        let archive = packages::archive(&place, megabytes, layers)?;
        let engines = Engines::start()?;
        table.group(&archive.title, bench(&engines, &archive)?);
    }
    table.note("the processor time of docker's daemon is not seen".to_owned());
    Ok(table)
}

/// From an archive.
pub(crate) fn load() -> Result<Table, String> {
    sizes(|engines, archive| {
        let path = archive.path.to_string_lossy();
        let mut all = engines.with_empty_stores(&archive.name, &["load", "-q", "-i", &path]);
        all.extend(engines.pair(&format!("docker-archive:{path}")));
        contest(all)
    })
}

/// Debian's registry with an archive's image in it; how it is called there.
fn served(archive: &Packages) -> Result<(Registry, String), String> {
    let registry = Registry::start()?.ok_or("docker-registry is not installed")?;
    let skopeo = command::find("skopeo").ok_or("skopeo is not installed")?;
    let name = format!("{}/{}", registry.address, archive.name);
    let mut copy = Command::new(skopeo);
    copy.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]);
    copy.arg(format!("docker-archive:{}", archive.path.display())).arg(format!("docker://{name}"));
    prepare(&mut copy)?;
    Ok((registry, name))
}

/// From a registry on loopback, compressed with gzip.
pub(crate) fn pull() -> Result<Table, String> {
    sizes(|engines, archive| {
        let (_registry, name) = served(archive)?;
        let mut all = engines.with_empty_stores(&name, &["pull", "-q", &name]);
        all.extend(engines.pair(&format!("docker://{name}")));
        contest(all)
    })
}

/// Removing what was loaded.
pub(crate) fn rmi() -> Result<Table, String> {
    sizes(|engines, archive| {
        let path = archive.path.to_string_lossy().into_owned();
        let mut contestants = Vec::new();
        for (name, call) in engines.all() {
            let call = Rc::new(call);
            let load = {
                let (call, path) = (Rc::clone(&call), path.clone());
                move || prepare(&mut call(&["load", "-q", "-i", &path]))
            };
            load()?;
            let image = if name == "podman" {
                format!("localhost/{}", archive.name)
            } else {
                archive.name.clone()
            };
            let contestant =
                Contestant::new(&format!("{name} rmi"), move |_| call(&["rmi", &image]));
            contestants.push(contestant.after(move |_| {
                load().unwrap_or_else(|error| panic!("{error}"));
                command::run(&mut Command::new(binary::tool("sync"))).ok();
            }));
        }
        contest(contestants)
    })
}

/// Pushing what the registry has.
pub(crate) fn push() -> Result<Table, String> {
    sizes(|engines, archive| {
        let (_registry, name) = served(archive)?;
        let mut contestants = Vec::new();
        for (engine, call) in engines.all() {
            let insecure: &[&str] = if engine == "podman" { &["--tls-verify=false"] } else { &[] };
            prepare(&mut call(&[&["pull", "-q"], insecure, &[name.as_str()]].concat()))?;
            let (name, words) = (name.clone(), [&["push", "-q"], insecure].concat());
            let contestant = Contestant::new(&format!("{engine} push"), move |_| {
                call(&[&words[..], &[name.as_str()]].concat())
            });
            contestants.push(contestant);
        }
        contest(contestants)
    })
}

/// A container that reads every file of its image, which the page cache has.
pub(crate) fn read() -> Result<Table, String> {
    let reader = measure::tool("readall")?;
    let mount = format!("{}:/readall:ro", reader.display());
    sizes(|engines, archive| {
        let sharing = Hako::new();
        let _disk = Disk::at(&sharing.root())?;
        let mut all = engines.all();
        // Docker's containers need more of the cgroups than the sandbox has for it.
        all.retain(|(name, _)| *name != "docker");
        all.push(("hako, another runs", Box::new(sharing.caller())));
        let contestants: Result<Vec<Contestant>, String> =
            all.into_iter().map(|(name, call)| reading(name, call, &mount, archive)).collect();
        let table = contestants.and_then(contest);
        prepare(&mut sharing.command(&["rm", "-f", "other"]))?;
        table
    })
}

fn reading(name: &str, call: Call, mount: &str, archive: &Packages) -> Result<Contestant, String> {
    prepare(&mut call(&["load", "-q", "-i", &archive.path.to_string_lossy()]))?;
    let (mount, image) = (mount.to_owned(), archive.name.clone());
    let words = move |options: &[&'static str], last: &str| -> Vec<String> {
        let words = ["--network", "none", "-v", &mount, "--entrypoint", "/readall", &image];
        let all = [&["run"], options, &words, &[last]].concat();
        all.iter().map(|&word| word.to_owned()).collect()
    };
    let run = move |words: Vec<String>| call(&words.iter().map(String::as_str).collect::<Vec<_>>());
    if name == "hako, another runs" {
        prepare(&mut run(words(&["-d", "--name", "other"], "--wait")))?;
    }
    Ok(Contestant::new(&format!("{name}: run"), move |_| run(words(&["--rm"], "/"))))
}
