//! Writes a Dockerfile that says the same: what was typed, read again, is what it was.

use std::{
    fmt::{self, Display, Formatter, Write},
    time::Duration,
};

use crate::ast::{
    Add, CommandLine, Copy, Dockerfile, Escape, Healthcheck, Heredoc, Instruction, Kind, Network,
    Pair, Place, Run, Security, Stage, Transfer,
};
use crate::source::Word;

impl Display for Dockerfile {
    /// Heredocs that are no UTF-8 lose what is none.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for directive in &self.directives {
            writeln!(f, "# {}={}", directive.name, directive.value)?;
        }
        // No comment that follows is a directive.
        f.write_str("\n")?;
        for instruction in &self.global_args {
            instruction.fmt(f)?;
        }
        for stage in &self.stages {
            stage.fmt(f)?;
        }
        Ok(())
    }
}

fn begin(f: &mut Formatter<'_>, place: &Place) -> fmt::Result {
    for comment in &place.comments {
        writeln!(f, "# {comment}")?;
    }
    write!(f, "{}", place.keyword)
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        begin(f, &self.place)?;
        flag(f, "platform", self.platform.as_ref())?;
        arguments(f, self.base.as_str())?;
        if let (Some(keyword), Some(name)) = (&self.as_keyword, &self.name) {
            write!(f, " {keyword} {name}")?;
        }
        f.write_str("\n")?;
        self.instructions.iter().try_for_each(|instruction| instruction.fmt(f))
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        begin(f, &self.place)?;
        match &self.kind {
            Kind::Add(add) => print_add(f, add)?,
            Kind::Copy(copy) => print_copy(f, copy)?,
            Kind::Run(run) => print_run(f, run)?,
            Kind::Arg(args) => {
                let arg = |arg: &crate::ast::Arg| match &arg.value {
                    Some(value) => format!("{}={value}", arg.name),
                    None => arg.name.text.clone(),
                };
                arguments(f, &args.iter().map(arg).collect::<Vec<_>>().join(" "))?;
            }
            Kind::Env(pairs) | Kind::Label(pairs) => {
                let pair = |pair: &Pair| {
                    format!("{}{}{}", pair.key, if pair.legacy { " " } else { "=" }, pair.value)
                };
                arguments(f, &pairs.iter().map(pair).collect::<Vec<_>>().join(" "))?;
            }
            Kind::Cmd(command) | Kind::Entrypoint(command) => print_command(f, command)?,
            Kind::Shell(words) | Kind::Volume(words) => array(f, words)?,
            Kind::Expose(ports) => arguments(f, &joined(ports))?,
            Kind::Healthcheck(check) => print_healthcheck(f, check)?,
            Kind::Onbuild(onbuild) => arguments(f, &onbuild.expression)?,
            Kind::Maintainer(word)
            | Kind::Stopsignal(word)
            | Kind::User(word)
            | Kind::Workdir(word) => arguments(f, word.as_str())?,
        }
        f.write_str("\n")
    }
}

fn joined(words: &[Word]) -> String {
    words.iter().map(Word::as_str).collect::<Vec<_>>().join(" ")
}

/// Arguments behind flags: those that look like flags stand behind `--`.
fn arguments(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let guard = if text.starts_with("--") { " --" } else { "" };
    write!(f, "{guard} {text}")
}

fn flag(f: &mut Formatter<'_>, name: &str, value: Option<&Word>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    write!(f, " --{name}=\"")?;
    for ch in value.text.chars() {
        if matches!(ch, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(ch)?;
    }
    f.write_char('"')
}

fn switch(f: &mut Formatter<'_>, name: &str, value: Option<bool>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " --{name}={value}"))
}

fn array(f: &mut Formatter<'_>, words: &[Word]) -> fmt::Result {
    let texts: Vec<&str> = words.iter().map(Word::as_str).collect();
    let json = serde_json::to_string(&texts).map_err(|_| fmt::Error)?;
    write!(f, " {json}")
}

fn print_command(f: &mut Formatter<'_>, command: &CommandLine) -> fmt::Result {
    match command {
        CommandLine::Shell(line) => arguments(f, line.as_str()),
        CommandLine::Exec(words) => array(f, words),
    }
}

fn contents(f: &mut Formatter<'_>, documents: &[Heredoc]) -> fmt::Result {
    documents.iter().try_for_each(|document| {
        write!(f, "\n{}{}", String::from_utf8_lossy(&document.content), document.name)
    })
}

fn print_run(f: &mut Formatter<'_>, run: &Run) -> fmt::Result {
    for mount in &run.mounts {
        flag(f, "mount", Some(mount))?;
    }
    match run.network {
        Network::Default => {}
        Network::None => f.write_str(" --network=none")?,
        Network::Host => f.write_str(" --network=host")?,
    }
    if run.security == Security::Insecure {
        f.write_str(" --security=insecure")?;
    }
    for device in &run.devices {
        let quoted = device.name.replace('"', "\"\"");
        let required = if device.required { ",required" } else { "" };
        flag(f, "device", Some(&Word::from(&*format!("\"name={quoted}\"{required}"))))?;
    }
    print_command(f, &run.command)?;
    contents(f, &run.heredocs)
}

fn print_copy(f: &mut Formatter<'_>, copy: &Copy) -> fmt::Result {
    flag(f, "from", copy.from.as_ref())?;
    switch(f, "parents", copy.parents.then_some(true))?;
    print_transfer(f, &copy.transfer)
}

fn print_add(f: &mut Formatter<'_>, add: &Add) -> fmt::Result {
    flag(f, "checksum", add.checksum.as_ref())?;
    switch(f, "keep-git-dir", add.keep_git_dir)?;
    switch(f, "unpack", add.unpack)?;
    print_transfer(f, &add.transfer)
}

fn print_transfer(f: &mut Formatter<'_>, transfer: &Transfer) -> fmt::Result {
    flag(f, "chown", transfer.chown.as_ref())?;
    flag(f, "chmod", transfer.chmod.as_ref())?;
    switch(f, "link", transfer.link.then_some(true))?;
    for exclude in &transfer.exclude {
        flag(f, "exclude", Some(exclude))?;
    }
    let mut words = transfer.sources.clone();
    for document in &transfer.documents {
        let descriptor = match document.file_descriptor {
            0 => String::new(),
            number => number.to_string(),
        };
        let chomp = if document.chomp { "-" } else { "" };
        let quote = if document.expand { "" } else { "'" };
        let name = &document.name;
        words.push(Word::from(&*format!("{descriptor}<<{chomp}{quote}{name}{quote}")));
    }
    words.push(transfer.destination.clone());
    if transfer.json {
        array(f, &words)?;
    } else {
        arguments(f, &joined(&words))?;
    }
    contents(f, &transfer.documents)
}

fn print_healthcheck(f: &mut Formatter<'_>, check: &Healthcheck) -> fmt::Result {
    let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } =
        check
    else {
        return f.write_str(" NONE");
    };
    let mut duration = |name: &str, value: &Option<Duration>| {
        value.map_or(Ok(()), |value| write!(f, " --{name}={}ns", value.as_nanos()))
    };
    duration("interval", interval)?;
    duration("timeout", timeout)?;
    duration("start-period", start_period)?;
    duration("start-interval", start_interval)?;
    if let Some(retries) = retries {
        write!(f, " --retries={retries}")?;
    }
    f.write_str(" CMD")?;
    match command {
        // What follows CMD is no flag.
        CommandLine::Shell(line) => write!(f, " {line}"),
        CommandLine::Exec(words) => array(f, words),
    }
}

impl Dockerfile {
    /// Whether it can be written down: an escape at the end of a line would take the next line with
    /// it, and heredocs beside quotes are more than is done here.
    pub fn is_printable(&self) -> bool {
        let escape = match self.escape {
            Escape::Backslash => '\\',
            Escape::Backtick => '`',
        };
        let plain = |document: &Heredoc| {
            let is_plain = |ch: char| ch.is_ascii_alphanumeric() || ch == '_';
            !document.name.is_empty() && document.name.chars().all(is_plain)
        };
        let places = self.stages.iter().flat_map(|stage| &stage.instructions);
        let places = places.chain(&self.global_args);
        let fits = |instruction: &Instruction| {
            let documents: &[Heredoc] = match &instruction.kind {
                Kind::Add(Add { transfer, .. }) | Kind::Copy(Copy { transfer, .. }) => {
                    &transfer.documents
                }
                _ => &[],
            };
            let original = &instruction.place.original;
            // Quotes that do not belong to a heredoc's name may hide it from a shell's lexer.
            let quotes = documents.iter().filter(|document| !document.expand).count() * 2;
            let is_lexed = documents.is_empty()
                || (original.matches(['\'', '"']).count() == quotes
                    && !original.contains(['\\', '$']));
            !original.ends_with(escape) && is_lexed && documents.iter().all(plain)
        };
        let mut stages = self.stages.iter();
        places.into_iter().all(fits) && stages.all(|stage| !stage.place.original.ends_with(escape))
    }
}
