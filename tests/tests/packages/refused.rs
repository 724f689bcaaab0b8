//! What is not made, and what is said of it.

use hako_tests::{
    Case,
    archive::Entry,
    debian::{Deb, Key, Mirror, Suite},
    install::Hako,
};

use crate::debian::{SUITE, make_of, source};

const ISSUE: &str = "issue: failing well";

/// What every image without a shell has, made small.
fn lowest() -> Suite {
    let names = ["base-files", "base-passwd", "ca-certificates", "netbase", "tzdata"];
    names.iter().fold(Suite::new(SUITE), |suite, name| suite.with(&Deb::new(name, "1")))
}

fn check(debs: &[Deb], include: &str, want: &str) {
    let suite = debs.iter().fold(lowest(), |suite, deb| suite.with(deb));
    let mirror = Mirror::start(suite.files(&Key::new(1)));
    let hako = Hako::new();
    make_of(&hako, &mirror, &["--include", include, "-t", "it"]).exits(1).complains(want);
    hako.call(&["images", "-aq"]).prints("");
    let left: Vec<_> = std::fs::read_dir(hako.root().join("content/ingest"))
        .map(|all| all.flatten().collect())
        .unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

fn file(path: &str) -> Entry {
    Entry::file(path, 0o644, "x")
}

pub(crate) const CASES: &[Case] = &[
    Case::new("package-leads-out", ISSUE, "a file outside of the image is refused", || {
        check(
            &[Deb::new("evil", "1").file(file("./../../etc/x"))],
            "evil",
            "leads out of its directory",
        );
        let link = Entry::hard_link("./usr/x", "../../etc/shadow");
        check(&[Deb::new("evil", "1").file(link)], "evil", "leads out of its directory");
    }),
    Case::new("package-device", ISSUE, "a device is refused", || {
        check(
            &[Deb::new("evil", "1").file(Entry::device("./dev/sda", 8, 0))],
            "evil",
            "is a device",
        );
    }),
    Case::new("package-whiteout", ISSUE, "a file that would hide another is refused", || {
        check(&[Deb::new("evil", "1").file(file("./usr/.wh.bin"))], "evil", "is a whiteout");
    }),
    Case::new("package-overwrites", ISSUE, "a file of two packages is dpkg's error", || {
        let deb = |name| Deb::new(name, "1").file(file("./usr/x"));
        let want = "trying to overwrite '/usr/x', which is also in package aa 1";
        check(&[deb("aa"), deb("bb")], "aa,bb", want);
    }),
    Case::new("package-that-is-not", ISSUE, "a package that there is not is named", || {
        check(&[], "nothing", "nothing");
        check(&[Deb::new("aa", "1").field("Depends", "nothing (>= 2)")], "aa", "nothing (>= 2)");
    }),
    Case::new("archive-of-another", ISSUE, "an archive that another has signed is refused", || {
        let mirror = Mirror::start(lowest().files(&Key::new(2)));
        let hako = Hako::new();
        make_of(&hako, &mirror, &["--variant", "static"]).exits(1);
        hako.call(&["images", "-aq"]).prints("");
        make_of(&hako, &mirror, &["--variant", "static", "--allow-unsigned", "-q"]).ok();
    }),
    Case::new("package-cut", ISSUE, "a package that changed is refused, and nothing stays", || {
        let deb = Deb::new("aa", "1").file(file("./usr/x"));
        let mut files = lowest().with(&deb).files(&Key::new(1));
        let path = files.keys().find(|path| path.contains("aa_1")).expect("it is there").clone();
        files.get_mut(&path).expect("it is there").pop();
        let hako = Hako::new();
        let mirror = Mirror::start(files);
        make_of(&hako, &mirror, &["--include", "aa"]).exits(1).complains("aa");
        hako.call(&["images", "-aq"]).prints("");
    }),
    Case::new("from-packages-words", ISSUE, "words that make no sense are refused at once", || {
        let hako = Hako::new();
        let make = |words: &[&str]| hako.call(&[&["image", "from-packages"], words].concat());
        make(&[]).exits(1).complains("--suite is missing");
        make(&["--suite", "a", "--variant", "big"]).complains("unknown variant \"big\"");
        make(&["--suite", "../a"]).exits(1).complains("is no suite's name");
        make(&["--suite", "a", "--include", "a b"]).exits(1).complains("--include");
        make(&["--suite", "a", "--locked"]).exits(1).complains("--locked needs --lock FILE");
        make(&["--suite", "a", "--cmd", "[1]"]).complains("is no array of words");
        make(&["--suite", "no-such-suite"]).exits(1).complains("no-such-suite");
        hako.call(&["run", "--rm", "deb:a/"]).exits(125).complains("is no name of packages");
        hako.call(&["run", "--rm", "--pull", "never", "deb:a/bb"])
            .exits(125)
            .complains("No such image");
        let mirror = Mirror::start(lowest().files(&Key::new(1)));
        let words = source(&hako, &mirror);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let lock = hako.place().join("lock");
        let lock = lock.to_string_lossy();
        let locked = [&words[..], &["--variant", "static", "--lock", &lock, "--locked"]].concat();
        make(&locked).exits(1).complains("No such file or directory");
    }),
];
