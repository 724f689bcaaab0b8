//! The suite of every snapshotter, for the overlay snapshotter, and what is its own.

use hako_snapshot::{Error, Overlay};

hako_snapshot::testsuite!(overlay, |dir| Ok::<_, Error>(Overlay::open(dir).unwrap()));

/// A power cut loses what was not yet on disk: a file may come back empty or short. That must not
/// pass for a snapshot over nothing, and does not keep others from being collected.
#[test]
fn a_chain_that_was_cut_off_is_no_chain() {
    use hako_snapshot::{ActiveOptions, Chain, Snapshotter as _};

    let dir = tempfile::tempdir().unwrap();
    let store = Overlay::open(dir.path()).unwrap();
    let options = ActiveOptions { volatile: true };
    store.prepare("k", &Chain::default(), options).unwrap();
    let chain = dir.path().join("active/k/chain");
    let whole = std::fs::read(&chain).unwrap();
    store.mounts("k").unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&chain, &whole[..cut]).unwrap();
        assert!(matches!(store.mounts("k"), Err(Error::Broken(_))), "{cut}");
    }
    store.gc(&mut || Ok(Vec::new())).unwrap();
    store.remove("k").unwrap();
    assert!(store.keys().unwrap().is_empty());
}

/// In a user namespace root is an ordinary user: marks are in `user.overlay.*`, and no devices can
/// be made. The suite runs again there, in a child of this binary.
#[test]
fn the_suite_passes_in_a_user_namespace() {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let probe = std::process::Command::new("unshare").args(unshare).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIP the_suite_passes_in_a_user_namespace: no unshare, or no namespaces");
        return;
    }
    let output = std::process::Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .arg("overlay::")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("overlay::bases_are_complete ... ok"), "{text}");
}
