//! Whole ways from a signed archive to verified packages, over HTTP on loopback and from files.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, sync::Mutex};

use hako_deb::{
    Archive, Base, Cache, Deb, Error, Given, Method, Net, Request, Selection, Settings, Sources,
};
use hako_tests::{
    debian::{self, Key, Mirror, Suite},
    registry::Reply,
};

/// A machine with a cache and a keyring.
struct Machine {
    dir: tempfile::TempDir,
    cache: Cache,
    settings: Settings,
}

impl Machine {
    fn new() -> Machine {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.gpg"), Key::new(1).keyring()).unwrap();
        let cache = Cache::open(&dir.path().join("cache")).unwrap();
        Machine { dir, cache, settings: Settings::default() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn given(&self, uri: &str, suites: &[&str]) -> Given {
        Given {
            mirrors: vec![uri.to_owned()],
            suites: suites.iter().map(|s| (*s).to_owned()).collect(),
            components: vec!["main".into()],
            keyrings: vec![self.path().join("key.gpg")],
            trusted: false,
        }
    }

    fn net(&self) -> Net {
        Net::new(Method::Direct, &self.settings, self.path()).unwrap()
    }

    fn open(&self, given: &Given, architecture: &str) -> Result<Archive, Error> {
        let sources = Sources::given(given, self.settings.clone())?;
        Archive::open(&self.cache, &self.net(), &sources, architecture)
    }

    fn select(&self, uri: &str, include: &str) -> Result<Selection, Error> {
        self.open(&self.given(uri, &["test"]), "amd64")?.select(&request(include))
    }

    fn fetch(&self, selection: &Selection) -> Result<Vec<std::path::PathBuf>, Error> {
        hako_deb::fetch(&self.cache, &self.net(), selection, &[], &|_, _| {})
    }
}

fn request(include: &str) -> Request {
    let include = include.split_ascii_whitespace().map(|name| name.parse().unwrap()).collect();
    Request { include, base: Base::Nothing, recommends: false }
}

fn suite() -> Suite {
    Suite::new("test")
        .with(&debian::Deb::new("a", "1.0").field("Depends", "b (>= 2)").script("postinst", "x"))
        .with(&debian::Deb::new("b", "2.0~rc1+dfsg-1"))
        .with(&debian::Deb::new("b", "2.0-1").field("Architecture", "amd64"))
        .with(&debian::Deb::new("b", "3.0-1").field("Architecture", "arm64"))
}

fn names(selection: &Selection) -> Vec<String> {
    selection.packages.iter().map(|p| format!("{} {}", p.name, p.version)).collect()
}

#[test]
fn from_names_to_packages_and_again_from_the_lock() {
    let machine = Machine::new();
    let mirror = Mirror::start(suite().files(&Key::new(1)));
    let selection = machine.select(&mirror.uri(), "a").unwrap();
    assert_eq!(names(&selection), ["b 2.0-1", "a 1.0"]);
    assert_eq!(selection.date(), 1_735_689_600);
    assert_eq!(selection.packages[1].requires, [0]);

    let heard = Mutex::new([0; 2]);
    let net = machine.net();
    let watch = |n: usize, bytes: u64| heard.lock().unwrap()[n] += bytes;
    let paths = hako_deb::fetch(&machine.cache, &net, &selection, &[], &watch).unwrap();
    let sizes: Vec<u64> = selection.packages.iter().map(|p| p.size).collect();
    assert_eq!(heard.into_inner().unwrap()[..], sizes);
    let deb = Deb::open(fs::File::open(&paths[1]).unwrap()).unwrap();
    assert_eq!(deb.control().package(), "a");
    assert!(deb.member("postinst").is_some());

    // Again: one question, and nothing is fetched.
    let before = mirror.server.seen().len();
    assert_eq!(machine.select(&mirror.uri(), "a").unwrap(), selection);
    machine.fetch(&selection).unwrap();
    let asked: Vec<String> = mirror.server.seen()[before..].iter().map(|r| r.line()).collect();
    assert_eq!(asked, ["GET /dists/test/InRelease"]);

    // From the lock, on another machine: no index at all.
    let other = Machine::new();
    let before = mirror.server.seen().len();
    let locked = Selection::from_lock(&selection.to_lock().unwrap()).unwrap();
    assert_eq!(locked, selection);
    other.fetch(&locked).unwrap();
    assert!(mirror.server.seen()[before..].iter().all(|r| r.path().starts_with("/pool/")));

    // What the mirror threw away is told about, and found where old packages are kept.
    let gone = Machine::new();
    let old = Mirror::start(suite().files(&Key::new(1)));
    mirror.replace(Suite::new("test").files(&Key::new(1)));
    let error = gone.fetch(&locked).unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
    assert!(error.to_string().contains("select anew"), "{error}");
    let kept = [old.uri() + "/"];
    hako_deb::fetch(&gone.cache, &gone.net(), &locked, &kept, &|_, _| {}).unwrap();
}

#[test]
fn ways_to_serve_an_archive() {
    let key = Key::new(1);
    let files = suite().files(&key);
    let without = |gone: &[&str]| {
        let mut files = files.clone();
        files.retain(|path, _| !gone.iter().any(|part| path.contains(part)));
        files
    };
    let cases = [
        ("as it should be", files.clone()),
        ("no digests in names", without(&["/by-hash/"])),
        ("no plain index", without(&["/Packages.gz"])),
        ("only a plain index", without(&["/by-hash/", "/Packages.gz"])),
        ("a signature beside the release", without(&["InRelease"])),
        ("no digests said", suite().field("Acquire-By-Hash", "").files(&key)),
        ("an index of all", suite().field("No-Support-for-Architecture-all", "").files(&key)),
    ];
    for (name, files) in cases {
        let machine = Machine::new();
        debian::write(&files, &machine.path().join("archive"));
        let mirror = Mirror::start(files);
        let file = format!("file:{}/archive", machine.path().display());
        for uri in [mirror.uri(), file] {
            let selection = machine.select(&uri, "a").unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(names(&selection), ["b 2.0-1", "a 1.0"], "{name}");
            machine.fetch(&selection).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

#[test]
fn other_architectures_and_suites() {
    let machine = Machine::new();
    let security = Suite::new("test-security").with(&debian::Deb::new("a", "1.0+deb1"));
    let mirror = Mirror::start(debian::together(&[&suite(), &security], &Key::new(1)));
    let given = machine.given(&mirror.uri(), &["test", "test-security"]);
    let both = machine.open(&given, "amd64").unwrap().select(&request("a")).unwrap();
    assert_eq!(names(&both), ["a 1.0+deb1"]);
    assert_eq!(both.origins[both.packages[0].origin].suite, "test-security");
    let arm = machine.open(&machine.given(&mirror.uri(), &["test"]), "arm64").unwrap();
    assert_eq!(names(&arm.select(&request("a")).unwrap()), ["b 3.0-1", "a 1.0"]);
    let error = machine.open(&given, "riscv64").unwrap_err().to_string();
    assert!(error.contains("no architecture riscv64, but all, amd64, arm64"), "{error}");
    let error = machine.select(&mirror.uri(), "nothing").unwrap_err().to_string();
    assert_eq!(error, "nothing is asked for, which no package of test provides");
}

#[test]
fn a_suite_of_the_machines_configuration() {
    let machine = Machine::new();
    let mirror = Mirror::start(suite().files(&Key::new(1)));
    let apt = machine.path().join("etc/apt/sources.list.d");
    fs::create_dir_all(&apt).unwrap();
    let key = machine.path().join("key.gpg");
    let line = format!("deb [signed-by={}] {} test main\n", key.display(), mirror.uri());
    fs::write(apt.join("test.list"), line).unwrap();
    let sources = Sources::of_machine(machine.path(), "test", machine.settings.clone()).unwrap();
    let archive = Archive::open(&machine.cache, &machine.net(), &sources, "amd64").unwrap();
    assert_eq!(names(&archive.select(&request("b")).unwrap()), ["b 2.0-1"]);
}

#[test]
fn a_lagging_mirror_does_not_turn_back_time() {
    let machine = Machine::new();
    let key = Key::new(1);
    let newer = suite().field("Date", "Thu, 02 Jan 2025 00:00:00 UTC");
    let mirror = Mirror::start(newer.with(&debian::Deb::new("a", "1.1")).files(&key));
    assert_eq!(names(&machine.select(&mirror.uri(), "a").unwrap()), ["a 1.1"]);
    mirror.replace(suite().files(&key));
    assert_eq!(names(&machine.select(&mirror.uri(), "a").unwrap()), ["a 1.1"]);
    let later = suite().field("Date", "Fri, 03 Jan 2025 00:00:00 UTC");
    mirror.replace(later.files(&key));
    assert_eq!(names(&machine.select(&mirror.uri(), "a").unwrap()), ["b 2.0-1", "a 1.0"]);
}

/// A change of an archive's files.
type Change = fn(&mut debian::Files);

fn text(files: &mut debian::Files, path: &str, change: impl Fn(String) -> String) {
    let bytes = files.remove(path).unwrap();
    files.insert(path.into(), change(String::from_utf8(bytes).unwrap()).into_bytes());
}

const IN_RELEASE: &str = "dists/test/InRelease";

#[test]
fn archives_that_lie() {
    // The name of the lie, what it does, what is said about it.
    let cases: &[(&str, Change, &str)] = &[
        (
            "a changed release",
            |f| text(f, IN_RELEASE, |t| t.replace("Components: main", "Components: evil")),
            "the content was changed",
        ),
        (
            "words before what is signed",
            |f| text(f, IN_RELEASE, |t| format!("SHA256:\n{t}")),
            "does not begin with a signed message",
        ),
        (
            "words behind what is signed",
            |f| text(f, IN_RELEASE, |t| format!("{t}\nSHA256:\n")),
            "something follows its signature",
        ),
        (
            "two messages",
            |f| text(f, IN_RELEASE, |t| t.clone() + &t),
            "something follows its signature",
        ),
        (
            "another's key",
            |f| f.extend(suite().files(&Key::new(2))),
            "which the keyring does not have",
        ),
        (
            "no signature at all",
            |f| f.retain(|path, _| !path.contains("InRelease") && !path.ends_with(".gpg")),
            "there is no signature that could be checked",
        ),
        (
            "an unsigned release for a signed one",
            |f| {
                let plain = f["dists/test/Release"].clone();
                f.insert(IN_RELEASE.into(), plain);
            },
            "does not begin with a signed message",
        ),
        (
            "a changed release beside its signature",
            |f| {
                f.remove(IN_RELEASE);
                text(f, "dists/test/Release", |t| t.replace("Suite: test", "Suite: best"));
            },
            "the content was changed",
        ),
        (
            "another suite",
            |f| {
                let other = Suite::new("oldtest").files(&Key::new(1));
                f.insert(IN_RELEASE.into(), other["dists/oldtest/InRelease"].clone());
            },
            "it is the release of oldtest, not of test",
        ),
        (
            "an expired release",
            |f| {
                let until = "Thu, 02 Jan 2025 00:00:00 UTC";
                f.extend(suite().field("Valid-Until", until).files(&Key::new(1)));
            },
            "it expired",
        ),
        (
            "a release of the future",
            |f| {
                let date = "Fri, 01 Jan 2100 00:00:00 UTC";
                f.extend(suite().field("Date", date).files(&Key::new(1)));
            },
            "it is not valid yet",
        ),
        (
            "weak digests",
            |f| {
                let weak = "Suite: test\nDate: Wed, 01 Jan 2025 00:00:00 UTC\nMD5Sum:\n x 1 y";
                f.insert(IN_RELEASE.into(), Key::new(1).sign_clear(weak).into_bytes());
            },
            "no SHA-256 digests",
        ),
        (
            "another index",
            |f| {
                for (path, bytes) in f.iter_mut().filter(|(path, _)| path.contains("binary-amd64"))
                {
                    let last = bytes.len() - 1;
                    bytes[last] ^= u8::from(path.contains("Packages") || path.contains("by-hash"));
                }
            },
            "content is sha256:",
        ),
        (
            "a longer index",
            |f| {
                for (_, bytes) in f.iter_mut().filter(|(path, _)| path.contains("binary-amd64")) {
                    bytes.push(0);
                }
            },
            "bytes, it sends",
        ),
        ("no index", |f| f.retain(|path, _| !path.contains("binary-amd64")), "it is not there"),
        ("nothing", debian::Files::clear, "is there such a suite?"),
    ];
    for (name, change, want) in cases {
        let machine = Machine::new();
        let mut files = suite().files(&Key::new(1));
        change(&mut files);
        let mirror = Mirror::start(files);
        let error = machine.select(&mirror.uri(), "a").expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
        // A lie that was told leaves nothing that would be believed later.
        mirror.replace(suite().files(&Key::new(1)));
        machine.select(&mirror.uri(), "a").unwrap_or_else(|e| panic!("after {name}: {e}"));
    }
}

#[test]
fn who_trusts_blindly_may() {
    let machine = Machine::new();
    let mut files = suite().files(&Key::new(2));
    let mirror = Mirror::start(files.clone());
    let given = Given { trusted: true, ..machine.given(&mirror.uri(), &["test"]) };
    assert!(machine.open(&given, "amd64").is_ok());
    files.retain(|path, _| !path.contains("InRelease") && !path.ends_with(".gpg"));
    mirror.replace(files);
    assert!(Machine::new().open(&given, "amd64").is_ok());
    let expired = suite().field("Valid-Until", "Thu, 02 Jan 2025 00:00:00 UTC");
    mirror.replace(expired.files(&Key::new(1)));
    let settings = Settings { check_valid_until: false, ..Settings::default() };
    Machine { settings, ..Machine::new() }.select(&mirror.uri(), "a").unwrap();
}

#[test]
fn indexes_that_lie_although_signed() {
    let with = |packages: String| {
        let mut suite = suite();
        suite.packages.insert("amd64".into(), packages);
        suite.files(&Key::new(1))
    };
    let good = suite().packages["amd64"].clone();
    let cases = [
        ("a path out", good.replace("pool/main/a_", "../../a_"), "leads out of the archive"),
        (
            "another host",
            good.replace("pool/main/a_", "http://evil/a_"),
            "leads out of the archive",
        ),
        ("no digest", good.replace("SHA256: ", "MD5sum: "), "no field SHA256"),
        ("a name out", good.replace("Package: a\n", "Package: ../a\n"), "no package's name"),
        ("no fields", "Package\n".into(), "there is no colon"),
    ];
    for (name, packages, want) in cases {
        let mirror = Mirror::start(with(packages));
        let error = Machine::new().select(&mirror.uri(), "a").expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    // It says that it becomes small, and becomes large.
    let mut bomb = with(good + &"\n".repeat(50 << 20));
    let release = String::from_utf8(bomb["dists/test/Release"].clone()).unwrap();
    let is_plain = |line: &&str| line.ends_with("main/binary-amd64/Packages");
    let line = release.lines().find(is_plain).unwrap();
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let small = release.replace(line, &format!(" {} 1000 {}", words[0], words[2]));
    bomb.insert(IN_RELEASE.into(), Key::new(1).sign_clear(&small).into_bytes());
    let error = Machine::new().select(&Mirror::start(bomb).uri(), "a").unwrap_err().to_string();
    assert!(error.contains("longer than the release says"), "{error}");
}

#[test]
fn packages_that_lie() {
    // What is answered to questions for packages, and what comes of it.
    type Answer = fn(Reply) -> Reply;
    let cases: &[(&str, Answer, &str)] = &[
        ("another", |_| Reply::new(200, "!<arch>\nother"), "it sends 13"),
        ("a changed one", changed, "content is sha256:"),
        (
            "an endless one",
            |_| Reply::with(200, hako_tests::registry::Body::Endless),
            "longer than",
        ),
        ("compressed on the way", |r| r.header("Content-Encoding", "gzip"), "unasked"),
        ("in a circle", |_| Reply::redirect("/pool/again"), "stopped after 10 redirects"),
        ("by another way", |_| Reply::redirect("file:///etc/passwd"), "is no address"),
        ("forbidden", |_| Reply::new(403, "no"), "403"),
    ];
    for (name, answer, want) in cases {
        let machine = Machine::new();
        let answer = *answer;
        let mirror = Mirror::start_with(suite().files(&Key::new(1)), move |request, honest| {
            match request.path().starts_with("/pool/") {
                true => answer(honest),
                false => honest,
            }
        });
        let selection = machine.select(&mirror.uri(), "a").unwrap();
        let error = machine.fetch(&selection).expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
        // Nothing of it stays in the way of the truth.
        let honest = Mirror::start(suite().files(&Key::new(1)));
        let again = machine.select(&honest.uri(), "a").unwrap();
        machine.fetch(&again).unwrap_or_else(|e| panic!("after {name}: {e}"));
    }
}

fn changed(honest: Reply) -> Reply {
    match honest.body {
        hako_tests::registry::Body::Bytes(mut bytes) => {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            Reply::new(honest.status, bytes)
        }
        _ => honest,
    }
}

#[test]
fn a_cut_is_mended() {
    let machine = Machine::new();
    let files = suite().files(&Key::new(1));
    let mirror = Mirror::start_with(files, |request, honest| {
        let is_first = request.path().starts_with("/pool/") && request.header("range").is_none();
        match honest.body {
            hako_tests::registry::Body::Bytes(bytes) if is_first => {
                let (half, size) = (bytes[..bytes.len() / 2].to_vec(), bytes.len() as u64);
                Reply::with(200, hako_tests::registry::Body::Cut(half, size))
            }
            body => Reply { body, ..honest },
        }
    });
    let selection = machine.select(&mirror.uri(), "a").unwrap();
    machine.fetch(&selection).unwrap();
    assert!(mirror.server.seen().iter().any(|request| request.header("range").is_some()));
}

#[test]
fn what_others_left_in_part_is_gone_on_with_or_begun_anew() {
    let machine = Machine::new();
    let mirror = Mirror::start(suite().files(&Key::new(1)));
    let selection = machine.select(&mirror.uri(), "a").unwrap();
    let package = &selection.packages[0];
    let partial = machine.path().join("cache/partial").join(package.digest.hex());
    let whole = mirror.files.lock().unwrap()[&package.filename].clone();
    for (left, from) in [(whole[..100].to_vec(), Some("bytes=100-")), (vec![7; 100], None)] {
        fs::write(&partial, left).unwrap();
        let path = machine.fetch(&selection).unwrap().remove(0);
        assert_eq!(fs::read(&path).unwrap(), whole);
        fs::remove_file(&path).unwrap();
        let seen = mirror.server.seen();
        let asked = seen.iter().rfind(|r| r.path().ends_with(&package.filename)).unwrap();
        assert_eq!(asked.header("range"), from);
    }
}

#[test]
fn credentials_are_for_their_place_only() {
    let machine = Machine::new();
    let files = suite().files(&Key::new(1));
    let other = Mirror::start(files.clone());
    let elsewhere = other.uri();
    let mirror = Mirror::start_with(files, move |request, honest| {
        // "me:x"
        match request.header("authorization") == Some("Basic bWU6eA==") {
            false => Reply::new(401, "who are you?"),
            true if request.path().starts_with("/pool/") => {
                Reply::redirect(format!("{elsewhere}{}", request.path()))
            }
            true => honest,
        }
    });
    let error = machine.select(&mirror.uri(), "a").unwrap_err().to_string();
    assert!(error.contains("unauthorized"), "{error}");
    // In the address.
    let secret = mirror.uri().replace("http://", "http://me:x@");
    let given = machine.given(&secret, &["test"]);
    let sources = Sources::given(&given, machine.settings.clone()).unwrap();
    let net = machine.net().with_logins_of(&sources);
    let archive = Archive::open(&machine.cache, &net, &sources, "amd64").unwrap();
    let selection = archive.select(&request("a")).unwrap();
    hako_deb::fetch(&machine.cache, &net, &selection, &[], &|_, _| {}).unwrap();
    assert!(other.server.seen().iter().all(|r| r.header("authorization").is_none()));
    let lock = String::from_utf8(selection.to_lock().unwrap()).unwrap();
    assert!(!lock.contains("me:x"), "{lock}");
    // In apt's file.
    let apt = Machine::new();
    fs::create_dir_all(apt.path().join("etc/apt")).unwrap();
    let line = format!("machine {} login me password x\n", mirror.uri());
    fs::write(apt.path().join("etc/apt/auth.conf"), line).unwrap();
    let again = apt.select(&mirror.uri(), "a").unwrap();
    assert_eq!(apt.fetch(&again).unwrap().len(), 2);
}

#[test]
fn apt_fetches_too() {
    if !Path::new("/usr/lib/apt/apt-helper").exists() {
        println!("SKIP apt_fetches_too: there is no apt-helper");
        return;
    }
    let in_environment =
        ["http_proxy", "HTTP_PROXY"].iter().any(|name| std::env::var_os(name).is_some());
    if in_environment || Settings::of_machine().unwrap().http_proxy.is_some() {
        println!("SKIP apt_fetches_too: apt asks a proxy, even for loopback");
        return;
    }
    let machine = Machine::new();
    let mut files = suite().files(&Key::new(1));
    files.retain(|path, _| !path.contains("InRelease"));
    let mirror = Mirror::start(files);
    let net = Net::new(Method::Apt, &machine.settings, machine.path()).unwrap();
    let given = machine.given(&mirror.uri(), &["test"]);
    let sources = Sources::given(&given, machine.settings.clone()).unwrap();
    let archive = Archive::open(&machine.cache, &net, &sources, "amd64").unwrap();
    let selection = archive.select(&request("a")).unwrap();
    hako_deb::fetch(&machine.cache, &net, &selection, &[], &|_, _| {}).unwrap();
    let agent = mirror.server.seen()[0].header("user-agent").unwrap().to_owned();
    assert!(agent.contains("APT"), "{agent}");
    let gone = Machine::new();
    mirror.replace(debian::Files::new());
    let error = hako_deb::fetch(&gone.cache, &net, &selection, &[], &|_, _| {}).unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
}

#[test]
fn an_endless_release_ends() {
    let mirror = Mirror::start_with(debian::Files::new(), |_, _| {
        Reply::with(200, hako_tests::registry::Body::Endless)
    });
    let error = Machine::new().select(&mirror.uri(), "a").unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}
