//! What `update-alternatives` would make, for images that run no maintainer scripts: read from the
//! scripts, where these say it without variables or conditions on them.
//!
//! `update-alternatives --install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]...` of several
//! packages: the one with the highest priority counts. The directory `/etc/alternatives` through
//! which links lead elsewhere is left out: nobody switches anything in such an image.

use std::collections::BTreeMap;

use crate::{layer::Made, tree::Tree, unpack::Unpacked};

/// How long a script may be that is looked at.
const SCRIPT_BYTES_MAX: usize = 1 << 20;

/// One `--install`.
#[derive(Debug, PartialEq, Eq)]
struct Install {
    priority: i64,
    /// Link and what it leads to, without the slash before them.
    links: Vec<(String, String)>,
}

/// Links by the number of the package that makes them.
pub(crate) fn make(packages: &[Unpacked], tree: &Tree) -> BTreeMap<usize, Vec<Made>> {
    let mut best: BTreeMap<String, (usize, Install)> = BTreeMap::new();
    for (number, package) in packages.iter().enumerate() {
        let script = package.member("postinst").unwrap_or_default();
        for install in installs(script) {
            let Some((link, _)) = install.links.first() else { continue };
            if best.get(link).is_none_or(|(_, other)| install.priority > other.priority) {
                best.insert(link.clone(), (number, install));
            }
        }
    }
    let mut made: BTreeMap<usize, Vec<Made>> = BTreeMap::new();
    for (number, install) in best.into_values() {
        for (link, target) in install.links {
            let Some(path) = tree.resolve(link.as_bytes(), false) else { continue };
            // A link that leads nowhere is none; one that a package has is that package's.
            let end = tree.resolve(target.as_bytes(), true);
            if tree.is_free(&path) && end.is_some_and(|end| !tree.is_free(&end)) {
                made.entry(number).or_default().push(Made::link(path, format!("/{target}")));
            }
        }
    }
    made
}

/// All `--install`s of a script.
fn installs(script: &[u8]) -> Vec<Install> {
    let Ok(text) = str::from_utf8(script) else { return Vec::new() };
    if text.len() > SCRIPT_BYTES_MAX || !text.starts_with("#!") {
        return Vec::new();
    }
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(['|', ';', '&', '#']).next().unwrap_or(""));
    lines.filter_map(install).collect()
}

fn install(line: &str) -> Option<Install> {
    let words: Vec<&str> =
        line.split_whitespace().skip_while(|word| *word != "update-alternatives").collect();
    let at = words.iter().position(|word| *word == "--install")?;
    let [link, _name, path, priority, slaves @ ..] = &words[at + 1..] else { return None };
    let mut links = vec![(absolute(link)?, absolute(path)?)];
    for slave in slaves.chunks(4) {
        match slave {
            ["--slave", link, _name, path] => links.push((absolute(link)?, absolute(path)?)),
            _ => return None,
        }
    }
    Some(Install { priority: priority.parse().ok()?, links })
}

/// An absolute path without its slash, if that is all that a word is.
fn absolute(word: &str) -> Option<String> {
    let path = word.strip_prefix('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-:@".contains(c);
    let is_plain =
        path.chars().all(plain) && !path.split('/').any(|n| matches!(n, "" | "." | ".."));
    is_plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, want: &[(i64, &[(&str, &str)])]) {
        let want: Vec<Install> = want
            .iter()
            .map(|(priority, links)| Install {
                priority: *priority,
                links: links.iter().map(|(l, t)| ((*l).into(), (*t).into())).collect(),
            })
            .collect();
        assert_eq!(installs(script.as_bytes()), want, "{script}");
    }

    #[test]
    fn scripts_say_what_they_install() {
        check(
            "#!/bin/sh\nif [ \"$1\" = configure ]; then\n\tupdate-alternatives --quiet --install \
             /usr/bin/awk awk \\\n /usr/bin/mawk 5 --slave /usr/bin/nawk nawk /usr/bin/mawk || true\nfi\n",
            &[(5, &[("usr/bin/awk", "usr/bin/mawk"), ("usr/bin/nawk", "usr/bin/mawk")])],
        );
        for nothing in [
            "#!/bin/sh\nupdate-alternatives --remove awk /usr/bin/mawk\n",
            "#!/bin/sh\nupdate-alternatives --install $link x /usr/bin/x 5\n",
            "#!/bin/sh\nupdate-alternatives --install /usr/../etc/x x /usr/bin/x 5\n",
            "#!/bin/sh\nupdate-alternatives --install /usr/bin/x x /usr/bin/y 5 --slave /a\n",
            "#!/bin/sh\n# update-alternatives --install /usr/bin/x x /usr/bin/y 5\n",
            "\x7fELF update-alternatives --install /usr/bin/x x /usr/bin/y 5\n",
        ] {
            check(nothing, &[]);
        }
    }
}
