//! The keys that leave a container running: `ctrl-p,ctrl-q`, or `--detach-keys`.

/// A sequence of keys, and how much of it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    matched: usize,
}

/// What was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typed {
    /// Something for the container.
    Input,
    /// The whole sequence.
    Detach,
}

impl Default for DetachKeys {
    fn default() -> DetachKeys {
        DetachKeys { keys: vec![16, 17], matched: 0 }
    }
}

impl DetachKeys {
    /// How many typed bytes wait to be told from the sequence: so many more than it was given may
    /// come out of [`filter`](Self::filter).
    pub fn pending(&self) -> usize {
        self.matched
    }

    /// Parses Docker's form: characters, or `ctrl-` and one of `a`-`z @ [ \ ] ^ _`, with commas
    /// between. The empty text means that nothing detaches.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        let unknown = || format!("invalid detach keys ({text})");
        let mut keys = Vec::new();
        for key in text.split(',').filter(|_| !text.is_empty()) {
            let code = match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
                ([byte], _) => *byte,
                (_, Some([byte])) => match byte {
                    b'a'..=b'z' => byte - b'a' + 1,
                    b'@' => 0,
                    b'[' | b'\\' | b']' | b'^' | b'_' => byte - b'[' + 27,
                    _ => return Err(unknown()),
                },
                _ => return Err(unknown()),
            };
            keys.push(code);
        }
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// What of `bytes` is for the container: keys of a sequence that has begun are held back, and
    /// handed on when it turns out to be another one.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, Typed) {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, Typed::Detach);
                }
                continue;
            }
            // The longest beginning of the sequence that what was typed still ends with.
            let typed: Vec<u8> = self.keys[..self.matched].iter().copied().chain([byte]).collect();
            let kept = (0..typed.len())
                .rev()
                .find(|&n| n < self.keys.len() && typed.ends_with(&self.keys[..n]))
                .unwrap_or(0);
            out.extend_from_slice(&typed[..typed.len() - kept]);
            self.matched = kept;
        }
        (out, Typed::Input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let keys = |text: &str| DetachKeys::parse(text).map(|k| k.keys);
        assert_eq!(keys("ctrl-p,ctrl-q"), Ok(DetachKeys::default().keys));
        assert_eq!(keys("ctrl-@,a,ctrl-_,ctrl-["), Ok(vec![0, b'a', 31, 27]));
        assert_eq!(keys(""), Ok(vec![]));
        for bad in ["ctrl-", "ctrl-A", "ab", ",", "ctrl-é"] {
            assert!(keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_detaches() {
        let run = |keys: &str, pieces: &[&str]| {
            let mut keys = DetachKeys::parse(keys).unwrap();
            let mut out = String::new();
            for piece in pieces {
                let most = piece.len() + keys.pending();
                let (bytes, typed) = keys.filter(piece.as_bytes());
                assert!(
                    bytes.len() + keys.pending() <= most,
                    "{piece}: more than there is room for"
                );
                out.push_str(std::str::from_utf8(&bytes).unwrap());
                if typed == Typed::Detach {
                    out.push('!');
                    break;
                }
            }
            out
        };
        assert_eq!(run("x,y", &["abc"]), "abc");
        assert_eq!(run("x,y", &["axyb"]), "a!");
        assert_eq!(run("x,y", &["ax", "y"]), "a!");
        assert_eq!(run("x,y", &["ax", "by"]), "axby");
        assert_eq!(run("x,y", &["xxy"]), "x!");
        assert_eq!(run("a,a,b", &["aaab"]), "a!");
        assert_eq!(run("a,b,a,c", &["ababac"]), "ab!");
        assert_eq!(run("", &["anything"]), "anything");
    }
}
