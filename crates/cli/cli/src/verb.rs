//! The table of verbs, and how a command line finds its way to one.

use std::io;

use crate::failure::say;
use crate::{
    App,
    failure::{Failure, Outcome},
    flag::{self, Completes, FlagInfo, Group, Order},
    help, verbs,
};

/// One command.
pub struct Verb {
    /// Everything it is called, as `ps` and `container ls`; the first is its name.
    pub paths: &'static [&'static str],
    /// Heading in the overview.
    pub topic: Topic,
    /// What follows its name, as `[OPTIONS] IMAGE`.
    pub usage: &'static str,
    /// One line.
    pub about: &'static str,
    /// What a reader of the help text may want beyond the flags; examples.
    pub more: &'static str,
    /// What its words are, for completion.
    pub words: Completes,
    /// How many words it takes, at least and at most.
    pub count: (usize, usize),
    /// Its flags.
    pub flags: fn() -> Vec<(&'static str, Vec<FlagInfo>)>,
    /// Does it.
    pub run: fn(&App, &Verb, &[String]) -> Outcome,
}

/// Headings of the overview, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `run`, `ps` and what is typed daily.
    Common,
    /// The life of containers.
    Containers,
    /// Images.
    Images,
    /// hako itself.
    System,
    /// Run by hako, not by people; not in the overview.
    Internal,
}

impl Topic {
    /// All, with their headings.
    pub const ALL: &'static [(Topic, &'static str)] = &[
        (Topic::Common, "Common commands"),
        (Topic::Containers, "Containers"),
        (Topic::Images, "Images"),
        (Topic::System, "hako itself"),
    ];
}

/// Nouns before which a verb may stand, and what they are about.
pub const NOUNS: &[(&str, &str)] = &[
    ("artifact", "Manage what registries keep beside images"),
    ("builder", "Manage builds"),
    ("buildx", "Manage builds, as Docker calls it"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("index", "Manage lists of images for several platforms"),
    ("manifest", "Manage lists of images for several platforms"),
    ("registry", "Serve images"),
    ("system", "Manage hako"),
];

impl Verb {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.paths[0]
    }

    /// Parses its arguments into `options`; gives its words, whose number is right.
    pub fn parse<T>(
        &self,
        groups: &[Group<T>],
        order: Order,
        args: &[String],
        options: &mut T,
    ) -> Result<Vec<String>, Failure> {
        let words = flag::parse(groups, order, args, options)?;
        let (least, most) = self.count;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let wrong = match words.len() {
            n if n > most && most == 0 => "accepts no arguments.".to_owned(),
            n if (n < least || n > most) && least == most => {
                format!("requires exactly {least} argument{}.", plural(least))
            }
            n if n < least => format!("requires at least {least} argument{}.", plural(least)),
            n if n > most => format!("requires at most {most} argument{}.", plural(most)),
            _ => return Ok(words),
        };
        Err(Failure::Words(wrong))
    }
}

/// The verb that `words` begin with, and how many of them name it.
pub fn find(words: &[String]) -> Option<(&'static Verb, usize)> {
    let first = words.first()?;
    let two = words.get(1).map(|second| format!("{first} {second}"));
    let called = |name: &str| verbs::ALL.iter().copied().find(|v| v.paths.contains(&name));
    two.and_then(|two| Some((called(&two)?, 2))).or_else(|| Some((called(first)?, 1)))
}

/// Runs what `words` ask for and says what went wrong; gives the exit code.
pub fn dispatch(app: &App, words: &[String]) -> io::Result<u8> {
    let Some(first) = words.first() else {
        help::overview(&mut io::stdout().lock())?;
        return Ok(0);
    };
    if first == "help" {
        return help_on(&words[1..]);
    }
    let Some((verb, used)) = find(words) else {
        return unknown(words);
    };
    let result = (verb.run)(app, verb, &words[used..]);
    report(verb, result)
}

/// `hako help VERB`.
fn help_on(words: &[String]) -> io::Result<u8> {
    match (find(words), words) {
        (Some((verb, _)), _) => help::verb(&mut io::stdout().lock(), verb)?,
        (None, []) => help::overview(&mut io::stdout().lock())?,
        (None, [noun, ..]) if is_noun(noun) => help::noun(&mut io::stdout().lock(), noun)?,
        (None, words) => return unknown(words),
    }
    Ok(0)
}

fn is_noun(word: &str) -> bool {
    NOUNS.iter().any(|(noun, _)| *noun == word)
}

fn unknown(words: &[String]) -> io::Result<u8> {
    let first = words.first().map(String::as_str).unwrap_or_default();
    if is_noun(first) {
        return match words.get(1).map(String::as_str) {
            None | Some("--help" | "-h") => {
                help::noun(&mut io::stdout().lock(), first)?;
                Ok(0)
            }
            Some(second) => {
                say!("hako: unknown command: hako {first} {second}");
                say!("See 'hako {first} --help'.");
                Ok(1)
            }
        };
    }
    say!("hako: '{first}' is not a hako command.");
    if let Some(near) = nearest(first) {
        say!("Did you mean '{near}'?");
    }
    say!("See 'hako --help'.");
    Ok(1)
}

/// The verb whose name differs by one letter added, lost, changed or exchanged.
fn nearest(word: &str) -> Option<&'static str> {
    let names = verbs::ALL.iter().map(|v| v.name()).filter(|n| !n.contains(' '));
    names.min_by_key(|name| distance(word, name)).filter(|name| distance(word, name) <= 1)
}

/// Edits from `a` to `b`, an exchange of neighbours being one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn report(verb: &Verb, result: Outcome) -> io::Result<u8> {
    let name = verb.name();
    let is_run = name == "run";
    let prefix = if is_run { "hako" } else { "Error" };
    match result {
        Ok(code) | Err(Failure::Said(code)) => Ok(code),
        Err(Failure::Help) => {
            help::verb(&mut io::stdout().lock(), verb)?;
            Ok(0)
        }
        Err(Failure::Flags(error)) => {
            say!("{error}\nSee 'hako {name} --help'.");
            Ok(crate::failure::CODE_HAKO)
        }
        Err(Failure::Words(sentence)) => {
            say!("\"hako {name}\" {sentence}\nSee 'hako {name} --help'.\n");
            say!("Usage:  hako {name} {}\n\n{}", verb.usage, verb.about);
            Ok(1)
        }
        Err(Failure::Failed { message, code }) => {
            say!("{prefix}: {message}");
            Ok(code)
        }
        Err(Failure::Refused { message, code }) => {
            say!("{prefix}: {message}\nSee 'hako {name} --help'.");
            Ok(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits() {
        assert_eq!(distance("run", "run"), 0);
        assert_eq!(distance("rnu", "run"), 1);
        assert_eq!(distance("imags", "images"), 1);
        assert_eq!(distance("", "ab"), 2);
    }

    #[test]
    fn verbs_are_found_by_all_their_paths() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let name = |line: &str| find(&words(line)).map(|(v, used)| (v.name(), used));
        assert_eq!(name("run -it x"), Some(("run", 1)));
        assert_eq!(name("container run x"), Some(("run", 2)));
        assert_eq!(name("image ls"), Some(("images", 2)));
        assert_eq!(name("container foo"), None);
        assert_eq!(nearest("imags"), Some("images"));
        assert_eq!(nearest("frobnicate"), None);
    }

    #[test]
    fn every_path_is_one_verbs_and_every_noun_known() {
        let mut seen = std::collections::BTreeSet::new();
        for path in verbs::ALL.iter().flat_map(|v| v.paths) {
            assert!(seen.insert(path), "{path} twice");
            if let Some((noun, _)) = path.split_once(' ') {
                assert!(is_noun(noun), "{noun}");
            }
        }
    }

    #[test]
    fn flags_are_unique_and_documented() {
        for verb in verbs::ALL {
            let mut seen = std::collections::BTreeSet::new();
            for flag in (verb.flags)().into_iter().flat_map(|(_, flags)| flags) {
                assert!(seen.insert(flag.long.to_owned()), "{}: --{}", verb.name(), flag.long);
                if let Some(short) = flag.short {
                    assert!(seen.insert(format!("-{short}")), "{}: -{short}", verb.name());
                }
                assert!(!flag.help.is_empty() && !flag.help.ends_with('.'), "--{}", flag.long);
            }
        }
    }
}
