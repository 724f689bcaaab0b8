//! From words to instructions: which arguments and flags each takes, and what it refuses.

use std::time::Duration;

use crate::{
    ast::{
        Add, Arg, CommandLine, Copy, Dockerfile, Healthcheck, Instruction, Kind, Network, Onbuild,
        Pair, Place, Run, Security, Stage, Transfer, description,
    },
    error::{Error, Problem},
    flags::{self, Given},
    go, heredoc, mount,
    node::{self, Node, Nodes},
    source::{Lines, Word},
    suggest,
};

/// All instructions, for suggestions.
const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a Dockerfile.
pub fn parse(bytes: &[u8]) -> Result<Dockerfile, Error> {
    of_nodes(node::parse(bytes)?)
}

/// Gives nodes their meaning.
pub fn of_nodes(nodes: Nodes) -> Result<Dockerfile, Error> {
    let mut file = Dockerfile {
        directives: nodes.directives,
        escape: nodes.escape,
        global_args: Vec::new(),
        stages: Vec::new(),
        empty_continuations: nodes.empty_continuations,
    };
    let mut last = 0;
    for node in nodes.nodes {
        last = node.lines.last;
        if node.keyword.text.eq_ignore_ascii_case("FROM") {
            file.stages.push(stage(node).map_err(Error::of_instruction)?);
            continue;
        }
        let instruction = instruction(node).map_err(Error::of_instruction)?;
        match (file.stages.last_mut(), &instruction.kind) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Kind::Arg(_)) => file.global_args.push(instruction),
            (None, _) => return Err(Error::new(Problem::NoStage, instruction.place.lines)),
        }
    }
    if file.stages.is_empty() {
        return Err(Error::new(Problem::NoStages, Lines::one(last)));
    }
    Ok(file)
}

/// Reads an instruction that an image's configuration keeps for those who build upon it.
/// It stands where their `FROM` does.
pub fn parse_trigger(expression: &str, from: &Place) -> Result<Instruction, Error> {
    let mut nodes = node::parse(expression.as_bytes()).map_err(|error| Error {
        lines: from.lines,
        span: None,
        ..error
    })?;
    let (Some(mut node), true) = (nodes.nodes.pop(), nodes.nodes.is_empty()) else {
        return Err(Error::new(Problem::OnbuildExpression, from.lines));
    };
    node.lines = from.lines;
    for word in node.arguments.iter_mut().chain(&mut node.flags) {
        word.span = from.keyword.span;
    }
    node.keyword.span = from.keyword.span;
    if matches!(node.keyword.text.to_ascii_uppercase().as_str(), "FROM" | "MAINTAINER") {
        let name = node.keyword.text.to_ascii_uppercase();
        return Err(Error::new(Problem::OnbuildTrigger(name), from.lines));
    }
    instruction(node)
}

fn place(node: &Node) -> Place {
    Place {
        keyword: node.keyword.clone(),
        lines: node.lines,
        original: node.original.clone(),
        comments: node.comments.clone(),
    }
}

fn error(node: &Node, problem: Problem) -> Error {
    Error::new(problem, node.lines)
}

fn stage(node: Node) -> Result<Stage, Error> {
    let (base, as_keyword, name) = match node.arguments.as_slice() {
        [base] => (base, None, None),
        [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
            (base, Some(keyword.clone()), Some(name.clone()))
        }
        _ => return Err(error(&node, Problem::FromArguments).at(all(&node))),
    };
    if let Some(name) = &name {
        let lower = name.text.to_lowercase();
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if !lower.starts_with(|ch: char| ch.is_ascii_lowercase()) || !lower.bytes().all(plain) {
            return Err(error(&node, Problem::StageName(name.text.clone())).at(name.span));
        }
    }
    let given = Given::read(&node, flags::FROM)?;
    Ok(Stage {
        place: place(&node),
        base: base.clone(),
        name,
        as_keyword,
        platform: given.text("platform"),
        instructions: Vec::new(),
    })
}

/// Where the arguments stand.
fn all(node: &Node) -> crate::source::Span {
    let spans = node.arguments.iter().map(|word| word.span);
    spans.reduce(crate::source::Span::to).unwrap_or(node.keyword.span)
}

fn instruction(node: Node) -> Result<Instruction, Error> {
    let name = node.keyword.text.to_ascii_uppercase();
    let kind = match name.as_str() {
        "ADD" => add(&node)?,
        "ARG" => Kind::Arg(args(&node)?),
        "CMD" => {
            Given::read(&node, flags::NONE)?;
            Kind::Cmd(command(&node, &node.arguments))
        }
        "COPY" => copy(&node)?,
        "ENTRYPOINT" => {
            Given::read(&node, flags::NONE)?;
            Kind::Entrypoint(command(&node, &node.arguments))
        }
        "ENV" => Kind::Env(pairs(&node, "ENV")?),
        "EXPOSE" => {
            let mut ports = some(&node, "EXPOSE")?;
            ports.sort_by(|a, b| a.text.cmp(&b.text));
            Kind::Expose(ports)
        }
        "HEALTHCHECK" => Kind::Healthcheck(healthcheck(&node)?),
        "LABEL" => Kind::Label(pairs(&node, "LABEL")?),
        "MAINTAINER" => Kind::Maintainer(one(&node, "MAINTAINER")?),
        "ONBUILD" => Kind::Onbuild(onbuild(&node)?),
        "RUN" => Kind::Run(run(&node)?),
        "SHELL" => {
            Given::read(&node, flags::NONE)?;
            match (node.arguments.is_empty(), node.json) {
                (true, _) => return Err(error(&node, Problem::AtLeastOneArgument("SHELL"))),
                (_, false) => return Err(error(&node, Problem::NotJson("SHELL")).at(all(&node))),
                _ => Kind::Shell(node.arguments.clone()),
            }
        }
        // BuildKit looks at no flags here.
        "STOPSIGNAL" => match node.arguments.as_slice() {
            [signal] => Kind::Stopsignal(signal.clone()),
            _ => return Err(error(&node, Problem::ExactlyOneArgument("STOPSIGNAL"))),
        },
        "USER" => Kind::User(one(&node, "USER")?),
        "VOLUME" => {
            let mut volumes = some(&node, "VOLUME")?;
            for volume in &mut volumes {
                volume.text = volume.text.trim().to_owned();
                if volume.text.is_empty() {
                    return Err(error(&node, Problem::EmptyVolume).at(volume.span));
                }
            }
            Kind::Volume(volumes)
        }
        "WORKDIR" => Kind::Workdir(one(&node, "WORKDIR")?),
        _ => {
            let near = suggest::nearest_any_case(&node.keyword.text, NAMES);
            let name = node.keyword.text.clone();
            return Err(
                error(&node, Problem::UnknownInstruction { name, near }).at(node.keyword.span)
            );
        }
    };
    Ok(Instruction { place: place(&node), kind })
}

fn one(node: &Node, name: &'static str) -> Result<Word, Error> {
    let [argument] = node.arguments.as_slice() else {
        return Err(error(node, Problem::ExactlyOneArgument(name)));
    };
    Given::read(node, flags::NONE)?;
    Ok(argument.clone())
}

fn some(node: &Node, name: &'static str) -> Result<Vec<Word>, Error> {
    if node.arguments.is_empty() {
        return Err(error(node, Problem::AtLeastOneArgument(name)));
    }
    Given::read(node, flags::NONE)?;
    Ok(node.arguments.clone())
}

/// Splits a word at its first equals sign; both halves stand where the word does.
fn split(word: &Word) -> Option<(Word, Word)> {
    let (name, value) = word.text.split_once('=')?;
    let at = |text: &str| Word::new(text, word.span);
    // Where the word stands as it is, its halves stand in it.
    let mut halves = (at(name), at(value));
    if word.span.end - word.span.start == word.text.len() {
        halves.0.span.end = word.span.start + name.len();
        halves.1.span.start = halves.0.span.end + 1;
    }
    Some(halves)
}

fn pairs(node: &Node, name: &'static str) -> Result<Vec<Pair>, Error> {
    Given::read(node, flags::NONE)?;
    let pairs: Vec<Pair> = match node.arguments.as_slice() {
        [] => return Err(error(node, Problem::AtLeastOneArgument(name))),
        [key, value] if node.legacy => {
            vec![Pair { key: key.clone(), value: value.clone(), legacy: true }]
        }
        words => words
            .iter()
            .filter_map(split)
            .map(|(key, value)| Pair { key, value, legacy: false })
            .collect(),
    };
    match pairs.iter().find(|pair| pair.key.text.is_empty()) {
        Some(blank) => Err(error(node, Problem::BlankName(name)).at(blank.key.span)),
        None => Ok(pairs),
    }
}

fn args(node: &Node) -> Result<Vec<Arg>, Error> {
    if node.arguments.is_empty() {
        return Err(error(node, Problem::AtLeastOneArgument("ARG")));
    }
    let arg = |word: &Word| {
        let (name, value) = match split(word) {
            Some((name, value)) => (name, Some(value)),
            None => (word.clone(), None),
        };
        if name.text.is_empty() && value.is_some() {
            return Err(error(node, Problem::BlankName("ARG")).at(word.span));
        }
        let description = description(&node.comments, &name.text).map(str::to_owned);
        Ok(Arg { name, value, description })
    };
    node.arguments.iter().map(arg).collect()
}

fn command(node: &Node, arguments: &[Word]) -> CommandLine {
    match arguments {
        arguments if node.json => CommandLine::Exec(arguments.to_vec()),
        [line] => CommandLine::Shell(line.clone()),
        _ => CommandLine::Shell(Word::default()),
    }
}

fn transfer(node: &Node, given: &Given, name: &'static str) -> Result<Transfer, Error> {
    let Some((destination, words)) = node.arguments.split_last() else {
        return Err(error(node, Problem::NoDestination(name)));
    };
    if heredoc::begins(&destination.text).is_some() {
        return Err(error(node, Problem::HeredocDestination(name)).at(destination.span));
    }
    let mut transfer = Transfer {
        destination: destination.clone(),
        chown: given.text("chown"),
        chmod: given.text("chmod"),
        link: given.boolean("link").unwrap_or(false),
        exclude: given.values("exclude"),
        json: node.json,
        ..Transfer::default()
    };
    for word in words {
        let Some(begun) = heredoc::begins(&word.text) else {
            transfer.sources.push(word.clone());
            continue;
        };
        // Of several with one name BuildKit takes the last.
        let found = node.heredocs.iter().rev().find(|document| document.name == begun.name);
        let content = found.map(|found| (found.content.clone(), found.span)).unwrap_or_default();
        let document = crate::ast::Heredoc { content: content.0, span: content.1, ..begun };
        transfer.documents.push(document);
    }
    Ok(transfer)
}

fn add(node: &Node) -> Result<Kind, Error> {
    if node.arguments.len() < 2 {
        return Err(error(node, Problem::NoDestination("ADD")).at(all(node)));
    }
    let given = Given::read(node, flags::ADD)?;
    Ok(Kind::Add(Add {
        transfer: transfer(node, &given, "ADD")?,
        checksum: given.text("checksum"),
        keep_git_dir: given.boolean("keep-git-dir"),
        unpack: given.boolean("unpack"),
    }))
}

fn copy(node: &Node) -> Result<Kind, Error> {
    if node.arguments.len() < 2 {
        return Err(error(node, Problem::NoDestination("COPY")).at(all(node)));
    }
    let given = Given::read(node, flags::COPY)?;
    Ok(Kind::Copy(Copy {
        transfer: transfer(node, &given, "COPY")?,
        from: given.text("from"),
        parents: given.boolean("parents").unwrap_or(false),
    }))
}

fn run(node: &Node) -> Result<Run, Error> {
    let given = Given::read(node, flags::RUN)?;
    let mounts = given.values("mount");
    for value in &mounts {
        mount::parse(value, node.lines, None)?;
    }
    let wrong = |problem, word: &Word| Err(error(node, problem).at(word.span));
    let network = match given.value("network") {
        None => Network::Default,
        Some(word) => match word.text.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            other => return wrong(Problem::Network(other.to_owned()), word),
        },
    };
    let security = match given.value("security") {
        None => Security::Sandbox,
        Some(word) => match word.text.as_str() {
            "sandbox" => Security::Sandbox,
            "insecure" => Security::Insecure,
            other => return wrong(Problem::Security(other.to_owned()), word),
        },
    };
    let devices = given.values("device");
    Ok(Run {
        command: command(node, &node.arguments),
        heredocs: node.heredocs.clone(),
        mounts,
        network,
        security,
        devices: devices
            .iter()
            .map(|value| mount::device(value, node.lines))
            .collect::<Result<_, _>>()?,
    })
}

fn healthcheck(node: &Node) -> Result<Healthcheck, Error> {
    let Some((kind, arguments)) = node.arguments.split_first() else {
        return Err(error(node, Problem::AtLeastOneArgument("HEALTHCHECK")));
    };
    let name = kind.text.to_uppercase();
    if name == "NONE" {
        if !arguments.is_empty() {
            return Err(error(node, Problem::HealthcheckNone).at(all(node)));
        }
        return Ok(Healthcheck::None);
    }
    let given = Given::read(node, flags::HEALTHCHECK)?;
    if name != "CMD" {
        return Err(error(node, Problem::HealthcheckType(name)).at(kind.span));
    }
    if arguments.is_empty() {
        return Err(error(node, Problem::HealthcheckCommand).at(kind.span));
    }
    Ok(Healthcheck::Check {
        command: command(node, arguments),
        interval: interval(node, &given, "interval")?,
        timeout: interval(node, &given, "timeout")?,
        start_period: interval(node, &given, "start-period")?,
        start_interval: interval(node, &given, "start-interval")?,
        retries: retries(node, &given)?,
    })
}

fn interval(node: &Node, given: &Given, name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(word) = given.text(name) else { return Ok(None) };
    let (negative, value) =
        go::duration(&word.text).map_err(|why| error(node, why.into()).at(word.span))?;
    if value.is_zero() {
        return Ok(None);
    }
    if negative || value < Duration::from_millis(1) {
        return Err(error(node, Problem::ShortInterval(name)).at(word.span));
    }
    Ok(Some(value))
}

fn retries(node: &Node, given: &Given) -> Result<Option<u32>, Error> {
    let Some(word) = given.text("retries") else { return Ok(None) };
    let wrong = |why| {
        let text = word.text.clone();
        error(node, Problem::Retries { text, why }).at(word.span)
    };
    let number: i64 = word.text.parse().map_err(|why: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let range = matches!(why.kind(), NegOverflow | PosOverflow);
        wrong(if range { "value out of range" } else { "invalid syntax" })
    })?;
    if i32::try_from(number).is_err() {
        return Err(wrong("value out of range"));
    }
    match u32::try_from(number) {
        Ok(number) => Ok(Some(number).filter(|number| *number > 0)),
        Err(_) => Err(error(node, Problem::NegativeRetries(number)).at(word.span)),
    }
}

fn onbuild(node: &Node) -> Result<Onbuild, Error> {
    let Some(trigger) = &node.trigger else {
        return Err(error(node, Problem::AtLeastOneArgument("ONBUILD")));
    };
    Given::read(node, flags::NONE)?;
    match trigger.keyword.text.to_uppercase().as_str() {
        "ONBUILD" => return Err(error(node, Problem::OnbuildOnbuild).at(trigger.keyword.span)),
        name @ ("MAINTAINER" | "FROM") => {
            let problem = Problem::OnbuildTrigger(name.to_owned());
            return Err(error(node, problem).at(trigger.keyword.span));
        }
        _ => {}
    }
    let mut expression = trigger.original.clone();
    for document in &node.heredocs {
        let content = std::str::from_utf8(&document.content)
            .map_err(|_| error(node, Problem::NotUtf8).at(document.span))?;
        expression.push('\n');
        expression.push_str(content);
        expression.push_str(&document.name);
    }
    Ok(Onbuild { expression, trigger: trigger.keyword.clone() })
}

#[cfg(test)]
mod tests;
