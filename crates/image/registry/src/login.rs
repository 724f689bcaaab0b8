//! Who may come in: HTTP Basic against a file of `htpasswd -B` (RFC 7617).

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// How many proofs are remembered: bcrypt is slow on purpose, and a push is hundreds of requests.
const PROOFS_MAX: usize = 1024;

/// The longest header that is looked at.
const HEADER_BYTES_MAX: usize = 4096;

/// A hash that no password has: strangers cost as much time as users, and so do not stand out.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu";

/// The users.
pub(crate) struct Users {
    hashes: HashMap<String, String>,
    /// Digests of user, password and hash that were found right.
    proofs: Mutex<HashSet<[u8; 32]>>,
    /// One at a time: bcrypt must not take every processor from those who are in.
    turn: Mutex<()>,
}

impl Users {
    pub(crate) fn read(path: &Path) -> Result<Users> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let hashes =
            parse(&text).map_err(|line| Error::Htpasswd { path: path.to_owned(), line })?;
        Ok(Users { hashes, proofs: Mutex::default(), turn: Mutex::default() })
    }

    /// The user whose credentials these are. Blocks: a wrong password costs its bcrypt.
    pub(crate) fn check(&self, header: Option<&str>) -> Option<String> {
        let (user, password) = credentials(header?)?;
        let hash = self.hashes.get(&user);
        let proof = proof(&user, &password, hash.map_or("", String::as_str));
        let known = |set: &HashSet<[u8; 32]>| set.contains(&proof);
        if known(&self.proofs.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Some(user);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let right = bcrypt::verify(&password, hash.map_or(NOBODY, String::as_str));
        drop(turn);
        if hash.is_none() || !right.unwrap_or(false) {
            return None;
        }
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        if proofs.len() >= PROOFS_MAX {
            proofs.clear();
        }
        proofs.insert(proof);
        Some(user)
    }
}

/// The users of a file, or the number of the line that is none.
fn parse(text: &str) -> std::result::Result<HashMap<String, String>, usize> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_bcrypt = |hash: &str| {
            hash.len() == 60 && ["$2y$", "$2b$", "$2a$"].iter().any(|v| hash.starts_with(v))
        };
        match line.split_once(':') {
            Some((user, hash)) if !user.is_empty() && is_bcrypt(hash) => {
                users.insert(user.to_owned(), hash.to_owned())
            }
            _ => return Err(number + 1),
        };
    }
    Ok(users)
}

/// User and password of an `Authorization` header.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > HEADER_BYTES_MAX {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn proof(user: &str, password: &str, hash: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for text in [user, password, hash] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    #[test]
    fn only_the_right_password_of_a_user_comes_in() {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        std::fs::write(&path, format!("# users\n\nalice:{hash}\n")).unwrap();
        let users = Users::read(&path).unwrap();
        for (header, want) in [
            (header("alice:secret"), true),
            (header("alice:secret"), true),
            (header("alice:secre"), false),
            (header("alice:"), false),
            (header("alice"), false),
            (header("bob:secret"), false),
            (header(":"), false),
            ("Basic !".into(), false),
            ("Bearer x".into(), false),
            ("".into(), false),
            (format!("bAsIc {}", &header("alice:secret")[6..]), true),
        ] {
            assert_eq!(users.check(Some(&header)).is_some(), want, "{header}");
        }
        assert!(users.check(None).is_none());
        for bad in ["alice", "alice:plain", ":$2y$", "a:$apr1$x"] {
            assert_eq!(parse(&format!("\n{bad}\n")).unwrap_err(), 2, "{bad}");
        }
    }
}
