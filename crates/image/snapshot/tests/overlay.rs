//! The suite of every snapshotter, for the overlay snapshotter, and what is its own.

use hako_snapshot::Overlay;

hako_snapshot::testsuite!(overlay, |dir| Overlay::open(dir).unwrap());

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
