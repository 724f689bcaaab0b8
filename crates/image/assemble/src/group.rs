//! Which packages share a layer.
//!
//! A layer is worth sharing where other images have it too, byte by byte. So what is in it must
//! not depend on what else is in the image:
//!
//! 1. the *base*: what every image has (distroless), or the essential packages and what these need;
//! 2. the C library and what it needs, which nearly every image has;
//! 3. the packages of one source that are large together (1 MiB): `python3.11`, `icu`;
//! 4. all that is small, together: sharing it would save little, and each layer costs a request.
//!
//! An image has at most 32 of them; beyond that, the smallest sources go to the small ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::unpack::Unpacked;

/// What is worth a layer of its own.
const LARGE_KIB: u64 = 1024;
/// Layers of single sources.
const SOURCES_MAX: usize = 28;
/// Whoever has one of these has it with all that it needs.
const C_LIBRARY: &[&str] = &["libc6", "libc6.1", "musl"];

/// Packages that are one layer, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it is called in the image's history.
    pub name: String,
    /// The packages, by name.
    pub packages: Vec<usize>,
}

/// What is known of a package when layers are planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub name: &'a str,
    pub source: &'a str,
    pub size_kib: u64,
    /// Packages that it needs, by number.
    pub requires: &'a [usize],
    /// Whether it belongs to what is lowest in every image of its kind.
    pub is_base: bool,
}

impl<'a> Facts<'a> {
    pub(crate) fn of(package: &'a Unpacked, requires: &'a [usize], is_base: bool) -> Facts<'a> {
        let size = package.control().get("Installed-Size").and_then(|n| n.trim().parse().ok());
        let (name, source) = (package.name(), package.source());
        Facts { name, source, size_kib: size.unwrap_or(0), requires, is_base }
    }
}

/// Divides packages into layers, lowest first.
pub(crate) fn divide(packages: &[Facts<'_>]) -> Vec<Group> {
    let mut left: BTreeSet<usize> = (0..packages.len()).collect();
    let mut groups = Vec::new();
    let mut take = |name: &str, numbers: BTreeSet<usize>, left: &mut BTreeSet<usize>| {
        let mut numbers: Vec<usize> = numbers.intersection(left).copied().collect();
        left.retain(|number| !numbers.contains(number));
        numbers.sort_by_key(|&number| packages[number].name);
        if !numbers.is_empty() {
            groups.push(Group { name: name.to_owned(), packages: numbers });
        }
    };
    let all = |is: &dyn Fn(&Facts<'_>) -> bool| {
        (0..packages.len()).filter(|&number| is(&packages[number])).collect::<BTreeSet<usize>>()
    };
    take("base", all(&|p| p.is_base), &mut left);
    let libc = all(&|p| C_LIBRARY.contains(&p.name));
    take("C library", closure(packages, libc), &mut left);
    let mut sources: BTreeMap<&str, (u64, BTreeSet<usize>)> = BTreeMap::new();
    for &number in &left {
        let (size, numbers) = sources.entry(packages[number].source).or_default();
        *size = size.saturating_add(packages[number].size_kib);
        numbers.insert(number);
    }
    let mut large: Vec<(&str, u64, BTreeSet<usize>)> = sources
        .into_iter()
        .filter(|(_, (size, _))| *size >= LARGE_KIB)
        .map(|(source, (size, numbers))| (source, size, numbers))
        .collect();
    large.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    large.truncate(SOURCES_MAX);
    // What others stand on is below them, as far as that can be: images share what is lowest.
    let depth: Vec<usize> =
        large.iter().map(|(_, _, numbers)| closure(packages, numbers.clone()).len()).collect();
    let mut order: Vec<usize> = (0..large.len()).collect();
    order.sort_by_key(|&at| (depth[at], large[at].0));
    for at in order {
        let (source, _, numbers) = &large[at];
        take(source, numbers.clone(), &mut left);
    }
    take("small packages", left.clone(), &mut left);
    groups
}

/// These and all that they need.
fn closure(packages: &[Facts<'_>], mut numbers: BTreeSet<usize>) -> BTreeSet<usize> {
    let mut next: Vec<usize> = numbers.iter().copied().collect();
    while let Some(number) = next.pop() {
        next.extend(packages[number].requires.iter().filter(|one| numbers.insert(**one)));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name source KiB needs,needs`, base ones with a star.
    fn check(lines: &[&str], want: &[&str]) {
        let words: Vec<Vec<&str>> = lines.iter().map(|l| l.split(' ').collect()).collect();
        let number =
            |name: &str| words.iter().position(|w| w[0].trim_matches('*') == name).unwrap();
        let requires: Vec<Vec<usize>> = words
            .iter()
            .map(|w| w.get(3).map_or(vec![], |n| n.split(',').map(number).collect()))
            .collect();
        let facts: Vec<Facts<'_>> = words
            .iter()
            .zip(&requires)
            .map(|(w, requires)| Facts {
                name: w[0].trim_matches('*'),
                source: w[1],
                size_kib: w[2].parse().unwrap(),
                requires,
                is_base: w[0].ends_with('*'),
            })
            .collect();
        let shown: Vec<String> = divide(&facts)
            .iter()
            .map(|g| {
                let names: Vec<&str> = g.packages.iter().map(|&n| facts[n].name).collect();
                format!("{}: {}", g.name, names.join(" "))
            })
            .collect();
        assert_eq!(shown, want);
    }

    #[test]
    fn layers_do_not_depend_on_what_else_there_is() {
        let base = ["base-files* base-files 300", "tzdata* tzdata 3000"];
        let libc = ["libc6 glibc 13000 libgcc-s1", "libgcc-s1 gcc-12 140 libc6"];
        let python = [
            "python3 python3-defaults 80 python3.11,libssl3",
            "python3.11 python3.11 3000 libpython3.11,libssl3,libc6",
            "libpython3.11 python3.11 9000 libc6",
            "libssl3 openssl 6000 libc6",
            "zlib1g zlib 160 libc6",
        ];
        let common = ["base: base-files tzdata", "C library: libc6 libgcc-s1", "openssl: libssl3"];
        check(
            &[&base[..], &libc, &python].concat(),
            &[
                &common[..],
                &["python3.11: libpython3.11 python3.11", "small packages: python3 zlib1g"],
            ]
            .concat(),
        );
        check(
            &[&libc[..], &["openssl openssl 2000 libssl3"], &python[3..4], &base].concat(),
            &["base: base-files tzdata", "C library: libc6 libgcc-s1", "openssl: libssl3 openssl"],
        );
    }

    #[test]
    fn there_are_not_too_many_layers() {
        let lines: Vec<String> = (0..60).map(|n| format!("p{n} s{n} {}", 2000 + n)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let facts: Vec<Facts<'_>> = lines
            .iter()
            .map(|l| {
                let mut w = l.split(' ');
                let (name, source) = (w.next().unwrap(), w.next().unwrap());
                let size_kib = w.next().unwrap().parse().unwrap();
                Facts { name, source, size_kib, requires: &[], is_base: false }
            })
            .collect();
        let groups = divide(&facts);
        assert_eq!(groups.len(), SOURCES_MAX + 1);
        assert_eq!(groups.iter().map(|g| g.packages.len()).sum::<usize>(), 60);
    }
}
