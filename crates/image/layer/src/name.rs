//! Names in a layer: paths made plain, and whiteouts.
//!
//! ```text
//! .wh.NAME       NAME of the layers below is gone (OCI Image Specification, layer.md)
//! .wh..wh..opq   everything of the layers below in this directory is gone
//! .wh..wh.*      in the root: AUFS's own bookkeeping, which old Docker left in layers
//! ```

use crate::error::Error;

pub(crate) const PREFIX: &[u8] = b".wh.";
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

/// A path without leading slash, `.`, `..` or empty names; empty for the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Plain(Vec<u8>);

impl Plain {
    /// Makes a path plain by its text alone, as Docker does: `..` takes the name before it away.
    /// A relative path that leads out is `None`; an absolute one ends at the root.
    pub(crate) fn new(path: &[u8]) -> Option<Plain> {
        let absolute = path.starts_with(b"/");
        let mut plain = Plain::default();
        for name in path.split(|&b| b == b'/') {
            match name {
                b"" | b"." => {}
                b".." if plain.is_root() && absolute => {}
                b".." if plain.is_root() => return None,
                b".." => plain.pop(),
                name => plain.push(name),
            }
        }
        Some(plain)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn push(&mut self, name: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(name);
    }

    pub(crate) fn pop(&mut self) {
        let end = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        self.0.truncate(end);
    }

    pub(crate) fn join(&self, name: &[u8]) -> Plain {
        let mut path = self.clone();
        path.push(name);
        path
    }

    /// The directory and the last name; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Plain, &[u8])> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|&b| b == b'/');
        Some(match slash {
            Some(slash) => (Plain(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Plain::default(), &self.0[..]),
        })
    }

    /// Every name, first to last.
    pub(crate) fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|name| !name.is_empty())
    }

    /// Where the paths of everything beneath begin and end, for ordered sets.
    pub(crate) fn beneath(&self) -> std::ops::Range<Plain> {
        // '0' follows '/'.
        let bound = |end: u8| Plain([&self.0[..], &[end]].concat());
        bound(b'/')..bound(b'0')
    }
}

/// What an entry's name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Role<'a> {
    /// To be made as it says.
    Plain,
    /// To hide this name.
    Whiteout(&'a [u8]),
    /// To hide everything in its directory.
    Opaque,
    /// To be passed over.
    Aufs,
}

/// Reads whiteouts from a path. Those that would hide a directory from within itself (`.wh.`,
/// `.wh..`, `.wh...`), and entries beneath a whiteout, are errors.
pub(crate) fn role(path: &Plain) -> Result<Role<'_>, Error> {
    let error = |why| Error::Path { path: crate::tree::to_path(path.bytes()), why };
    let mut names = path.names();
    if path.names().next().is_some_and(|n| n.starts_with(AUFS) && n != OPAQUE) {
        return Ok(Role::Aufs);
    }
    let Some(last) = names.next_back() else { return Ok(Role::Plain) };
    if names.any(|name| name.starts_with(PREFIX)) {
        return Err(error("is beneath a whiteout"));
    }
    match last.strip_prefix(PREFIX) {
        None => Ok(Role::Plain),
        Some(_) if last == OPAQUE => Ok(Role::Opaque),
        Some(b"" | b"." | b"..") => Err(error("is a whiteout of nothing")),
        Some(hidden) => Ok(Role::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (path, want) in [
            ("", Some("")),
            ("/", Some("")),
            ("./", Some("")),
            ("a", Some("a")),
            ("./a//b/", Some("a/b")),
            ("/a/./b", Some("a/b")),
            ("a/../b", Some("b")),
            ("a/b/../../c", Some("c")),
            ("/../../etc", Some("etc")),
            ("a/..", Some("")),
            ("..", None),
            ("../etc", None),
            ("a/../../etc", None),
            ("...", Some("...")),
        ] {
            let plain = Plain::new(path.as_bytes());
            assert_eq!(plain.as_ref().map(Plain::bytes), want.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn roles() {
        let check = |path: &str, want: Option<Role<'_>>| {
            let path = Plain::new(path.as_bytes()).unwrap();
            assert_eq!(role(&path).ok(), want, "{path:?}");
        };
        check("", Some(Role::Plain));
        check("a/b", Some(Role::Plain));
        check("a/wh.b", Some(Role::Plain));
        check("a/.wh.b", Some(Role::Whiteout(b"b")));
        check(".wh.b", Some(Role::Whiteout(b"b")));
        check("a/.wh..b", Some(Role::Whiteout(b".b")));
        check("a/.wh..wh..opq", Some(Role::Opaque));
        check(".wh..wh..opq", Some(Role::Opaque));
        check(".wh..wh.plnk/123", Some(Role::Aufs));
        check("a/.wh..wh.x", Some(Role::Whiteout(b".wh.x")));
        check("a/.wh.", None);
        check("a/.wh..", None);
        check("a/.wh...", None);
        check(".wh.a/b", None);
    }

    #[test]
    fn everything_beneath_is_a_range() {
        let beneath = Plain::new(b"a/b").unwrap().beneath();
        for (path, is_beneath) in
            [("a/b", false), ("a/b/c", true), ("a/b/c/d", true), ("a/b0", false), ("a/b.c", false)]
        {
            assert_eq!(
                beneath.contains(&Plain::new(path.as_bytes()).unwrap()),
                is_beneath,
                "{path}"
            );
        }
    }
}
