//! Paths as text: cleaning, as Go's `path.Clean` does it for Docker.

/// The shortest path that means the same, by its text alone: no `.`, no empty parts, and `..` only
/// at the start of a relative path. The empty path is `.`.
pub(crate) fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans() {
        for (path, expected) in [
            ("/", "/"),
            ("//", "/"),
            ("/a//b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("/..", "/"),
            ("a/..", "."),
            ("../a/../..", "../.."),
            ("", "."),
            ("./a", "a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }
}
