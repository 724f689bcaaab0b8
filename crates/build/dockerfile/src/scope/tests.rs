use super::*;

fn platforms() -> Platforms {
    Platforms { build: Platform::new("linux", "amd64"), target: "linux/arm/v7".parse().unwrap() }
}

fn args(pairs: &[(&str, &str)]) -> BuildArgs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What the first stage's instructions are, one after another.
fn expanded(text: &str, build_args: &[(&str, &str)], env: &[&str]) -> Vec<Expanded> {
    let file = crate::parse(text.as_bytes()).unwrap();
    let global = Global::new(&file, &platforms(), &args(build_args), None).unwrap();
    let mut scope = Scope::new(&global, Env::of_config(env));
    file.stages[0].instructions.iter().map(|one| scope.expand(one).unwrap()).collect()
}

fn users(text: &str, build_args: &[(&str, &str)], env: &[&str]) -> Vec<String> {
    let kinds = expanded(text, build_args, env).into_iter().map(|one| one.kind);
    kinds
        .filter_map(|kind| match kind {
            Kind::User(word) => Some(word.text),
            _ => None,
        })
        .collect()
}

#[test]
fn arguments_and_environment() {
    for (text, build_args, expected) in [
        ("FROM a\nARG v=1\nUSER $v", &[][..], "1"),
        ("FROM a\nARG v=1\nUSER $v", &[("v", "2")], "2"),
        ("FROM a\nARG v\nUSER ${v-none}", &[], "none"),
        ("ARG v=g\nFROM a\nUSER ${v-none}", &[], "none"),
        ("ARG v=g\nFROM a\nARG v\nUSER $v", &[], "g"),
        ("ARG v=g\nFROM a\nARG v=s\nUSER $v", &[], "s"),
        ("ARG v=g\nFROM a\nARG v=s\nUSER $v", &[("v", "c")], "c"),
        ("FROM a\nUSER ${v-none}", &[("v", "c")], "none"),
        ("FROM a\nARG v=1\nENV v=2\nUSER $v", &[("v", "3")], "2"),
        ("FROM a\nENV b=1 w=$b\nUSER $w$b", &[], "b1"),
        ("FROM a\nARG v=1 w=$v\nUSER $w", &[], "1"),
        (
            "FROM a\nARG TARGETPLATFORM TARGETVARIANT\nUSER $TARGETPLATFORM,$TARGETVARIANT",
            &[],
            "linux/arm/v7,v7",
        ),
        ("FROM a\nARG BUILDPLATFORM\nUSER $BUILDPLATFORM", &[], "linux/amd64"),
        ("FROM a\nARG TARGETSTAGE\nUSER $TARGETSTAGE", &[], "default"),
        ("FROM a AS Main\nARG TARGETSTAGE\nUSER $TARGETSTAGE", &[], "main"),
        ("FROM a\nENV v \"x y\"\nUSER $v", &[], "x y"),
    ] {
        assert_eq!(users(text, build_args, &["b=b"]), [expected], "{text}");
    }
}

#[test]
fn what_is_expanded_and_what_is_not() {
    let text = "FROM a\n\
        COPY --chown=$u --chmod=$m --exclude=$u $u/a '$u' $d\n\
        EXPOSE $p 80\n\
        CMD $u\n\
        LABEL $u=\"$u $d\"\n\
        VOLUME [\"$d\"]\n\
        RUN --mount=type=cache,target=$d,id=$u $u\n";
    let mut kinds = expanded(text, &[], &["u=me", "m=0755", "d=/dir", "p=1 2/udp"]).into_iter();
    let mut next = || kinds.next().unwrap();
    let Kind::Copy(copy) = next().kind else { panic!() };
    let transfer = copy.transfer;
    let texts = |words: &[Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&transfer.sources), ["me/a", "$u"]);
    assert_eq!(transfer.destination.text, "/dir");
    assert_eq!(transfer.chown, Some("me".into()));
    assert_eq!(transfer.chmod, Some("0755".into()));
    assert_eq!(texts(&transfer.exclude), ["$u"]);
    let Kind::Expose(ports) = next().kind else { panic!() };
    assert_eq!(texts(&ports), ["1", "2/udp", "80"]);
    assert_eq!(next().kind, Kind::Cmd(crate::ast::CommandLine::Shell("$u".into())));
    let Kind::Label(pairs) = next().kind else { panic!() };
    assert_eq!((&*pairs[0].key.text, &*pairs[0].value.text), ("me", "me /dir"));
    assert_eq!(next().kind, Kind::Volume(vec!["/dir".into()]));
    let run = next();
    assert_eq!((&*run.mounts[0].target, &*run.mounts[0].id), ("/dir", "me"));
    assert_eq!(run.used.iter().collect::<Vec<_>>(), ["d", "u"]);
}

#[test]
fn heredocs_that_are_copied_are_expanded() {
    let text = "FROM a\nCOPY <<A <<-'B' <<C /d/\n'$u' \\$u\nA\n\t$u\nB\n${u}\nC\n";
    let Kind::Copy(copy) = expanded(text, &[], &["u=me"]).remove(0).kind else { panic!() };
    let documents: Vec<_> = copy
        .transfer
        .documents
        .iter()
        .map(|document| String::from_utf8(document.content.clone()).unwrap())
        .collect();
    assert_eq!(documents, ["'me' $u\n", "$u\n", "me\n"]);
}

#[test]
fn what_nobody_set_is_told_with_its_word() {
    let text = "FROM a\nARG d\nUSER $a$b$d\nARG e=$f\nRUN echo $g\n";
    let unset: Vec<_> = expanded(text, &[], &["b=1"])
        .into_iter()
        .flat_map(|one| one.unset)
        .map(|(name, word)| (name, text[word.span.start..word.span.end].to_owned()))
        .collect();
    let pair = |name: &str, word: &str| (name.to_owned(), word.to_owned());
    assert_eq!(unset, [pair("a", "$a$b$d"), pair("f", "$f")]);
}

#[test]
fn errors_point_at_the_word() {
    let text = "FROM a\nUSER ${a?b}\n";
    let file = crate::parse(text.as_bytes()).unwrap();
    let global = Global::new(&file, &platforms(), &BuildArgs::new(), None).unwrap();
    let mut scope = Scope::new(&global, Env::default());
    let error = scope.expand(&file.stages[0].instructions[0]).unwrap_err();
    assert_eq!(error.to_string(), "failed to process \"${a?b}\": a: b");
    let span = error.span.unwrap();
    assert_eq!(&text[span.start..span.end], "${a?b}");
}

#[test]
fn global_arguments_use_those_before_them() {
    let file = crate::parse(b"ARG a=1\nARG b=$a$TARGETARCH c\nFROM x\n").unwrap();
    let global = Global::new(&file, &platforms(), &args(&[("c", "3")]), None).unwrap();
    let values: Vec<_> = global.args.iter().map(|arg| arg.value.as_deref()).collect();
    assert_eq!(values, [Some("1"), Some("1arm"), Some("3")]);
    assert!(global.args[1].needs.contains("a"));
}

#[test]
fn names_shown() {
    let file = crate::parse(b"FROM a\n").unwrap();
    let global = Global::new(&file, &platforms(), &BuildArgs::new(), None).unwrap();
    let scope = Scope::new(&global, Env::of_config(["v=1"]));
    assert_eq!(scope.shown("RUN echo \"$v\" $w ${x:-y}"), "RUN echo \"1\" $w ${x:-y}");
    assert_eq!(scope.shown("RUN echo ${v^^}"), "RUN echo ${v^^}");
}

#[test]
fn proxies_need_no_arg() {
    let given = args(&[("http_proxy", "a"), ("NO_PROXY", "b"), ("x", "c")]);
    let found: Vec<_> = proxies(&given).collect();
    assert_eq!(found, [("NO_PROXY", "b"), ("http_proxy", "a")]);
}
