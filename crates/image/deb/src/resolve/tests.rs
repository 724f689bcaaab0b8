use super::*;
use crate::{Origin, archive::Place, index::Index};

/// Paragraphs of lines `name version; Field: value; ...`.
fn packages(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let digest = Digest::sha256(line.as_bytes());
        text += &format!(
            "Package: {name}\nVersion: {version}\nFilename: pool/{name}_{version}.deb\nSize: 1\n\
             SHA256: {}\n",
            digest.hex()
        );
        let mut has_architecture = false;
        for field in parts {
            has_architecture |= field.starts_with("Architecture");
            text += &format!("{field}\n");
        }
        if !has_architecture {
            text += "Architecture: amd64\n";
        }
        text.push('\n');
    }
    text
}

/// An archive of places, each with its priority.
fn archive(places: &[(u32, &[&str])]) -> Archive {
    let place = |(pin, lines): &(u32, &[&str])| Place {
        origin: Origin {
            uri: "http://a.example".into(),
            suite: "test".into(),
            components: vec!["main".into()],
            release: Digest::sha256(b""),
            date: 0,
        },
        pin: *pin,
        indexes: vec![Index::of_packages(&packages(lines), "amd64")],
    };
    Archive {
        suite: "test".into(),
        architecture: "amd64".into(),
        parts: places.iter().map(place).collect(),
    }
}

fn request(include: &str) -> Request {
    let (include, recommends) = match include.strip_suffix(" +recommends") {
        Some(rest) => (rest, true),
        None => (include, false),
    };
    let (include, base) = match include.strip_suffix(" +essential") {
        Some(rest) => (rest, Base::Essential),
        None => (include, Base::Nothing),
    };
    let include = include.split_ascii_whitespace().map(|w| w.parse().unwrap()).collect();
    Request { include, base, recommends }
}

/// Names and versions of what is chosen, in order, or the error.
fn chosen(archive: &Archive, include: &str) -> String {
    match archive.select(&request(include)) {
        Err(e) => format!("error: {e}"),
        Ok(selection) => {
            for (n, package) in selection.packages.iter().enumerate() {
                assert!(package.requires.iter().all(|m| *m < selection.packages.len() && *m != n));
            }
            let shown = selection.packages.iter().map(|p| format!("{}={}", p.name, p.version));
            shown.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn what_is_chosen() {
    // What is there, what is asked for, what comes of it.
    let cases: &[(&[&str], &str, &str)] = &[
        (&["a 1", "b 1"], "a", "a=1"),
        (&["a 1; Depends: b", "b 1"], "a", "b=1 a=1"),
        (&["a 1; Depends: b", "b 1; Pre-Depends: a"], "a", "a=1 b=1"),
        (&["a 1", "a 2", "a 2~rc"], "a", "a=2"),
        (&["a 1", "a 2"], "a=1", "a=1"),
        (&["a 1; Depends: b (>= 2)", "b 1", "b 2", "b 3"], "a", "b=3 a=1"),
        (&["a 1; Depends: b (<< 3)", "b 2", "b 3"], "a", "b=2 a=1"),
        // Alternatives: the first that is there, or one that is chosen anyway.
        (&["a 1; Depends: x | b | c", "b 1", "c 1"], "a", "b=1 a=1"),
        (&["a 1; Depends: b | c, d", "b 1", "c 1", "d 1; Depends: c"], "a", "c=1 d=1 a=1"),
        // A package of the name before those that only provide it (two programs had it wrong).
        (&["a 1; Depends: foo", "foo-plus 9; Provides: foo", "foo 1"], "a", "foo=1 a=1"),
        (&["foo-plus 9; Provides: foo; Conflicts: foo", "foo 1"], "foo", "foo=1"),
        // Of providers the highest version, of every name that it provides.
        (
            &["a 1; Depends: y", "p 1; Provides: x, y", "p 2; Provides: x, y", "p 3; Provides: x"],
            "a p",
            "p=2 a=1",
        ),
        // What more systems have comes first among providers, then names.
        (
            &[
                "a 1; Depends: awk",
                "gawk 1; Provides: awk; Priority: optional",
                "mawk 1; Provides: awk; Priority: required",
            ],
            "a",
            "mawk=1 a=1",
        ),
        (&["a 1; Depends: v", "p2 1; Provides: v", "p1 1; Provides: v"], "a", "p1=1 a=1"),
        // A version that is asked for needs one that is provided.
        (&["a 1; Depends: v (>= 2)", "p 9; Provides: v", "q 1; Provides: v (= 2)"], "a", "q=1 a=1"),
        // Conflicts send the search back, to an older version or another alternative.
        (&["a 1; Depends: b", "b 1", "b 2; Conflicts: c", "c 1"], "a c", "b=1 a=1 c=1"),
        (&["a 1; Depends: b | c", "b 1; Breaks: d", "c 1", "d 1"], "a d", "c=1 a=1 d=1"),
        (&["a 1; Depends: b", "b 1", "c 1; Breaks: b (<< 2)", "b 2"], "a c", "b=2 a=1 c=1"),
        // Far back: what is wrong with the first choice shows three packages later.
        (
            &[
                "a 2; Depends: x1",
                "a 1",
                "x1 1; Depends: x2 | y2",
                "x2 1; Depends: x3",
                "y2 1; Depends: x3",
                "x3 1; Conflicts: z",
                "z 1",
            ],
            "a z",
            "a=1 z=1",
        ),
        // It conflicts with what it provides itself, to be the only one.
        (&["p 1; Provides: mta; Conflicts: mta", "q 1; Provides: mta"], "p", "p=1"),
        // Words about other architectures are not for this one.
        (&["a 1; Depends: b [arm64], c [!arm64]", "c 1"], "a", "c=1 a=1"),
        (&["a 1; Depends: b:any", "b 1; Multi-Arch: allowed"], "a", "b=1 a=1"),
        (&["a 1; Depends: b:native", "b 1; Architecture: all"], "a", "b=1 a=1"),
        // Bases.
        (&["a 1", "e 1; Essential: yes; Depends: l", "l 1"], "a +essential", "a=1 l=1 e=1"),
        (&["a 1", "e 1; Essential: yes"], "a", "a=1"),
        // Recommendations: where they can be had.
        (&["a 1; Recommends: b, x", "b 1; Depends: c", "c 1"], "a", "a=1"),
        (&["a 1; Recommends: b, x", "b 1; Depends: c", "c 1"], "a +recommends", "a=1 c=1 b=1"),
        (&["a 1; Recommends: b", "b 1; Conflicts: a"], "a +recommends", "a=1"),
        (&["a 1; Recommends: b", "b 1; Depends: x"], "a +recommends", "a=1"),
        (&["a 1; Recommends: b", "b 1; Recommends: c | d", "d 1"], "a +recommends", "a=1 b=1 d=1"),
        // Itself is no need.
        (&["a 1; Depends: a"], "a", "a=1"),
        (&["a 1; Depends: v; Provides: v"], "a", "a=1"),
    ];
    for (lines, include, want) in cases {
        assert_eq!(chosen(&archive(&[(500, lines)]), include), *want, "{lines:?}: {include}");
        // The order in which packages are listed means nothing.
        let reversed: Vec<&str> = lines.iter().rev().copied().collect();
        assert_eq!(chosen(&archive(&[(500, &reversed)]), include), *want, "{lines:?}: {include}");
    }
}

#[test]
fn several_places() {
    let places: &[(u32, &[&str])] = &[
        (500, &["a 1; Depends: b", "b 1", "c 1"]),
        (500, &["b 1.1", "d 1"]),
        (100, &["a 9", "b 9", "e 1; Depends: b (>= 9)"]),
    ];
    let archive = archive(places);
    // Security fixes win by their version; backports only where nothing else will do.
    assert_eq!(chosen(&archive, "a"), "b=1.1 a=1");
    assert_eq!(chosen(&archive, "a=9"), "a=9");
    assert_eq!(chosen(&archive, "e"), "b=9 e=1");
    assert_eq!(chosen(&archive, "a e"), "b=9 a=1 e=1");
    let selection = archive.select(&request("d c")).unwrap();
    let origins: Vec<usize> = selection.packages.iter().map(|p| p.origin).collect();
    assert_eq!(origins, [0, 1]);
    assert!(selection.packages.iter().all(|p| p.asked));
}

#[test]
fn why_nothing_goes_together() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&["a 1"], "x", "error: x is asked for, which no package of test provides"),
        (&["a 1"], "a=2", "error: a (= 2) is asked for, which no package of test provides"),
        (
            &["a 1; Depends: b", "b 1; Depends: lib (>= 2) | x", "lib 1"],
            "a",
            "error: b 1 needs lib (>= 2) | x, but test has only lib 1; wanted by a 1",
        ),
        (
            &["a 1; Depends: b", "b 1; Depends: c", "c 1; Depends: x"],
            "a",
            "error: c 1 needs x, which no package of test provides; \
             wanted by b 1, which is wanted by a 1",
        ),
        (
            &["a 1; Conflicts: b (<< 2)", "b 1"],
            "a b",
            "error: b is asked for, but b 1 cannot be taken: a 1, which is chosen already, \
             conflicts with b (<< 2)",
        ),
        (
            &["a 1", "b 1; Breaks: a"],
            "a b",
            "error: b is asked for, but b 1 cannot be taken: it conflicts with a, and a 1 is \
             chosen already",
        ),
        (
            &["a 1; Depends: c (= 1)", "b 1; Depends: c (= 2)", "c 1", "c 2"],
            "a b",
            "error: b 1 needs c (= 2), but c 2 cannot be taken: c 1 is chosen already",
        ),
    ];
    for (lines, include, want) in cases {
        assert_eq!(chosen(&archive(&[(500, lines)]), include), *want, "{lines:?}");
    }
}

#[test]
fn a_puzzle_ends() {
    // Pigeons in too few holes: no search finds out quickly.
    let mut lines = Vec::new();
    for pigeon in 0..10 {
        let holes: Vec<String> = (0..9).map(|hole| format!("p{pigeon}h{hole}")).collect();
        lines.push(format!("p{pigeon} 1; Depends: {}", holes.join(" | ")));
        for hole in 0..9 {
            lines.push(format!("p{pigeon}h{hole} 1; Provides: h{hole}; Conflicts: h{hole}"));
        }
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let all: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    let error = chosen(&archive(&[(500, &lines)]), &all.join(" "));
    assert!(error.contains("too many combinations"), "{error}");
    assert!(!chosen(&archive(&[(500, &lines)]), &all[..9].join(" ")).contains("error"));
}

/// What is chosen satisfies everybody, and leaves nobody in the way of another.
fn check_whole(archive: &Archive, selection: &Selection) {
    let mut universe = Universe::new(archive);
    let mut packages = Vec::new();
    for selected in &selection.packages {
        let named = universe.named(&selected.name).unwrap();
        let is_it = |p: &&std::rc::Rc<universe::Package<'_>>| {
            p.entry.version() == selected.version.as_str()
        };
        packages.push(std::rc::Rc::clone(named.iter().find(is_it).unwrap()));
    }
    for package in &packages {
        for clause in &package.needs {
            let fits = |r: &Relation| packages.iter().any(|p| universe.is(p, r));
            assert!(clause.0.iter().any(fits), "{} needs {clause}", package.name);
        }
        for relation in &package.against {
            let hit = |p: &&std::rc::Rc<universe::Package<'_>>| {
                p.name != package.name && universe::is_named(p, relation)
            };
            assert!(!packages.iter().any(|p| hit(&p)), "{} is against {relation}", package.name);
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    /// Random small archives: what is chosen is right, and where nothing is chosen there is
    /// nothing to choose, which trying everything says.
    #[test]
    fn as_good_as_trying_everything(
        rows in proptest::collection::vec((0usize..5, 1u8..3, 0u8..4, 0usize..6, 0usize..6, 0usize..5), 1..8),
        asked in 0usize..5,
    ) {
        const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "v"];
        let mut lines: Vec<String> = Vec::new();
        for (name, version, kind, x, y, z) in rows {
            let start = format!("{} {version}", NAMES[name]);
            if lines.iter().any(|line| line.starts_with(&format!("{start};"))) {
                continue;
            }
            lines.push(match kind {
                0 => format!("{start}; Depends: {} | {}, {}", NAMES[x], NAMES[y], NAMES[z]),
                1 => format!("{start}; Depends: {} (>= 2); Conflicts: {}", NAMES[x], NAMES[y]),
                2 => format!("{start}; Provides: v; Breaks: {} (<< 2)", NAMES[x]),
                _ => format!("{start};"),
            });
        }
        let lines: Vec<&str> = lines.iter().map(|l| l.trim_end_matches(';')).collect();
        let archive = archive(&[(500, &lines)]);
        let result = archive.select(&request(NAMES[asked]));
        let mut universe = Universe::new(&archive);
        let all: Vec<_> = NAMES
            .iter()
            .flat_map(|name| universe.named(name).unwrap().to_vec())
            .collect();
        let possible = (0u32..1 << all.len()).any(|set| {
            let taken: Vec<_> =
                all.iter().enumerate().filter(|(n, _)| set & 1 << n != 0).map(|(_, p)| p).collect();
            let is_in = |r: &Relation| taken.iter().any(|p| universe.is(p, r));
            let once = taken.iter().all(|p| taken.iter().filter(|q| q.name == p.name).count() == 1);
            let whole = taken.iter().all(|p| p.needs.iter().all(|c| c.0.iter().any(is_in)));
            let peaceful = taken.iter().all(|p| {
                p.against.iter().all(|r| {
                    !taken.iter().any(|q| q.name != p.name && universe::is_named(q, r))
                })
            });
            let wanted = clause(&NAMES[asked].parse().unwrap());
            once && whole && peaceful && is_in(&wanted.0[0])
        });
        match result {
            Ok(selection) => check_whole(&archive, &selection),
            Err(e) => proptest::prop_assert!(!possible, "{e}: {lines:?}"),
        }
    }
}
