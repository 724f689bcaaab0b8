//! The tables of verbs and flags as a clap command, from which clap's generators make shell
//! completions and man pages. Nothing is parsed with it.

use std::io;

use clap::{Arg, ArgAction, Command, ValueHint, builder::PossibleValuesParser};
use clap_complete::{Shell, generate};

use crate::{
    GLOBAL,
    flag::{self, Completes, FlagInfo, Takes},
    verb::{NOUNS, Topic, Verb},
    verbs,
};

/// The completion script for a shell; `None` if it is not known.
pub fn completions(shell: &str) -> Option<String> {
    let shell: Shell = shell.parse().ok()?;
    let mut out = Vec::new();
    generate(shell, &mut hako(), "hako", &mut out);
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// The manual page of a verb, or of hako where the name is empty.
pub fn man(name: &str) -> io::Result<Option<String>> {
    if name.is_empty() {
        return roff(hako().disable_help_subcommand(true), "hako").map(Some);
    }
    let Some(verb) = verbs::ALL.iter().find(|v| v.paths.contains(&name)) else { return Ok(None) };
    roff(command(verb, verb.name()), &page_name(verb)).map(Some)
}

/// All manual pages with their file names.
pub fn man_all() -> io::Result<Vec<(String, String)>> {
    let mut pages =
        vec![("hako.1".to_owned(), roff(hako().disable_help_subcommand(true), "hako")?)];
    for verb in verbs::ALL.iter().filter(|v| v.topic != Topic::Internal) {
        let name = page_name(verb);
        pages.push((format!("{name}.1"), roff(command(verb, verb.name()), &name)?));
    }
    Ok(pages)
}

fn page_name(verb: &Verb) -> String {
    format!("hako-{}", verb.name().replace(' ', "-"))
}

fn roff(command: Command, title: &str) -> io::Result<String> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command.name(title.to_owned())).title(title).render(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn hako() -> Command {
    let mut hako = Command::new("hako")
        .about("Containers without a daemon")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .args(flag::describe(GLOBAL).iter().flat_map(|(_, flags)| flags).map(arg));
    let shown = || verbs::ALL.iter().filter(|v| v.topic != Topic::Internal);
    for verb in shown().filter(|v| !v.name().contains(' ')) {
        hako = hako.subcommand(command(verb, verb.name()));
    }
    for (noun, about) in NOUNS {
        let mut group = Command::new(*noun).about(*about);
        for verb in verbs::ALL {
            let below = |path: &&'static str| path.strip_prefix(noun)?.strip_prefix(' ');
            // One name is enough for a completion.
            if let Some(name) = verb.paths.iter().find_map(below)
                && !(verb.topic == Topic::Internal && name == "cleanup")
            {
                group = group.subcommand(command(verb, name));
            }
        }
        hako = hako.subcommand(group);
    }
    hako
}

fn command(verb: &Verb, name: &'static str) -> Command {
    let mut command = Command::new(name)
        .about(verb.about)
        .override_usage(format!("hako {} {}", verb.name(), verb.usage))
        .disable_help_flag(true)
        .disable_version_flag(true);
    if !verb.more.is_empty() {
        command = command.after_long_help(verb.more);
    }
    for (heading, flags) in (verb.flags)() {
        command = command.args(flags.iter().map(|f| arg(f).help_heading(heading)));
    }
    let words = Arg::new("WORDS").num_args(0..).hide(true);
    command.arg(match verb.words {
        Completes::Nothing => words,
        completes => proposing(words, completes),
    })
}

fn arg(flag: &FlagInfo) -> Arg {
    let mut arg = Arg::new(flag.long).long(flag.long).help(flag.help);
    if let Some(short) = flag.short {
        arg = arg.short(short);
    }
    arg = match flag.takes {
        Takes::Nothing => arg.action(ArgAction::SetTrue),
        Takes::One(value) => arg.action(ArgAction::Set).value_name(value),
        Takes::Many(value) => arg.action(ArgAction::Append).value_name(value),
    };
    match flag.takes {
        Takes::Nothing => arg,
        _ => proposing(arg, flag.completes),
    }
}

fn proposing(arg: Arg, completes: Completes) -> Arg {
    match completes {
        Completes::Nothing => arg.value_hint(ValueHint::Other),
        Completes::File => arg.value_hint(ValueHint::FilePath),
        Completes::Directory => arg.value_hint(ValueHint::DirPath),
        Completes::Words(words) => {
            arg.value_parser(PossibleValuesParser::new(words)).hide_possible_values(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_and_every_page_can_be_made() {
        hako().debug_assert();
        for shell in ["bash", "zsh", "fish"] {
            let script = completions(shell).unwrap();
            assert!(script.contains("--cap-add") || script.contains("cap-add"), "{shell}");
        }
        assert!(completions("tcsh").is_none());
        let pages = man_all().unwrap();
        assert!(
            pages.iter().any(|(name, page)| name == "hako-run.1" && page.contains("entrypoint"))
        );
        assert!(man("nope").unwrap().is_none());
    }
}
