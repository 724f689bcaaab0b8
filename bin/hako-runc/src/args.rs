//! The command line: a table of flags per verb, options before and after positional arguments.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

/// A flag of a verb.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// The name of its value in the help; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
}

/// A switch.
pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

/// A flag with a value.
pub(crate) const fn value(
    long: &'static str,
    short: Option<char>,
    name: &'static str,
    help: &'static str,
) -> Flag {
    Flag { long, short, value: Some(name), help }
}

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    flags: Vec<(&'static str, String)>,
    /// `--` was there: what follows is positional.
    ended: bool,
    /// Positional arguments.
    pub(crate) positional: Vec<String>,
    /// Whether help was asked for.
    pub(crate) help: bool,
}

impl Parsed {
    /// The last value of a flag.
    pub(crate) fn get(&self, long: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(l, _)| *l == long).map(|(_, v)| v.as_str())
    }

    /// The last value of a flag, if it is not empty: to runc an empty one is none.
    pub(crate) fn text(&self, long: &str) -> Option<&str> {
        self.get(long).filter(|v| !v.is_empty())
    }

    /// All values of a flag.
    pub(crate) fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(l, _)| *l == long).map(|(_, v)| v.as_str())
    }

    /// Whether a switch is on.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.get(long).is_some_and(|v| !matches!(v, "false" | "0"))
    }

    /// A flag's value as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, long: &str) -> Result<Option<T>, String> {
        self.get(long)
            .map(|v| v.parse().map_err(|_| format!("invalid value \"{v}\" for flag -{long}")))
            .transpose()
    }

    /// The only positional argument, a container's ID. The words are runc's.
    pub(crate) fn id(&self, verb: &str) -> Result<&str, String> {
        match self.positional.as_slice() {
            [only] => Ok(only),
            _ => Err(format!("hako-runc: \"{verb}\" requires exactly 1 argument(s): container ID")),
        }
    }
}

/// Where parsing stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end.
    Never,
    /// After this many positional arguments: the rest is taken as it is.
    After(usize),
}

/// Parses flags up to the first positional argument, the verb, and leaves the rest alone.
pub(crate) fn parse_until_verb(parser: &mut Parser, table: &[Flag]) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    while parsed.positional.is_empty() {
        if !step(parser, table, &mut parsed)? {
            break;
        }
    }
    Ok(parsed)
}

/// Parses flags of this table.
pub(crate) fn parse(parser: &mut Parser, table: &[Flag], stop: Stop) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    loop {
        let before = parsed.positional.len();
        if !step(parser, table, &mut parsed)? {
            return Ok(parsed);
        }
        // What follows the last of them belongs to somebody else.
        if let Stop::After(n) = stop
            && parsed.positional.len() == n
            && before < n
        {
            for rest in parser.raw_args().map_err(|e| e.to_string())? {
                parsed.positional.push(text(rest)?);
            }
            return Ok(parsed);
        }
    }
}

/// Parses one argument; false at the end.
fn step(parser: &mut Parser, table: &[Flag], parsed: &mut Parsed) -> Result<bool, String> {
    let next = parser.try_raw_args();
    parsed.ended |= next.is_some_and(|raw| raw.as_slice().first().is_some_and(|word| word == "--"));
    if !parsed.ended
        && let Some(flag) = single_dash(parser, table)
    {
        let (flag, value) = flag?;
        parsed.flags.push((flag.long, value));
        return Ok(true);
    }
    let Some(arg) = parser.next().map_err(|e| e.to_string())? else { return Ok(false) };
    let is_long = matches!(arg, Arg::Long(_));
    let flag = match arg {
        Arg::Value(value) => {
            parsed.positional.push(text(value)?);
            return Ok(true);
        }
        Arg::Short('h' | '?') | Arg::Long("help" | "usage") => {
            parsed.help = true;
            return Ok(true);
        }
        Arg::Short(c) => {
            // crun has its version under both.
            let c = if c == 'V' { 'v' } else { c };
            table.iter().find(|f| f.short == Some(c)).ok_or_else(|| unknown(&format!("-{c}")))?
        }
        Arg::Long(name) => {
            let found = table.iter().find(|f| f.long == name);
            found.ok_or_else(|| unknown(&format!("--{name}")))?
        }
    };
    let value = match flag.value {
        Some(_) => text(parser.value().map_err(|e| e.to_string())?)?,
        // `--detach=false` is valid for runc; `-dx` are two flags.
        None if is_long => {
            parser.optional_value().map(text).transpose()?.unwrap_or_else(|| "true".to_owned())
        }
        None => "true".to_owned(),
    };
    parsed.flags.push((flag.long, value));
    Ok(true)
}

/// A long flag behind one dash (`-bundle DIR`), as Go's flags may be written; consumed if the next
/// argument is one. Others are left to be read letter by letter.
fn single_dash<'t>(
    parser: &mut Parser,
    table: &'t [Flag],
) -> Option<Result<(&'t Flag, String), String>> {
    let mut raw = parser.try_raw_args()?;
    let word = raw.peek()?.to_str()?.strip_prefix('-')?.to_owned();
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (word.as_str(), None),
    };
    // Two letters may also be two switches; no long name is that short.
    let flag = table.iter().find(|f| f.long == name && name.len() > 2)?;
    raw.next();
    Some(match (flag.value, value) {
        (_, Some(value)) => Ok((flag, value)),
        (None, None) => Ok((flag, "true".to_owned())),
        (Some(_), None) => match raw.next() {
            Some(value) => text(value).map(|value| (flag, value)),
            None => Err(format!("flag needs an argument: -{name}")),
        },
    })
}

fn unknown(flag: &str) -> String {
    format!("flag provided but not defined: {flag}")
}

fn text(value: OsString) -> Result<String, String> {
    value.into_string().map_err(|v| format!("argument {v:?} is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        value("bundle", Some('b'), "DIR", ""),
        switch("detach", Some('d'), ""),
        value("env", Some('e'), "K=V", ""),
    ];

    fn run(args: &[&str], stop: Stop) -> Result<Parsed, String> {
        parse(&mut Parser::from_args(args.iter().copied()), TABLE, stop)
    }

    #[test]
    fn options_before_and_after() {
        for args in [
            &["-d", "-b", "x", "id"][..],
            &["id", "--bundle=x", "--detach"],
            &["-dbx", "id"],
            &["-bundle", "x", "-detach=1", "id"],
        ] {
            let p = run(args, Stop::Never).unwrap();
            assert_eq!(
                (p.get("bundle"), p.has("detach"), p.id("id").map_err(drop)),
                (Some("x"), true, Ok("id")),
                "{args:?}"
            );
        }
        assert!(!run(&["--detach=false"], Stop::Never).unwrap().has("detach"));
        assert!(run(&["--nope"], Stop::Never).is_err());
        assert!(run(&["-b"], Stop::Never).is_err());
        assert!(run(&["-bundle"], Stop::Never).is_err());
        // One dash alone is a value, and two end the flags.
        assert_eq!(run(&["-", "--", "-detach"], Stop::Never).unwrap().positional, ["-", "-detach"]);
    }

    #[test]
    fn a_command_keeps_its_own_options() {
        let p =
            run(&["-e", "A=1", "id", "-d", "sh", "-b", "x", "--", "-d"], Stop::After(2)).unwrap();
        assert_eq!(p.positional, ["id", "sh", "-b", "x", "--", "-d"]);
        assert!(p.has("detach") && p.get("bundle").is_none());
        let p = run(&["id", "--", "-x", "y"], Stop::After(2)).unwrap();
        assert_eq!(p.positional, ["id", "-x", "y"]);
    }
}
