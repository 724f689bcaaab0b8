//! `--chmod`: permissions as numbers, or as chmod(1) writes them.

/// What becomes of a file's permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// These, whatever they were.
    Octal(u32),
    /// Changes, in order.
    Symbolic(Vec<Clause>),
}

/// One change, as `u+rwX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Whose: bits of `rwxs` for user, group and others that may change.
    who: u32,
    operator: char,
    /// `r`, `w`, `x`, `X`, `s`, `t`, or one of `u`, `g`, `o` to copy from.
    permissions: String,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl Chmod {
    /// Reads `755`, `u=rwX,go=rX` and their like; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Chmod> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= 0o7777).then_some(Chmod::Octal(mode));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let operator_at = part.find(['+', '-', '='])?;
            let mut who = 0;
            for letter in part[..operator_at].chars() {
                who |= match letter {
                    'u' => USER,
                    'g' => GROUP,
                    'o' => OTHER,
                    'a' => USER | GROUP | OTHER | STICKY,
                    _ => return None,
                };
            }
            if who == 0 {
                who = USER | GROUP | OTHER | STICKY;
            }
            let mut rest = &part[operator_at..];
            while let Some(operator) = rest.chars().next() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
                let permissions = &rest[1..end];
                let is_copy = matches!(permissions, "u" | "g" | "o");
                if !is_copy && !permissions.chars().all(|c| "rwxXst".contains(c)) {
                    return None;
                }
                clauses.push(Clause { who, operator, permissions: permissions.to_owned() });
                rest = &rest[end..];
            }
        }
        Some(Chmod::Symbolic(clauses))
    }

    /// The new permissions of a file that has `mode`.
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let all = |triple: u32| triple << 6 | triple << 3 | triple;
        let mut bits = 0;
        for letter in self.permissions.chars() {
            bits |= match letter {
                'r' => all(4),
                'w' => all(2),
                'x' => all(1),
                'X' if is_directory || mode & 0o111 != 0 => all(1),
                's' => 0o6000,
                't' => STICKY,
                'u' => all(mode >> 6 & 7),
                'g' => all(mode >> 3 & 7),
                'o' => all(mode & 7),
                _ => 0,
            };
        }
        bits &= self.who | if self.permissions.contains('t') { STICKY } else { 0 };
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // A directory keeps what was not named: set-group-ID means inheritance there.
            _ => {
                let kept = if is_directory { 0o6000 } else { 0 };
                mode & !(self.who & !kept & !STICKY) | bits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, is_directory, want) in [
            ("755", 0o600, false, 0o755),
            ("0755", 0o600, false, 0o755),
            ("7777", 0, false, 0o7777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("a=r", 0o777, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o777, true, 0o1777),
            ("u+x-w", 0o600, false, 0o500),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(mode, is_directory), want, "{text}");
        }
        for text in ["", "8", "10000", "u", "x+u", "u+q", "u+rg", ",", "u+x,"] {
            assert_eq!(Chmod::parse(text), None, "{text}");
        }
    }
}
