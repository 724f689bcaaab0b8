//! The words of fstab that a mount's `options` are made of.

use hako_sys::mount::{Propagation, attr};

/// What a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Attributes: cleared, then set.
    Attr { set: u64, clear: u64 },
    /// The same for all mounts below.
    AttrAll { set: u64, clear: u64 },
    /// Propagation; whether that of all below.
    Propagation(Propagation, bool),
    /// A bind mount; whether with all below.
    Bind(bool),
    /// Only attributes of what is there change.
    Remount,
    /// A flag of the superblock, which fsconfig(2) knows by this name.
    Superblock,
    /// The target's content is copied into the new file system.
    CopyUp,
    /// An ID-mapped mount; whether with all below.
    IdMap(bool),
    /// A symbolic link as source is not followed (crun).
    SourceNoFollow,
    /// A symbolic link as target is not followed (crun).
    TargetNoFollow,
    /// A symbolic link as source is copied (crun).
    CopySymlink,
    /// Says what is so anyway.
    Nothing,
}

use Meaning::{Attr, AttrAll, Bind, IdMap, Nothing, Superblock};

const fn set(bit: u64) -> Meaning {
    Attr { set: bit, clear: bit }
}

const fn clear(bit: u64) -> Meaning {
    Attr { set: 0, clear: bit }
}

const fn time(value: u64) -> Meaning {
    Attr { set: value, clear: attr::ATIME }
}

const fn set_all(bit: u64) -> Meaning {
    AttrAll { set: bit, clear: bit }
}

const fn clear_all(bit: u64) -> Meaning {
    AttrAll { set: 0, clear: bit }
}

const fn time_all(value: u64) -> Meaning {
    AttrAll { set: value, clear: attr::ATIME }
}

/// Every word; what is not here goes to the file system as it is.
pub(crate) const MOUNT_OPTIONS: &[(&str, Meaning)] = &[
    ("defaults", Nothing),
    ("ro", set(attr::RDONLY)),
    ("rw", clear(attr::RDONLY)),
    ("nosuid", set(attr::NOSUID)),
    ("suid", clear(attr::NOSUID)),
    ("nodev", set(attr::NODEV)),
    ("dev", clear(attr::NODEV)),
    ("noexec", set(attr::NOEXEC)),
    ("exec", clear(attr::NOEXEC)),
    ("nosymfollow", set(attr::NOSYMFOLLOW)),
    ("symfollow", clear(attr::NOSYMFOLLOW)),
    ("nodiratime", set(attr::NODIRATIME)),
    ("diratime", clear(attr::NODIRATIME)),
    ("noatime", time(attr::NOATIME)),
    ("atime", time(attr::RELATIME)),
    ("relatime", time(attr::RELATIME)),
    ("norelatime", time(attr::RELATIME)),
    ("strictatime", time(attr::STRICTATIME)),
    ("nostrictatime", time(attr::RELATIME)),
    ("rro", set_all(attr::RDONLY)),
    ("rrw", clear_all(attr::RDONLY)),
    ("rnosuid", set_all(attr::NOSUID)),
    ("rsuid", clear_all(attr::NOSUID)),
    ("rnodev", set_all(attr::NODEV)),
    ("rdev", clear_all(attr::NODEV)),
    ("rnoexec", set_all(attr::NOEXEC)),
    ("rexec", clear_all(attr::NOEXEC)),
    ("rnosymfollow", set_all(attr::NOSYMFOLLOW)),
    ("rsymfollow", clear_all(attr::NOSYMFOLLOW)),
    ("rnodiratime", set_all(attr::NODIRATIME)),
    ("rdiratime", clear_all(attr::NODIRATIME)),
    ("rnoatime", time_all(attr::NOATIME)),
    ("ratime", time_all(attr::RELATIME)),
    ("rrelatime", time_all(attr::RELATIME)),
    ("rnorelatime", time_all(attr::RELATIME)),
    ("rstrictatime", time_all(attr::STRICTATIME)),
    ("rnostrictatime", time_all(attr::RELATIME)),
    ("shared", Meaning::Propagation(Propagation::Shared, false)),
    ("rshared", Meaning::Propagation(Propagation::Shared, true)),
    ("slave", Meaning::Propagation(Propagation::Slave, false)),
    ("rslave", Meaning::Propagation(Propagation::Slave, true)),
    ("private", Meaning::Propagation(Propagation::Private, false)),
    ("rprivate", Meaning::Propagation(Propagation::Private, true)),
    ("unbindable", Meaning::Propagation(Propagation::Unbindable, false)),
    ("runbindable", Meaning::Propagation(Propagation::Unbindable, true)),
    ("bind", Bind(false)),
    ("rbind", Bind(true)),
    ("remount", Meaning::Remount),
    ("sync", Superblock),
    ("async", Superblock),
    ("dirsync", Superblock),
    ("lazytime", Superblock),
    ("nolazytime", Superblock),
    ("mand", Superblock),
    ("nomand", Superblock),
    ("acl", Nothing),
    ("noacl", Nothing),
    ("iversion", Nothing),
    ("noiversion", Nothing),
    ("silent", Nothing),
    ("loud", Nothing),
    ("tmpcopyup", Meaning::CopyUp),
    ("idmap", IdMap(false)),
    ("ridmap", IdMap(true)),
    ("src-nofollow", Meaning::SourceNoFollow),
    ("dest-nofollow", Meaning::TargetNoFollow),
    ("copy-symlink", Meaning::CopySymlink),
];

/// What a word means; `None` where only the file system knows.
pub(crate) fn meaning(word: &str) -> Option<Meaning> {
    MOUNT_OPTIONS.iter().find(|(w, _)| *w == word).map(|(_, m)| *m)
}

/// All words, as `features` prints them.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    MOUNT_OPTIONS.iter().map(|(w, _)| *w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_stands_once() {
        for (i, (word, _)) in MOUNT_OPTIONS.iter().enumerate() {
            assert!(!MOUNT_OPTIONS[..i].iter().any(|(w, _)| w == word), "{word}");
        }
        assert_eq!(meaning("size=1m"), None);
    }
}
