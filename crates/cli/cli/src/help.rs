//! Help texts: the overview, a noun's verbs, and everything about one verb.

use std::io::{self, Write};

use crate::{
    flag::{self, FlagInfo, Takes},
    verb::{NOUNS, Topic, Verb},
    verbs,
};

const WIDTH: usize = 90;

/// `hako --help`.
pub fn overview(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "Usage:  hako [OPTIONS] COMMAND\n")?;
    writeln!(out, "Containers without a daemon\n")?;
    let shown = verbs::ALL.iter().filter(|v| v.topic != Topic::Internal);
    let width = shown.map(|v| v.name().len()).max().unwrap_or_default();
    for (topic, heading) in Topic::ALL {
        writeln!(out, "{heading}:")?;
        for verb in verbs::ALL.iter().filter(|v| v.topic == *topic) {
            writeln!(out, "  {:width$}  {}", verb.name(), verb.about)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "Management forms:")?;
    for (noun, about) in NOUNS {
        writeln!(out, "  {noun:width$}  {about}")?;
    }
    flags(out, &flag::describe(crate::GLOBAL))?;
    writeln!(out, "\nTo see what isolation a container has, without any image at hand:")?;
    writeln!(out, "  hako run --rm hako:tour\n")?;
    writeln!(out, "Run 'hako COMMAND --help' for more on a command.")
}

/// `hako image --help`.
pub fn noun(out: &mut impl Write, noun: &str) -> io::Result<()> {
    let about = NOUNS.iter().find(|(n, _)| *n == noun).map(|(_, about)| *about);
    writeln!(out, "Usage:  hako {noun} COMMAND\n\n{}\n\nCommands:", about.unwrap_or_default())?;
    for verb in verbs::ALL {
        let ours = |path: &&str| {
            path.split_once(' ').filter(|(n, _)| *n == noun).map(|(_, v)| v.to_owned())
        };
        if let Some(name) = verb.paths.iter().find_map(ours) {
            writeln!(out, "  {name:14} {}", verb.about)?;
        }
    }
    writeln!(out, "\nRun 'hako {noun} COMMAND --help' for more on a command.")
}

/// `hako VERB --help`.
pub fn verb(out: &mut impl Write, verb: &Verb) -> io::Result<()> {
    writeln!(out, "Usage:  hako {} {}\n\n{}", verb.name(), verb.usage, verb.about)?;
    if verb.paths.len() > 1 {
        let paths: Vec<String> = verb.paths.iter().map(|p| format!("hako {p}")).collect();
        writeln!(out, "\nAliases:\n  {}", paths.join(", "))?;
    }
    flags(out, &(verb.flags)())?;
    match verb.more {
        "" => Ok(()),
        more => writeln!(out, "\n{}", more.trim_end()),
    }
}

/// Groups of flags, all help texts in one column.
fn flags(out: &mut impl Write, groups: &[(&str, Vec<FlagInfo>)]) -> io::Result<()> {
    let width = groups.iter().flat_map(|(_, flags)| flags).map(|f| left(f).len()).max();
    for (heading, flags) in groups {
        writeln!(out, "\n{heading}:")?;
        for flag in flags {
            let left = left(flag);
            let indent = width.unwrap_or_default() + 5;
            let mut lines = wrap(flag.help, WIDTH.saturating_sub(indent)).into_iter();
            let first = lines.next().unwrap_or_default();
            writeln!(out, "  {left:width$}   {first}", width = indent - 5)?;
            for line in lines {
                writeln!(out, "{:indent$}{line}", "")?;
            }
        }
    }
    Ok(())
}

/// `-e, --env list`
fn left(flag: &FlagInfo) -> String {
    let short = flag.short.map_or("    ".to_owned(), |c| format!("-{c}, "));
    match flag.takes {
        Takes::Nothing => format!("{short}--{}", flag.long),
        takes => format!("{short}--{} {takes}", flag.long),
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_help_is_too_long() {
        for v in verbs::ALL {
            let mut out = Vec::new();
            verb(&mut out, v).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(text.starts_with(&format!("Usage:  hako {} ", v.name())), "{}", v.name());
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", v.name());
            }
        }
    }
}
