//! Flags as Docker's users know them: the grammar of Go's pflag.
//!
//! A flag is one item of a table that owns its names, help, completion and meaning; the parser,
//! the help text, the completions and the man pages all read that table. The parser is our own
//! because pflag's habits are what people's scripts rely on: `-itd`, `--rm=false`, a value that
//! begins with a dash, the last of two wins, flags may end at the first word, and its messages.

use std::fmt;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// One value; the last one counts. The word is what help calls it.
    One(&'static str),
    /// A value each time it is given.
    Many(&'static str),
}

/// What can be proposed for a flag's value or a verb's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completes {
    /// Nothing is known.
    Nothing,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// One of these words.
    Words(&'static [&'static str]),
}

/// One flag of commands whose options are a `T`.
pub struct Flag<T> {
    /// Name after two dashes.
    pub long: &'static str,
    /// Letter after one dash.
    pub short: Option<char>,
    /// Its value.
    pub takes: Takes,
    /// What can be proposed for its value.
    pub completes: Completes,
    /// One line.
    pub help: &'static str,
    /// Gives it its meaning. For a flag that takes nothing the text is `true` or `false`.
    pub set: fn(&mut T, &str) -> Result<(), String>,
}

impl<T> Flag<T> {
    /// A flag that takes nothing.
    pub const fn switch(
        long: &'static str,
        short: Option<char>,
        help: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
    ) -> Flag<T> {
        Flag { long, short, takes: Takes::Nothing, completes: Completes::Nothing, help, set }
    }

    /// A flag with one value.
    pub const fn one(
        long: &'static str,
        short: Option<char>,
        value: &'static str,
        help: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
    ) -> Flag<T> {
        let takes = Takes::One(value);
        Flag { long, short, takes, completes: Completes::Nothing, help, set }
    }

    /// A flag that may be given again and again.
    pub const fn many(
        long: &'static str,
        short: Option<char>,
        value: &'static str,
        help: &'static str,
        set: fn(&mut T, &str) -> Result<(), String>,
    ) -> Flag<T> {
        let takes = Takes::Many(value);
        Flag { long, short, takes, completes: Completes::Nothing, help, set }
    }

    /// The same, with proposals for its value.
    pub const fn completes(mut self, completes: Completes) -> Flag<T> {
        self.completes = completes;
        self
    }

    /// What is known of it without its meaning.
    pub fn info(&self) -> FlagInfo {
        FlagInfo {
            long: self.long,
            short: self.short,
            takes: self.takes,
            completes: self.completes,
            help: self.help,
        }
    }

    /// As messages call it: `-m, --memory`.
    fn name(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// A heading and the flags below it.
pub struct Group<T: 'static> {
    /// Heading in the help text.
    pub heading: &'static str,
    /// Flags.
    pub flags: &'static [Flag<T>],
}

/// A flag without its meaning: for help, completion and man pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlagInfo {
    /// Name after two dashes.
    pub long: &'static str,
    /// Letter after one dash.
    pub short: Option<char>,
    /// Its value.
    pub takes: Takes,
    /// What can be proposed for its value.
    pub completes: Completes,
    /// One line.
    pub help: &'static str,
}

/// The groups of a table without the flags' meaning.
pub fn describe<T>(groups: &[Group<T>]) -> Vec<(&'static str, Vec<FlagInfo>)> {
    groups.iter().map(|g| (g.heading, g.flags.iter().map(Flag::info).collect())).collect()
}

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Anywhere among the words.
    Anywhere,
    /// Before the first word; what follows it is another program's.
    First,
}

/// Why arguments cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// `--help` was among them.
    #[error("pflag: help requested")]
    Help,
    /// `--name` is no flag.
    #[error("unknown flag: --{0}")]
    Unknown(String),
    /// `-x` is no flag.
    #[error("unknown shorthand flag: '{letter}' in -{word}")]
    UnknownShort {
        /// The letter.
        letter: char,
        /// The letters it is among.
        word: String,
    },
    /// A word that looks like a flag and is none.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// It needs a value and none follows.
    #[error("flag needs an argument: {0}")]
    NoValue(String),
    /// Its value is refused.
    #[error("invalid argument {value:?} for \"{flag}\" flag: {reason}")]
    Value {
        /// The value.
        value: String,
        /// The flag's names.
        flag: String,
        /// Why.
        reason: String,
    },
}

/// Parses `args`: flags change `options` in the order they are given, the words are returned.
pub fn parse<T>(
    groups: &[Group<T>],
    order: Order,
    args: &[String],
    options: &mut T,
) -> Result<Vec<String>, FlagError> {
    let mut words = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            words.extend(args.cloned());
            break;
        }
        if let Some(long) = arg.strip_prefix("--") {
            parse_long(groups, arg, long, &mut args, options)?;
        } else if arg.starts_with('-') && arg.len() > 1 {
            parse_short(groups, &arg[1..], &mut args, options)?;
        } else {
            words.push(arg.clone());
            if order == Order::First {
                words.extend(args.cloned());
                break;
            }
        }
    }
    Ok(words)
}

fn parse_long<'a, T>(
    groups: &[Group<T>],
    arg: &str,
    long: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    options: &mut T,
) -> Result<(), FlagError> {
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(FlagError::Syntax(arg.to_owned()));
    }
    let flag = match all(groups).find(|f| f.long == name) {
        Some(flag) => flag,
        None if name == "help" => return Err(FlagError::Help),
        None => return Err(FlagError::Unknown(name.to_owned())),
    };
    let value = match (value, flag.takes) {
        (Some(value), _) => value,
        (None, Takes::Nothing) => "true",
        (None, _) => rest.next().ok_or_else(|| FlagError::NoValue(format!("--{name}")))?,
    };
    apply(flag, value, options)
}

/// `-itd`, `-e A=B`, `-eA=B`, `-e=A=B`.
fn parse_short<'a, T>(
    groups: &[Group<T>],
    letters: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    options: &mut T,
) -> Result<(), FlagError> {
    for (at, letter) in letters.char_indices() {
        let word = &letters[at..];
        let flag = match all(groups).find(|f| f.short == Some(letter)) {
            Some(flag) => flag,
            None if letter == 'h' => return Err(FlagError::Help),
            None => return Err(FlagError::UnknownShort { letter, word: word.to_owned() }),
        };
        let after = &word[letter.len_utf8()..];
        match (flag.takes, after.strip_prefix('='), after) {
            (_, Some(value), _) => return apply(flag, value, options),
            (Takes::Nothing, ..) => apply(flag, "true", options)?,
            (_, _, "") => {
                let none = || FlagError::NoValue(format!("'{letter}' in -{word}"));
                return apply(flag, rest.next().ok_or_else(none)?, options);
            }
            (_, _, value) => return apply(flag, value, options),
        }
    }
    Ok(())
}

fn apply<T>(flag: &Flag<T>, value: &str, options: &mut T) -> Result<(), FlagError> {
    let refused =
        |reason: String| FlagError::Value { value: value.to_owned(), flag: flag.name(), reason };
    let text = match flag.takes {
        Takes::Nothing => match parse_bool(value) {
            Some(true) => "true",
            Some(false) => "false",
            None => {
                let reason = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
                return Err(refused(reason));
            }
        },
        _ => value,
    };
    (flag.set)(options, text).map_err(refused)
}

fn all<T>(groups: &[Group<T>]) -> impl Iterator<Item = &Flag<T>> {
    groups.iter().flat_map(|g| g.flags)
}

/// The words that Go takes for a truth value.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A number as pflag takes it, decimal or with Go's prefix.
pub fn parse_integer<N: TryFrom<i128>>(text: &str) -> Result<N, String> {
    let syntax = || format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some(two) if two.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return Err(syntax());
    }
    let number = i128::from_str_radix(digits, radix).map_err(|_| syntax())?;
    N::try_from(sign * number)
        .map_err(|_| format!("strconv.ParseInt: parsing {text:?}: value out of range"))
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Takes::Nothing => Ok(()),
            Takes::One(value) | Takes::Many(value) => f.write_str(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug)]
    struct Options {
        log: Vec<String>,
    }

    fn note(o: &mut Options, what: &str, value: &str) -> Result<(), String> {
        o.log.push(format!("{what}:{value}"));
        Ok(())
    }

    const GROUPS: &[Group<Options>] = &[Group {
        heading: "Options",
        flags: &[
            Flag::switch("interactive", Some('i'), "", |o, v| note(o, "i", v)),
            Flag::switch("tty", Some('t'), "", |o, v| note(o, "t", v)),
            Flag::switch("rm", None, "", |o, v| note(o, "rm", v)),
            Flag::many("env", Some('e'), "list", "", |o, v| note(o, "e", v)),
            Flag::one("number", Some('n'), "int", "", |o, v| {
                let n: i64 = parse_integer(v)?;
                note(o, "n", &n.to_string())
            }),
        ],
    }];

    /// What `-it -e A=1 word` comes to, in one line.
    fn run(order: Order, line: &str) -> String {
        let args: Vec<String> = line.split(' ').map(|w| w.replace('_', " ")).collect();
        let mut options = Options::default();
        match parse(GROUPS, order, &args, &mut options) {
            Ok(words) => format!("{} | {}", options.log.join(" "), words.join(" ")),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_are_pflags() {
        use Order::{Anywhere, First};
        let cases = [
            (First, "-it image -x --rm", "i:true t:true | image -x --rm"),
            (
                First,
                "--rm -e A=1 --env=B=2 -eC=3 -e=D=4 image",
                "rm:true e:A=1 e:B=2 e:C=3 e:D=4 | image",
            ),
            (First, "--rm=false -t=0 image", "rm:false t:false | image"),
            (First, "-ite A=B image", "i:true t:true e:A=B | image"),
            (First, "-e --rm image", "e:--rm | image"),
            (First, "--env= image", "e: | image"),
            (First, "-- -it", " | -it"),
            (First, "- -it", " | - -it"),
            (Anywhere, "a -it b", "i:true t:true | a b"),
            (Anywhere, "a -- -it", " | a -it"),
            (First, "-n 5 -n=-1 -n 0x10 -n-3 w", "n:5 n:-1 n:16 n:-3 | w"),
            (First, "--foo image", "unknown flag: --foo"),
            (First, "--foo=1 image", "unknown flag: --foo"),
            (First, "-iZt image", "unknown shorthand flag: 'Z' in -Zt"),
            (First, "--env", "flag needs an argument: --env"),
            (First, "-ie", "flag needs an argument: 'e' in -e"),
            (First, "---x", "bad flag syntax: ---x"),
            (First, "--=x", "bad flag syntax: --=x"),
            (First, "--help", "pflag: help requested"),
            (First, "-ih", "pflag: help requested"),
            (
                First,
                "--rm=maybe",
                "invalid argument \"maybe\" for \"--rm\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
            (
                First,
                "-n x",
                "invalid argument \"x\" for \"-n, --number\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (First, "-é", "unknown shorthand flag: 'é' in -é"),
        ];
        for (order, line, want) in cases {
            assert_eq!(run(order, line), want, "{line}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(parse_integer::<u16>("65535"), Ok(65535));
        assert!(parse_integer::<u16>("65536").unwrap_err().contains("out of range"));
        assert!(parse_integer::<u16>("-1").is_err());
        for bad in ["", "-", "+-1", "--1", "0x", "1 ", "9999999999999999999999999999999999999999"] {
            assert!(parse_integer::<i64>(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse_integer::<i64>("010"), Ok(8));
        assert_eq!(parse_integer::<i64>("0"), Ok(0));
    }
}
