//! `--ulimit NAME=SOFT[:HARD]`.

use hako_oci::runtime::Rlimit;

/// A limit that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UlimitError {
    /// No `=`.
    #[error("invalid ulimit argument: {0}")]
    Argument(String),
    /// No such limit.
    #[error("invalid ulimit type: {0}")]
    Type(String),
    /// More than soft and hard.
    #[error("too many limit value arguments - {0}, can only have up to two, `soft[:hard]`")]
    TooMany(String),
    /// No number.
    #[error("invalid ulimit value: {0:?} is neither a number nor -1")]
    Value(String),
    /// Soft above hard.
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order {
        /// Soft limit, as written.
        soft: String,
        /// Hard limit, as written.
        hard: String,
    },
}

/// The words of `--ulimit` and the names of config.json.
const NAMES: &[(&str, &str)] = &[
    ("core", "RLIMIT_CORE"),
    ("cpu", "RLIMIT_CPU"),
    ("data", "RLIMIT_DATA"),
    ("fsize", "RLIMIT_FSIZE"),
    ("locks", "RLIMIT_LOCKS"),
    ("memlock", "RLIMIT_MEMLOCK"),
    ("msgqueue", "RLIMIT_MSGQUEUE"),
    ("nice", "RLIMIT_NICE"),
    ("nofile", "RLIMIT_NOFILE"),
    ("nproc", "RLIMIT_NPROC"),
    ("rss", "RLIMIT_RSS"),
    ("rtprio", "RLIMIT_RTPRIO"),
    ("rttime", "RLIMIT_RTTIME"),
    ("sigpending", "RLIMIT_SIGPENDING"),
    ("stack", "RLIMIT_STACK"),
];

/// Reads one limit; -1 is "unlimited".
pub fn parse(text: &str) -> Result<Rlimit, UlimitError> {
    let (name, values) = text.split_once('=').ok_or_else(|| UlimitError::Argument(text.into()))?;
    let (_, kind) =
        NAMES.iter().find(|(n, _)| *n == name).ok_or_else(|| UlimitError::Type(name.into()))?;
    let (soft, hard) = match values.split_once(':') {
        Some((_, hard)) if hard.contains(':') => return Err(UlimitError::TooMany(values.into())),
        Some((soft, hard)) => (soft, hard),
        None => (values, values),
    };
    let number = |text: &str| match text {
        "-1" => Ok(u64::MAX),
        // Docker's numbers are signed, and none but -1 is above every other.
        _ => match text.parse::<i64>() {
            Ok(n) if n >= 0 => Ok(n as u64),
            _ => Err(UlimitError::Value(text.into())),
        },
    };
    let limit = Rlimit { kind: (*kind).into(), soft: number(soft)?, hard: number(hard)? };
    if limit.soft > limit.hard {
        return Err(UlimitError::Order { soft: soft.into(), hard: hard.into() });
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let ok = |kind: &str, soft, hard| Ok(Rlimit { kind: kind.into(), soft, hard });
        for (text, expected) in [
            ("nofile=1024", ok("RLIMIT_NOFILE", 1024, 1024)),
            ("nofile=1:2", ok("RLIMIT_NOFILE", 1, 2)),
            ("core=0:-1", ok("RLIMIT_CORE", 0, u64::MAX)),
            ("core=-1", ok("RLIMIT_CORE", u64::MAX, u64::MAX)),
            ("nofile", Err(UlimitError::Argument("nofile".into()))),
            ("NOFILE=1", Err(UlimitError::Type("NOFILE".into()))),
            ("as=1", Err(UlimitError::Type("as".into()))),
            ("cpu=1:2:3", Err(UlimitError::TooMany("1:2:3".into()))),
            ("cpu=", Err(UlimitError::Value("".into()))),
            ("cpu=1:", Err(UlimitError::Value("".into()))),
            ("cpu=-2", Err(UlimitError::Value("-2".into()))),
            ("cpu=1k", Err(UlimitError::Value("1k".into()))),
            ("cpu=2:1", Err(UlimitError::Order { soft: "2".into(), hard: "1".into() })),
            ("cpu=-1:1", Err(UlimitError::Order { soft: "-1".into(), hard: "1".into() })),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
