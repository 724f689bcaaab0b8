//! Collecting steps, and the small parsers that every part of the plan needs.

use std::ffi::CString;

use crate::op::{Op, Place, Step, Target};
use crate::{Error, Result};

/// Steps so far, and what the user should hear of.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
}

impl Builder {
    pub(crate) fn push(&mut self, field: impl Into<String>, op: Op) {
        self.steps.push(Step { op, field: field.into() });
    }
}

/// A string without NUL.
pub(crate) fn c_string(field: &str, value: &str) -> Result<CString> {
    CString::new(value).map_err(|_| Error::config(field, "has a NUL byte"))
}

/// The path with `.`, `..` and doubled slashes gone, without looking at the file system: as names.
pub(crate) fn clean(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names
}

/// A place beneath the root filesystem, of a path inside the container.
pub(crate) fn target(field: &str, path: &str) -> Result<Target> {
    let names = clean(path);
    let joined = if names.is_empty() { ".".to_owned() } else { names.join("/") };
    if joined.len() >= 4096 {
        return Err(Error::config(field, "path is too long"));
    }
    Ok(Target {
        real: matches!(joined.as_str(), "proc" | "sys"),
        path: c_string(field, &joined)?,
        no_follow: false,
    })
}

/// A name in a directory beneath the root filesystem, of a path inside the container.
pub(crate) fn place(field: &str, path: &str) -> Result<Place> {
    let names = clean(path);
    let Some((name, dir)) = names.split_last() else {
        return Err(Error::config(field, "is the root"));
    };
    Ok(Place { dir: target(field, &dir.join("/"))?, name: c_string(field, name)? })
}

/// A list of numbers as `0-3,7`, as bits.
pub(crate) fn number_list(field: &str, list: &str, most: u32) -> Result<Vec<u64>> {
    let bad =
        || Error::config(field, format!("{list:?} is not a list of numbers below {most} as 0-3,7"));
    let mut bits = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| match s.trim().parse::<u32>() {
            // parse() takes a plus sign.
            Ok(n) if n < most && !s.contains('+') => Ok(n),
            _ => Err(bad()),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad());
        }
        for n in first..=last {
            let word = (n / 64) as usize;
            if bits.len() <= word {
                bits.resize(word + 1, 0u64);
            }
            bits[word] |= 1 << (n % 64);
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_relative_and_clean() {
        for (path, clean, real) in [
            ("/", ".", false),
            ("", ".", false),
            ("/proc", "proc", true),
            ("/proc/", "proc", true),
            ("//sys/./fs", "sys/fs", false),
            ("/a/../../etc/passwd", "etc/passwd", false),
            ("relative/dir", "relative/dir", false),
        ] {
            let t = target("x", path).unwrap();
            assert_eq!((t.path.to_str().unwrap(), t.real), (clean, real), "{path}");
            assert_eq!(t.is_root(), clean == ".", "{path}");
        }
        assert!(target("x", "a\0b").is_err());
        assert!(target("x", &"a/".repeat(4000)).is_err());
    }

    #[test]
    fn number_lists() {
        for (list, bits) in
            [("0", Some(vec![1])), ("0-2,64", Some(vec![7, 1])), (" 3 ", Some(vec![8]))]
        {
            assert_eq!(number_list("x", list, 1024).ok(), bits, "{list}");
        }
        for bad in ["", "-", "1-", "2-1", "+1", "1024", "a", "0,,1", "99999999999"] {
            assert!(number_list("x", bad, 1024).is_err(), "{bad}");
        }
    }
}
