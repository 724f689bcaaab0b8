//! Layers made to attack the host that unpacks them: rows I of the project's list of attacks.

// Clippy takes only functions marked as tests for tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;

use hako_layer::{ApplyOptions, Error, Limits, Onto, apply};
use hako_sys::Errno;
use hako_tar::{Header, Kind};
use proptest::{collection::vec, prelude::*, sample::select};
use support::{Dest, entry, is_root, layer, list, options, overlay, path_of, tar_of};

const WAYS: [Onto; 2] = [Onto::Base, Onto::Directory];

/// Applies a layer both ways. It may succeed or be refused, and leaves the host alone. The tree
/// that came out where it succeeded is the answer.
fn attack(lines: &[&str]) -> Vec<Result<String, Error>> {
    WAYS.iter()
        .map(|&onto| {
            let dest = Dest::new();
            let result = dest.apply(onto, lines);
            dest.assert_untouched();
            result.map(|_| dest.list())
        })
        .collect()
}

fn refused(lines: &[&str], why: &str) {
    for result in attack(lines) {
        let e = result.expect_err(&format!("{lines:?} must be refused")).to_string();
        assert!(e.contains(why), "{lines:?}: {e:?} does not say {why:?}");
    }
}

fn harmless(lines: &[&str], want: &str) {
    for result in attack(lines) {
        assert_eq!(result.unwrap(), want, "{lines:?}");
    }
}

#[test]
fn names_that_lead_out() {
    for path in ["..", "../x", "a/../../x", "./../secret", "a/b/../../../secret"] {
        refused(&[&format!("f {path} x")], "leads out of the root");
        refused(&[&format!("d {path}")], "leads out of the root");
        refused(&[&format!("l {path} /")], "leads out of the root");
    }
    harmless(&["f /x 1", "f /../y 2", "f /./a/../../z 3"], "f x 1\nf y 2\nf z 3\n");
}

#[test]
fn cve_2025_47290_entries_replaced_between_two_entries() {
    // A directory becomes a link before something is put into it.
    for target in ["..", "/..", "../..", "/", "/proc/self/root", "../../../../../.."] {
        let link = format!("l a {target}");
        for last in ["f a/secret owned", "f a/root/x owned", "l a/secret x", "d700 a/secret"] {
            for tree in attack(&["d a", "f a/b 1", &link, last]).into_iter().flatten() {
                assert!(!tree.contains("a/secret"), "{tree}");
            }
        }
    }
    harmless(&["d a", "l a ..", "f a/secret owned"], "l a ..\nf secret owned\n");
    harmless(&["d a", "f a/b 1", "l a .", "f a/b 2", "f b 3"], "l a .\nf b 3\n");
}

#[test]
fn parents_that_are_links_out_of_the_root() {
    harmless(&["l up ..", "f up/secret owned"], "f secret owned\nl up ..\n");
    harmless(&["l up /../..", "f up/up/x 1"], "l up /../..\nf x 1\n");
    refused(&["l a b", "l b a", "f a/x 1"], "too many");
    // What is not there is made by no link.
    let results = attack(&["l out /nowhere", "f out/x owned"]);
    assert!(matches!(&results[0], Err(Error::Entry { source: Errno::ENOENT, .. })));
    assert_eq!(results[1].as_ref().unwrap(), "l out /nowhere\n");
    refused(&["f a x", "f a/b y"], "is no directory");
}

#[test]
fn files_where_links_are() {
    harmless(&["l a ../secret", "f a owned"], "f a owned\n");
    // In a layer over others, the directory must not show what the link hid.
    let results = attack(&["l a ../secret", "d700 a"]);
    let trees: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(trees, ["d700 a\n", "o700 a\n"]);
    harmless(&["l a ../secret", "l a x"], "l a x\n");
    harmless(&["l a ../secret", "p a"], "p a\n");
}

#[test]
fn hard_links_to_outside() {
    refused(&["h x ../secret"], "links out of the root");
    refused(&["h x a/../../secret"], "links out of the root");
    for target in ["/../secret", "/secret", "/etc/passwd", "secret"] {
        let results = attack(&[&format!("h x {target}")]);
        assert!(matches!(results[0], Err(Error::Link { .. })), "{target}");
        assert_eq!(results[1].as_ref().unwrap(), "", "{target}");
    }
    let through_link = attack(&["l up ..", "h x up/secret"]);
    assert!(matches!(through_link[0], Err(Error::Link { .. })));
    refused(&["d a", "h x a"], "hard link");
    refused(&["h x /"], "hard link");
}

/// The mode of a hard link to a symbolic link must not reach what that leads to.
#[test]
fn cve_2021_32760_hard_links_to_links() {
    harmless(
        &["l s ../secret", "h4777 x s", "h777 y s"],
        "l s ../secret\nl x ../secret\nl y ../secret\n",
    );
    harmless(&["l s ../secret", "h x s", "f x owned"], "l s ../secret\nf x owned\n");
}

#[test]
fn whiteouts_of_what_is_not_theirs() {
    if !is_root("whiteouts_of_what_is_not_theirs") {
        return;
    }
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh..", "a/.wh..."] {
        refused(&["d a", &format!("f {name} x")], "whiteout of nothing");
        refused(&["d a", &format!("d {name}")], "whiteout of nothing");
    }
    refused(&["f .wh.a/b x"], "is beneath a whiteout");
    refused(&["f ../.wh.secret x"], "leads out");
    harmless(&["l a ..", "f a/.wh..wh..opq"], "l a ..\n");
    for lines in [&["l a ..", "f a/.wh.secret"][..], &["f ..wh.a", "l a ..", "f a/.wh.a"]] {
        attack(lines).into_iter().for_each(|result| drop(result.unwrap()));
    }
}

/// Over an overlay whiteouts remove, and must not remove through links.
#[test]
fn whiteouts_in_an_overlay_stay_inside() {
    if !is_root("whiteouts_in_an_overlay_stay_inside") {
        return;
    }
    let lower = Dest::new();
    lower.apply(Onto::Base, &["l up ..", "l abs /", "d a", "f a/b 1", "l a/up ../.."]).unwrap();
    for lines in [
        &["f up/.wh.secret"][..],
        &["f abs/.wh.secret", "f a/.wh..wh..opq"],
        &["f up/.wh..wh..opq"],
        &["f a/up/.wh..wh..opq"],
        &["f up/.wh.root", "f .wh.up"],
    ] {
        let upper = Dest::new();
        let work = tempfile::tempdir().unwrap();
        let mounted = overlay(&[&lower.path("")], Some((&upper.path(""), work.path())));
        apply(&layer(lines)[..], &mounted, &options(Onto::Overlay)).unwrap();
        drop(mounted);
        lower.assert_untouched();
        upper.assert_untouched();
        assert_eq!(lower.list().lines().count(), 5);
    }
}

#[test]
fn the_root_is_a_directory() {
    for line in ["f / x", "f ./ x", "l ./ /etc", "h . a", "c / 1:3", "p ./a/.."] {
        refused(&[line], "is the root, and no directory");
    }
    harmless(&["d ./", "d700 /", "d ./a/.."], "");
}

#[test]
fn types_without_meaning() {
    let mut header = Header::new("volume", Kind::Other(b'V'), 0o644);
    header.size = 3;
    let tar = tar_of(&[(header, b"abc".to_vec())]);
    let e = apply(&tar[..], &Dest::new().root, &options(Onto::Base)).unwrap_err();
    assert!(matches!(e, Error::Type { type_byte: b'V', .. }), "{e}");
}

#[test]
fn names_longer_than_the_kernel_takes() {
    let long = "n".repeat(300);
    let deep = "d/".repeat(3000);
    for path in [long, format!("{deep}x"), "x/".repeat(500_000)] {
        for result in attack(&[&format!("f {path} x")]) {
            let e = result.unwrap_err();
            assert!(matches!(e, Error::Entry { source: Errno::ENAMETOOLONG, .. } | Error::Tree(_)));
        }
    }
    let target = "t".repeat(5000);
    for result in attack(&[&format!("l a {target}")]) {
        assert!(matches!(result, Err(Error::Entry { source: Errno::ENAMETOOLONG, .. })));
    }
}

fn within(limits: Limits) -> ApplyOptions {
    ApplyOptions { limits, ..options(Onto::Base) }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs() {
    let mut header = Header::new("zeros", Kind::File, 0o644);
    header.size = 64 << 20;
    let bomb = tar_of(&[(header, vec![0; 64 << 20])]);
    let blobs = [gzip(&bomb), zstd::encode_all(&bomb[..], 1).unwrap(), bomb];
    for (blob, compressed) in blobs.iter().zip([true, true, false]) {
        assert_eq!(blob.len() < 100_000, compressed);
        let dest = Dest::new();
        let limits = Limits { tar_bytes_max: 1 << 20, ..Limits::default() };
        let e = apply(&blob[..], &dest.root, &within(limits)).unwrap_err();
        assert!(matches!(e, Error::Limit { limit: 1048576, .. }), "{e}");
        let limits = Limits { content_bytes_max: 1 << 20, ..Limits::default() };
        let e = apply(&blob[..], &dest.root, &within(limits)).unwrap_err();
        assert!(matches!(e, Error::Limit { limit: 1048576, .. }), "{e}");
        let written = dest.path("zeros").metadata().map_or(0, |m| m.len());
        assert!(written <= 1 << 20, "{written}");
    }
    let many: Vec<_> = (0..100).map(|n| entry(&format!("f file-{n}"))).collect();
    let limits = Limits { entries_max: 99, ..Limits::default() };
    let e = apply(&tar_of(&many)[..], &Dest::new().root, &within(limits)).unwrap_err();
    assert!(matches!(e, Error::Limit { limit: 99, .. }), "{e}");
}

/// The end of the tar is not the end of the blob: what is broken behind it counts.
#[test]
fn truncated_concatenated_and_trailing() {
    let tar = layer(&["f a 1"]);
    let blob = gzip(&tar);
    let apply_to = |blob: &[u8]| {
        let dest = Dest::new();
        apply(blob, &dest.root, &options(Onto::Base)).map(|a| (a.diff_id, dest.list()))
    };
    let whole = apply_to(&blob).unwrap();
    assert_eq!(whole.0, hako_oci::Digest::sha256(&tar));
    for cut in [blob.len() - 1, blob.len() - 4, blob.len() - 8, blob.len() / 2, 12] {
        assert!(matches!(apply_to(&blob[..cut]), Err(Error::Stream(_))), "{cut}");
    }
    let trailing = [&blob[..], b"trailing"].concat();
    assert!(matches!(apply_to(&trailing), Err(Error::Stream(_))));
    // Two members are one tar: the second begins behind its end marker, and is hashed.
    let two = [&blob[..], &gzip(&layer(&["f b 2"]))].concat();
    let (diff_id, tree) = apply_to(&two).unwrap();
    assert_eq!(diff_id, hako_oci::Digest::sha256(&[&tar[..], &layer(&["f b 2"])].concat()));
    assert_eq!(tree, "f a 1\n");
    let padded = [&blob[..], &[0; 5000]].concat();
    assert_eq!(apply_to(&padded).unwrap().0, whole.0);
    assert!(matches!(apply_to(&tar[..700]), Err(Error::Tar(_))));
}

/// Names and targets that meet each other, and try to meet the host.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let names = vec![
        "a",
        "b",
        "a/b",
        "a/c",
        "b/a",
        "a/b/c",
        "b/c/d",
        "a/../b",
        "/a",
        "up",
        "up/a",
        "up/secret",
        "./",
        "secret",
        "x/y/z",
    ];
    let hidden = vec![
        ".wh.a",
        ".wh.b",
        "a/.wh.b",
        "a/.wh..wh..opq",
        ".wh..wh..opq",
        "up/.wh.secret",
        "b/.wh.c",
        "up/.wh..wh..opq",
        "a/b/.wh.c",
        "x/.wh.y",
    ];
    let targets = vec![
        "a",
        "b",
        "..",
        "../..",
        "/",
        "/a/b",
        "../secret",
        "up/secret",
        "/..",
        ".",
        "a/b",
        "b/../a",
    ];
    let line = prop_oneof![
        3 => select(names.clone()).prop_map(|n| format!("d {n}")),
        3 => (select(names.clone()), 0..9u8).prop_map(|(n, c)| format!("f {n} {c}")),
        2 => (select(names.clone()), select(targets.clone())).prop_map(|(n, t)| format!("l {n} {t}")),
        2 => (select(names.clone()), select(targets)).prop_map(|(n, t)| format!("h {n} {t}")),
        1 => select(names).prop_map(|n| format!("p {n}")),
        3 => select(hidden).prop_map(|n| format!("f {n}")),
    ];
    vec(line, 0..12)
}

fn as_lines(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_of_entries_leads_out(lines in lines()) {
        if is_root("no_sequence_of_entries_leads_out") {
            let _results = attack(&as_lines(&lines));
        }
    }

    /// A layer applied alone and settled shows what it shows applied over the layers below.
    #[test]
    fn alone_and_over_others_agree(base in lines(), top in lines()) {
        if !is_root("alone_and_over_others_agree") {
            return Ok(());
        }
        let below = Dest::new();
        if below.apply(Onto::Base, &as_lines(&base)).is_err() {
            return Ok(());
        }
        let empty = tempfile::tempdir().unwrap();
        let over = Dest::new();
        let work = tempfile::tempdir().unwrap();
        let mounted = overlay(&[&below.path("")], Some((&over.path(""), work.path())));
        let top = layer(&as_lines(&top));
        let over_others = apply(&top[..], &mounted, &options(Onto::Overlay));
        let seen_over = list(&path_of(&mounted));
        drop(mounted);

        let alone = Dest::new();
        let applied = apply(&top[..], &alone.root, &options(Onto::Directory));
        below.assert_untouched();
        over.assert_untouched();
        alone.assert_untouched();
        // Entries in a senseless order may be refused by the one and make sense to the other.
        let (Ok(applied), Ok(_)) = (applied, over_others) else { return Ok(()) };
        let view = overlay(&[&below.path(""), empty.path()], None);
        if hako_layer::settle(&alone.root, &view, &applied).unwrap() {
            let joined = overlay(&[&alone.path(""), &below.path("")], None);
            prop_assert_eq!(list(&path_of(&joined)), seen_over);
        }
    }
}
