//! The kinds of images that are made of packages, and what each takes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use hako_assemble::{Style, USERS};
use hako_deb::{Base, Selection, Wanted};

/// What kind of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A small system: required packages, apt, and what is asked for, configured by their scripts.
    Minbase,
    /// What is asked for and what that needs: no shell, no package manager, nothing was run.
    Distroless,
    /// Certificate authorities, time zones, users: for programs that bring all that they need.
    Static,
}

/// All variants by name.
pub const VARIANTS: &[(&str, Variant)] = &[
    ("minbase", Variant::Minbase),
    ("distroless", Variant::Distroless),
    ("static", Variant::Static),
];

/// No such variant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown variant {0:?}: it is minbase, distroless or static")]
pub struct VariantError(String);

impl FromStr for Variant {
    type Err = VariantError;

    fn from_str(word: &str) -> Result<Variant, VariantError> {
        let known = VARIANTS.iter().find(|(name, _)| *name == word);
        known.map(|(_, v)| *v).ok_or_else(|| VariantError(word.chars().take(64).collect()))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = VARIANTS.iter().find(|(_, v)| v == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// What every image without a shell has: the whole of the variant `static`, and the lowest layer of
/// the variant `distroless`.
const LOWEST: &[&str] = &["base-files", "base-passwd", "ca-certificates", "netbase", "tzdata"];

/// The package manager of the small system.
const MANAGER: &str = "apt";

/// Says that `/usr` is merged, so that no program comes to merge it.
const MERGED: &str = "usr-is-merged";

/// What only maintainer scripts or dpkg need of others: by whom (`*`: all), and what.
const SCRIPTS_ONLY: &[(&str, &str)] = &[
    ("*", "adduser"),
    ("*", "base-passwd"),
    ("*", "cdebconf"),
    ("*", "debconf"),
    ("*", "debianutils"),
    ("*", "dpkg"),
    ("*", "init-system-helpers"),
    ("*", "install-info"),
    ("*", "lsb-base"),
    ("*", "passwd"),
    ("*", "sensible-utils"),
    ("*", "sysvinit-utils"),
    ("*", "ucf"),
    ("*", "usr-is-merged"),
    ("*", "usrmerge"),
    ("base-files", "mawk"),
    ("base-files", "gawk"),
    ("base-files", "original-awk"),
    ("ca-certificates", "openssl"),
];

impl Variant {
    /// The one that goes with what is asked for: packages alone, or else a small system.
    pub fn default_for(include: &[Wanted]) -> Variant {
        if include.is_empty() { Variant::Minbase } else { Variant::Distroless }
    }

    pub(crate) fn style(self) -> Style {
        match self {
            Variant::Minbase => Style::Dpkg,
            Variant::Distroless | Variant::Static => Style::Distroless,
        }
    }

    /// What is to be resolved.
    pub(crate) fn request(self, include: &[Wanted], recommends: bool) -> hako_deb::Request {
        let more: &[&str] = match self {
            Variant::Minbase => &[MANAGER],
            Variant::Distroless | Variant::Static => LOWEST,
        };
        let mut include = include.to_vec();
        for name in more {
            if include.iter().all(|wanted| wanted.name != *name) {
                include.push(Wanted { name: (*name).to_owned(), version: None });
            }
        }
        let base = match self {
            Variant::Minbase => Base::Required,
            Variant::Distroless | Variant::Static => Base::Nothing,
        };
        hako_deb::Request { include, base, recommends }
    }

    /// What is taken as well where the archive has it.
    pub(crate) fn liked(self) -> Vec<Wanted> {
        match self {
            Variant::Minbase => vec![Wanted { name: MERGED.to_owned(), version: None }],
            Variant::Distroless | Variant::Static => Vec::new(),
        }
    }

    /// Names that are asked for without anybody having asked.
    pub(crate) fn names_added(self) -> &'static [&'static str] {
        match self {
            Variant::Minbase => &[MANAGER, MERGED],
            Variant::Distroless | Variant::Static => LOWEST,
        }
    }

    /// Takes away what was selected and is not for this variant.
    pub(crate) fn prune(self, selection: Selection, include: &[Wanted]) -> Selection {
        if self == Variant::Minbase {
            return selection;
        }
        let packages = &selection.packages;
        let is_wanted = |name: &str| include.iter().any(|wanted| wanted.name == name);
        let is_scripts_only = |by: &str, what: &str| {
            let of = |(who, name): &(&str, &str)| *name == what && (*who == "*" || *who == by);
            SCRIPTS_ONLY.iter().any(of)
        };
        let mut kept: BTreeSet<usize> = BTreeSet::new();
        let is_root = |name: &str| is_wanted(name) || LOWEST.contains(&name);
        // A virtual package that was asked for is here under another name.
        let mut next: Vec<usize> = (0..packages.len())
            .filter(|&n| is_root(&packages[n].name) || packages[n].asked)
            .collect();
        while let Some(number) = next.pop() {
            // Of the lowest packages only their files are wanted; static has nothing else.
            if !kept.insert(number) || !follows(&packages[number].name, is_wanted) {
                continue;
            }
            let by = &packages[number].name;
            let needs = packages[number].requires.iter().copied();
            next.extend(needs.filter(|&n| !is_scripts_only(by, &packages[n].name)));
        }
        let place: BTreeMap<usize, usize> = kept.iter().copied().zip(0..).collect();
        let packages = kept
            .iter()
            .map(|&number| {
                let mut package = packages[number].clone();
                package.requires =
                    package.requires.iter().filter_map(|n| place.get(n).copied()).collect();
                package
            })
            .collect();
        Selection { packages, ..selection }
    }

    /// Names of what is lowest in every image of this variant.
    pub(crate) fn base(self, selection: &Selection) -> BTreeSet<String> {
        match self {
            Variant::Minbase => required(selection),
            _ => LOWEST.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}

/// Whether what a package needs is followed: not of base-passwd, which is only read, unless it was
/// asked for.
fn follows(name: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    name != USERS || is_wanted(name)
}

/// Packages that every system has, the package manager, and all that they need.
fn required(selection: &Selection) -> BTreeSet<String> {
    let packages = &selection.packages;
    let is_base = |n: &usize| {
        let package = &packages[*n];
        package.essential || package.priority == "required" || package.name == MANAGER
    };
    let mut next: Vec<usize> = (0..packages.len()).filter(is_base).collect();
    let mut found = BTreeSet::new();
    while let Some(number) = next.pop() {
        if found.insert(packages[number].name.clone()) {
            next.extend(&packages[number].requires);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name needs,needs`, an `!` behind those that were asked for.
    fn selection(lines: &[&str]) -> Selection {
        let words: Vec<Vec<&str>> = lines.iter().map(|l| l.split(' ').collect()).collect();
        let number =
            |name: &str| words.iter().position(|w| w[0].trim_end_matches('!') == name).unwrap();
        let packages = words
            .iter()
            .map(|w| hako_deb::Selected {
                name: w[0].trim_end_matches('!').into(),
                version: "1".parse().unwrap(),
                architecture: "all".into(),
                origin: 0,
                filename: String::new(),
                size: 0,
                digest: hako_oci::Digest::sha256(b""),
                asked: w[0].ends_with('!'),
                essential: false,
                priority: "optional".into(),
                requires: w.get(1).map_or(vec![], |n| n.split(',').map(number).collect()),
            })
            .collect();
        Selection { suite: "s".into(), architecture: "amd64".into(), origins: Vec::new(), packages }
    }

    #[test]
    fn what_only_scripts_need_is_left_out() {
        let all = selection(&[
            "base-files! mawk",
            "mawk libc6",
            "libc6",
            "perl-base libc6",
            "debconf perl-base",
            "openssl libc6",
            "ca-certificates! openssl,debconf",
            "base-passwd! libc6,libdebconfclient0",
            "libdebconfclient0 libc6",
            "readline-common dpkg",
            "dpkg libc6",
            "python3! readline-common,libc6",
        ]);
        let names =
            |s: &Selection| -> Vec<String> { s.packages.iter().map(|p| p.name.clone()).collect() };
        let check = |include: &str, want: &[&str]| {
            let include: Vec<Wanted> =
                include.split(' ').filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect();
            let mut all = all.clone();
            for package in &mut all.packages {
                let name = &package.name;
                package.asked =
                    LOWEST.contains(&name.as_str()) || include.iter().any(|w| w.name == *name);
            }
            let pruned = Variant::Distroless.prune(all, &include);
            assert_eq!(names(&pruned), want, "{include:?}");
            for package in &pruned.packages {
                assert!(package.requires.iter().all(|&n| n < pruned.packages.len()));
            }
        };
        check("", &["base-files", "ca-certificates", "base-passwd"]);
        check(
            "python3",
            &[
                "base-files",
                "libc6",
                "ca-certificates",
                "base-passwd",
                "readline-common",
                "python3",
            ],
        );
        check(
            "debconf",
            &["base-files", "libc6", "perl-base", "debconf", "ca-certificates", "base-passwd"],
        );
    }
}
