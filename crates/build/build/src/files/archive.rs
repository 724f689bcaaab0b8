//! `ADD` of an archive: what is in it, instead of itself.

use std::io::{BufReader, Write};

use hako_tar::{Header, Kind, Reader, Time, Writer};

use super::{
    Entry, Placement, Tree,
    place::Hashed,
    select::{clean, open},
};
use crate::{Error, Result};

/// Whether a file is a tar, compressed or not: by its content, whatever it is called.
pub(crate) fn is_archive(tree: &Tree, entry: &Entry) -> Result<bool> {
    if entry.stat.kind != hako_sys::fs::FileKind::File || entry.stat.size == 0 {
        return Ok(false);
    }
    let Ok((_, content)) = hako_layer::decompress(open(tree, entry)?) else { return Ok(false) };
    // An empty archive cannot be told from other files that are all zeros.
    Ok(matches!(Reader::new(BufReader::new(content)).next_entry(), Ok(Some(_))))
}

/// Writes what is in an archive as entries beneath `target`.
pub(crate) fn append<W: Write>(
    tree: &Tree,
    entry: &Entry,
    target: &[u8],
    placement: &Placement,
    tar: &mut Writer<W>,
) -> Result<()> {
    let shown = String::from_utf8_lossy(&entry.path).into_owned();
    let mut hashed = Hashed::new(open(tree, entry)?);
    let (_, content) = hako_layer::decompress(&mut hashed)
        .map_err(Error::io("read", super::select::to_path(&entry.path)))?;
    let mut reader = Reader::new(BufReader::new(content));
    while let Some(mut member) = reader.next_entry()? {
        let found = member.header().clone();
        let refused = |why: &str| {
            let name = String::from_utf8_lossy(&found.path).into_owned();
            Error::Instruction(format!("{shown}: archive entry {name:?} {why}"))
        };
        let beneath = |path: &[u8]| {
            let mut whole = target.to_vec();
            for name in clean(path) {
                if !whole.is_empty() {
                    whole.push(b'/');
                }
                whole.extend_from_slice(name);
            }
            whole
        };
        if leads_out(&found.path) || found.kind == Kind::HardLink && leads_out(&found.link) {
            return Err(refused("leads out of the archive"));
        }
        if clean(&found.path).iter().any(|name| name.starts_with(b".wh.")) {
            return Err(refused("would remove a file in a layer"));
        }
        if matches!(found.kind, Kind::Other(_)) {
            return Err(refused("is of an unknown type"));
        }
        let path = beneath(&found.path);
        if path == target {
            continue;
        }
        let (uid, gid) = placement.owner.unwrap_or((found.uid, found.gid));
        let is_directory = found.kind == Kind::Directory;
        let mode = match &placement.chmod {
            Some(chmod) if found.kind != Kind::Symlink => chmod.apply(found.mode, is_directory),
            _ => found.mode,
        };
        let header = Header {
            path,
            link: match found.kind {
                Kind::HardLink => beneath(&found.link),
                _ => found.link.clone(),
            },
            uid,
            gid,
            mode,
            mtime: Time { seconds: found.mtime.seconds.min(placement.epoch), nanos: 0 },
            xattrs: found
                .xattrs
                .iter()
                .filter(|(name, _)| hako_layer::is_kept(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            ..found
        };
        tar.append(&header, &mut member)?;
    }
    drop(reader);
    hashed.finish(entry)
}

/// Whether a path climbs above where it begins.
fn leads_out(path: &[u8]) -> bool {
    let mut depth = 0i64;
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}
