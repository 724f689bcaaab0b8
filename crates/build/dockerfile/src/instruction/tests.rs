use super::*;

fn read(text: &str) -> Result<Kind, String> {
    let text = format!("FROM a\n{text}");
    let mut file = parse(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(file.stages.remove(0).instructions.remove(0).kind)
}

fn words(texts: &[&str]) -> Vec<Word> {
    texts.iter().map(|text| Word::from(*text)).collect()
}

#[test]
fn instructions_are_typed() {
    for (text, expected) in [
        ("CMD a b", Kind::Cmd(CommandLine::Shell("a b".into()))),
        ("cmd [\"a\", \"b\"]", Kind::Cmd(CommandLine::Exec(words(&["a", "b"])))),
        ("CMD", Kind::Cmd(CommandLine::Shell("".into()))),
        ("ENTRYPOINT []", Kind::Entrypoint(CommandLine::Exec(vec![]))),
        ("EXPOSE 80 443/tcp", Kind::Expose(words(&["443/tcp", "80"]))),
        ("VOLUME [\"/a b\", \" /c\"]", Kind::Volume(words(&["/a b", "/c"]))),
        ("USER a:b", Kind::User("a:b".into())),
        ("WORKDIR /a b", Kind::Workdir("/a b".into())),
        ("STOPSIGNAL --x SIGTERM", Kind::Stopsignal("SIGTERM".into())),
        ("SHELL [\"a\"]", Kind::Shell(words(&["a"]))),
        ("HEALTHCHECK NONE", Kind::Healthcheck(Healthcheck::None)),
        (
            "ENV a=b c=\"d\"",
            Kind::Env(vec![
                Pair { key: "a".into(), value: "b".into(), legacy: false },
                Pair { key: "c".into(), value: "\"d\"".into(), legacy: false },
            ]),
        ),
        (
            "LABEL a b=c",
            Kind::Label(vec![Pair { key: "a".into(), value: "b=c".into(), legacy: true }]),
        ),
        (
            "ONBUILD  copy <<A /b\nc\nA",
            Kind::Onbuild(Onbuild {
                expression: "copy <<A /b\nc\nA".into(),
                trigger: "copy".into(),
            }),
        ),
    ] {
        assert_eq!(read(text), Ok(expected), "{text}");
    }
}

#[test]
fn flags_of_copy_and_add() {
    let Ok(Kind::Copy(copy)) = read(
        "COPY --from=b --chown=1:2 --chmod=u+x --link --parents=TRUE --exclude=a --exclude=b c d e/",
    ) else {
        panic!("no COPY")
    };
    assert_eq!(copy.from, Some("b".into()));
    assert_eq!(copy.transfer.chown, Some("1:2".into()));
    assert_eq!(copy.transfer.chmod, Some("u+x".into()));
    assert!(copy.transfer.link && copy.parents);
    assert_eq!(copy.transfer.exclude, words(&["a", "b"]));
    assert_eq!(copy.transfer.sources, words(&["c", "d"]));
    assert_eq!(copy.transfer.destination, "e/".into());

    let Ok(Kind::Add(add)) =
        read("ADD --checksum=sha256:a --keep-git-dir --unpack=false <<A <<'B' c /d\n1\nA\n2\nB\n")
    else {
        panic!("no ADD")
    };
    assert_eq!(add.checksum, Some("sha256:a".into()));
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
    let documents: Vec<_> = add
        .transfer
        .documents
        .iter()
        .map(|doc| (doc.name.as_str(), doc.content.as_slice(), doc.expand))
        .collect();
    assert_eq!(documents, [("A", b"1\n".as_slice(), true), ("B", b"2\n", false)]);
    assert_eq!(add.transfer.sources, words(&["c"]));
}

#[test]
fn flags_of_run_and_healthcheck() {
    let Ok(Kind::Run(run)) = read(
        "RUN --mount=type=cache,target=/a --network=none --security=insecure --device=gpu --mount=x=$y b",
    ) else {
        panic!("no RUN")
    };
    assert_eq!(run.mounts, words(&["type=cache,target=/a", "x=$y"]));
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    assert_eq!(run.devices[0].name, "gpu");

    let check = "HEALTHCHECK --interval=1m --timeout=0s --start-period=1ms --start-interval=2s \
                 --retries=3 cmd [\"a\"]";
    let Ok(Kind::Healthcheck(Healthcheck::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    })) = read(check)
    else {
        panic!("no HEALTHCHECK")
    };
    assert_eq!(command, CommandLine::Exec(words(&["a"])));
    assert_eq!(interval, Some(Duration::from_secs(60)));
    assert_eq!(timeout, None);
    assert_eq!(start_period, Some(Duration::from_millis(1)));
    assert_eq!(start_interval, Some(Duration::from_secs(2)));
    assert_eq!(retries, Some(3));
}

#[test]
fn errors_say_what_buildkit_says() {
    for (text, expected) in [
        ("FORM a", "unknown instruction: FORM (did you mean FROM?)"),
        ("runn a", "unknown instruction: runn (did you mean run?)"),
        ("banana", "unknown instruction: banana"),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("COPY --chwon=a b c", "unknown flag: --chwon (did you mean chown?)"),
        ("COPY --chown=a --chown=b c d", "duplicate flag specified: --chown"),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
        ("COPY --link= a b", "missing a value on flag: --link"),
        ("COPY a <<B\nB", "COPY cannot accept a heredoc as a destination"),
        ("RUN --network=foo a", "invalid network mode \"foo\""),
        ("RUN --security=foo a", "security \"foo\" is not valid"),
        (
            "RUN --mount=from=$a b",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("USER", "USER requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME [\" \"]", "VOLUME specified can not be an empty string"),
        ("SHELL a", "SHELL requires the arguments to be in JSON form"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =a", "ENV names can not be blank"),
        ("ARG =a", "ARG names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK a", "Unknown type \"A\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=1us CMD a", "Interval \"interval\" cannot be less than 1ms"),
        ("HEALTHCHECK --interval=x CMD a", "time: invalid duration \"x\""),
        ("HEALTHCHECK --retries=x CMD a", "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        (
            "FROM a as 1b",
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM a b", "FROM requires either one or three arguments"),
    ] {
        let expected = format!("dockerfile parse error on line 2: {expected}");
        assert_eq!(read(text), Err(expected), "{text}");
    }
}

#[test]
fn errors_of_files() {
    let read = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(read("RUN a"), "no build stage in current context");
    assert_eq!(read("ARG a"), "dockerfile contains no stages to build");
    assert_eq!(read("ENV a b=\nENV a"), "ENV must have two arguments");
}

#[test]
fn errors_point_at_words() {
    let text = "FROM a\nCOPY --link \\\n  --chwon=x a b\n";
    let error = parse(text.as_bytes()).unwrap_err();
    let span = error.span.unwrap();
    assert_eq!(&text[span.start..span.end], "--chwon=x");
    assert_eq!((error.lines.first, error.lines.last), (2, 3));
}

#[test]
fn comments_describe_stages_and_arguments() {
    let text = "# v the version\nARG v=1\n# other\n# base what is built upon\nFROM a AS Base\n";
    let file = parse(text.as_bytes()).unwrap();
    let Kind::Arg(args) = &file.global_args[0].kind else { panic!("no ARG") };
    assert_eq!(args[0].description.as_deref(), Some("the version"));
    assert_eq!(file.stages[0].description(), Some("what is built upon"));
    assert_eq!(file.stages[0].name().as_deref(), Some("base"));
}

#[test]
fn triggers_are_read_later() {
    let file = parse(b"FROM a\n").unwrap();
    let from = &file.stages[0].place;
    let read = |text: &str| parse_trigger(text, from).map(|instruction| instruction.kind);
    assert_eq!(read("USER a"), Ok(Kind::User("a".into())));
    assert!(read("RUN a\nRUN b").is_err());
    assert!(read("FROM a").is_err());
    assert!(
        matches!(read("COPY <<A b\nc\nA"), Ok(Kind::Copy(copy)) if copy.transfer.documents[0].content == b"c\n")
    );
}
