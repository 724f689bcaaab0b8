//! Paths in an archive: bytes without meaning to the host.

/// A path as its components, relative to the archive's root: `.` and empty ones are nothing, and
/// `..` goes up, but not beyond the root, as Docker resolves paths of `manifest.json`.
pub(crate) fn clean(path: &[u8]) -> Vec<Vec<u8>> {
    let mut components: Vec<Vec<u8>> = Vec::new();
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(name.to_vec()),
        }
    }
    components
}

/// Whether an entry's own name stays in the archive: it may not even go up and come back.
pub(crate) fn is_inside(path: &[u8]) -> bool {
    path.split(|&b| b == b'/').all(|component| component != b"..") && !path.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_without_leaving() {
        let cases: &[(&str, &str)] = &[
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a/./b", "a/b"),
            ("a/../b", "b"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("", ""),
        ];
        for (path, clean_path) in cases {
            let joined = clean(path.as_bytes()).join(&b'/');
            assert_eq!(joined, clean_path.as_bytes(), "{path}");
        }
        assert!(is_inside(b"./a/..b/c.."));
        assert!(!is_inside(b"a/../b"));
        assert!(!is_inside(b".."));
    }
}
