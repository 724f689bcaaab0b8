//! How a command fails: what is printed, and the exit code scripts look at.

use std::{fmt, io::Write as _};

use crate::flag::FlagError;

/// Exit code of a flag error, and of everything that goes wrong before a container's process runs.
pub const CODE_HAKO: u8 = 125;

/// What a verb comes to:
/// the exit code.
pub type Outcome = Result<u8, Failure>;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// `--help` was asked for.
    Help,
    /// The flags are wrong.
    Flags(FlagError),
    /// There are too many words or too few, in this sentence after the verb's name.
    Words(String),
    /// Something failed; the message, and the code to exit with.
    Failed {
        /// What, on what, and why.
        message: String,
        /// Exit code.
        code: u8,
    },
    /// The same, and the flags or the name are to blame: help is offered.
    Refused {
        /// What, on what, and why.
        message: String,
        /// Exit code.
        code: u8,
    },
    /// All has been said already.
    Said(u8),
}

impl Failure {
    /// Something failed, with the exit code that most commands have for it.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure::Failed { message: message.into(), code: 1 }
    }
}

impl From<FlagError> for Failure {
    fn from(error: FlagError) -> Failure {
        match error {
            FlagError::Help => Failure::Help,
            error => Failure::Flags(error),
        }
    }
}

impl From<crate::template::Error> for Failure {
    fn from(error: crate::template::Error) -> Failure {
        Failure::Failed { message: format!("template parsing error: {error}"), code: 64 }
    }
}

impl From<hako_engine::Error> for Failure {
    fn from(error: hako_engine::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// Output that nobody reads any more is the reader's wish, not a failure to talk about.
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Said(141),
            _ => Failure::new(format!("writing output: {error}")),
        }
    }
}

/// Success.
pub fn success() -> Outcome {
    Ok(0)
}

/// Says something on standard error, like `eprintln!`. Where that cannot be written to there is
/// nobody left to tell, which is no reason to panic.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::failure::write_line(format_args!($($words)*))
    };
}
pub(crate) use say;

pub(crate) fn write_line(words: fmt::Arguments<'_>) {
    let line = plain(&words.to_string()) + "\n";
    let _nobody = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Without the numbers that Rust's library puts behind what the kernel said.
pub(crate) fn plain(message: &str) -> String {
    let mut pieces = message.split(" (os error ");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => text += rest,
            _ => {
                text += " (os error ";
                text += piece;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_of_errors_are_left_out() {
        for (message, want) in [
            (
                "open /x: No such file or directory (os error 2)",
                "open /x: No such file or directory",
            ),
            ("a (os error 2); b (os error 13): c", "a; b: c"),
            ("nothing (os error x) and (os error 1", "nothing (os error x) and (os error 1"),
        ] {
            assert_eq!(super::plain(message), want);
        }
    }
}
