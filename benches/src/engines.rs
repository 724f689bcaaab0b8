//! hako against podman: a whole command, from an image to a removed container.

use hako_tests::{image, install::Hako};

use crate::{
    measure::{Contestant, take_turns},
    peers::{self, Podman},
    report::Table,
};

/// `run --rm --network none busybox true`.
pub(crate) fn run() -> Result<Table, String> {
    const WORDS: &[&str] = &["run", "--rm", "--network", "none", "busybox:test", "true"];
    if peers::ours("HAKO_BIN").is_none() {
        return Err("HAKO_BIN names no program".to_owned());
    }
    let hako = Hako::with_busybox();
    let run_hako = hako.caller();
    let mut contestants = vec![Contestant::new("hako", move |_| run_hako(WORDS))];
    let podman = Podman::find();
    if let Some(podman) = &podman {
        let archive = image::busybox_archive().to_string_lossy().into_owned();
        peers::prepare(&mut podman.command(&["load", "-i", &archive]))?;
        // podman gives an archive's short names a host of its own.
        for runtime in ["crun", "runc"] {
            let call = podman.caller();
            contestants.push(Contestant::new(&format!("podman ({runtime})"), move |_| {
                let words =
                    [&["--runtime", runtime, "run", "--pull", "never"], &WORDS[1..]].concat();
                call(&words)
            }));
        }
    }
    let mut table = Table::of_costs(&take_turns(&contestants, 15)?);
    if podman.is_none() {
        table.note("podman is not installed".to_owned());
    }
    Ok(table)
}
