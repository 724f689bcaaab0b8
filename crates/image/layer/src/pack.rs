//! A tree as a tar: what `export` writes.

use std::io::{self, Read as _, Write};

use hako_root::Root;
use hako_tar::{Header, Time, Writer};

use crate::{
    Result,
    changes::{Change, changes},
};

/// Writes all that is beneath `root`, but not `root` itself, and gives the stream back. Equal trees
/// give equal tars.
///
/// What happens in the tree meanwhile can make the tar one of no single moment, and nothing worse:
/// what is gone is left out, and a file that became shorter is filled up with zeros, as tar(1) does.
pub fn pack<W: Write>(root: &Root, out: W) -> Result<W> {
    let mut tar = Writer::new(out);
    changes(root, &mut |change| {
        // Marks of overlayfs mean nothing in a tree of files: whoever may write to it makes them.
        if let Change::Entry { header, content } = change {
            let mtime = Time { seconds: header.mtime.seconds, nanos: 0 };
            let header = Header { mtime, ..header.clone() };
            match content {
                Some(content) => tar.append(&header, content.chain(io::repeat(0)))?,
                None => tar.append(&header, io::empty())?,
            }
        }
        Ok(())
    })?;
    Ok(tar.finish()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::{ApplyOptions, Onto, apply};

    #[test]
    fn what_is_packed_can_be_applied_and_packed_again() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        std::fs::create_dir_all(from.join("a/deep/er")).unwrap();
        std::fs::write(from.join("a/file"), b"content").unwrap();
        std::fs::set_permissions(from.join("a/file"), std::fs::Permissions::from_mode(0o4750))
            .unwrap();
        std::fs::hard_link(from.join("a/file"), from.join("z")).unwrap();
        symlink("../z", from.join("a/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        let first = pack(&Root::open(&from).unwrap(), Vec::new()).unwrap();
        let to = place.path().join("to");
        std::fs::create_dir(&to).unwrap();
        let to = Root::open(&to).unwrap();
        let options = ApplyOptions { onto: Onto::Base, ..ApplyOptions::default() };
        apply(&first[..], &to, &options).unwrap();
        assert_eq!(pack(&to, Vec::new()).unwrap(), first);
        let mut reader = hako_tar::Reader::new(&first[..]);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(String::from_utf8(entry.header().path.clone()).unwrap());
        }
        assert_eq!(names, ["a/", "a/deep/", "a/deep/er/", "a/file", "a/link", "z"]);
    }
}
