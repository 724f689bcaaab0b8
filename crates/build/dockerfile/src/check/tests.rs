use super::*;

struct Known {
    matcher: Matcher,
}

impl Facts for Known {
    fn image(&self, name: &Reference, _: &Platform) -> Option<BaseImage> {
        match name.familiar_name().as_str() {
            "unknown" => None,
            "java" => Some(BaseImage {
                env: vec!["PATH=/bin".into(), "JAVA_HOME=/java".into()],
                onbuild: vec!["USER $JAVA_HME".into()],
                shell: vec!["/bin/bash".into()],
                platform: Some(Platform::new("linux", "arm64")),
            }),
            _ => Some(BaseImage::default()),
        }
    }

    fn ignored(&self) -> Option<&Matcher> {
        Some(&self.matcher)
    }
}

fn run(text: &str, request: &Request) -> Report {
    let known = Known { matcher: Matcher::new(["*.log", "secret/"]).unwrap() };
    check(text.as_bytes(), request, &known).unwrap()
}

fn request() -> Request {
    let host = Platform::new("linux", "amd64");
    Request { platforms: Platforms { build: host.clone(), target: host }, ..Request::new() }
}

/// `Rule:line: message` of each warning, and what is underlined behind it in brackets.
fn shown(text: &str) -> Vec<String> {
    let report = run(text, &request());
    let mut out: Vec<String> = report
        .warnings
        .iter()
        .map(|warning| {
            let words = warning.span.map(|span| format!(" [{}]", &text[span.start..span.end]));
            let words = words.unwrap_or_default();
            format!("{}:{}: {}{words}", warning.rule.name, warning.lines, warning.message)
        })
        .collect();
    out.extend(report.error.map(|error| format!("error:{}: {error}", error.lines)));
    out
}

#[test]
fn each_check_says_what_buildkit_says() {
    for (text, expected) in [
        (
            "FROM a AS Base",
            &["StageNameCasing:1: Stage name 'Base' should be lowercase [Base]"][..],
        ),
        ("FROM a as base", &["FromAsCasing:1: 'as' and 'FROM' keywords' casing do not match [as]"]),
        ("from a AS base", &["FromAsCasing:1: 'AS' and 'from' keywords' casing do not match [AS]"]),
        (
            "From a as base",
            &[
                "ConsistentInstructionCasing:1: Command 'From' should match the case of the command majority (uppercase) [From]",
            ],
        ),
        ("FROM a\nRUN b \\\n\n  c\n", &["NoEmptyContinuation:4: Empty continuation line"]),
        (
            "FROM a\nrun b\nUSER c",
            &[
                "ConsistentInstructionCasing:2: Command 'run' should match the case of the command majority (uppercase) [run]",
            ],
        ),
        (
            "from a\nRUN b\nuser c",
            &[
                "ConsistentInstructionCasing:2: Command 'RUN' should match the case of the command majority (lowercase) [RUN]",
            ],
        ),
        (
            "FROM a AS b\nFROM a AS b",
            &["DuplicateStageName:2: Duplicate stage name \"b\", stage names should be unique [b]"],
        ),
        (
            "FROM a AS context",
            &[
                "ReservedStageName:1: Stage name should not use the same name as reserved stage \"context\" [context]",
            ],
        ),
        (
            "FROM a\nCMD b c",
            &[
                "JSONArgsRecommended:2: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals [b c]",
            ],
        ),
        (
            "FROM a\nENTRYPOINT b",
            &[
                "JSONArgsRecommended:2: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals [b]",
            ],
        ),
        ("FROM a\nSHELL [\"b\"]\nCMD c", &[]),
        (
            "FROM a\nMAINTAINER b",
            &[
                "MaintainerDeprecated:2: Maintainer instruction is deprecated in favor of using label [MAINTAINER]",
            ],
        ),
        (
            "ARG VERSION=1\nFROM a:${VERSON}x",
            &[
                "UndefinedArgInFrom:2: FROM argument 'VERSON' is not declared (did you mean VERSION?) [a:${VERSON}x]",
            ],
        ),
        ("ARG v\nFROM a${v}", &[]),
        (
            "FROM a\nWORKDIR b\nWORKDIR c",
            &[
                "WorkdirRelativePath:2: Relative workdir \"b\" can have unexpected results if the base image changes [b]",
            ],
        ),
        ("FROM a\nWORKDIR /b\nWORKDIR c", &[]),
        ("FROM a AS b\nWORKDIR /b\nFROM b\nWORKDIR c", &[]),
        ("FROM a\nCOPY $foo .", &["UndefinedVar:2: Usage of undefined variable '$foo' [$foo]"]),
        (
            "FROM a\nARG foo bar\nCOPY $foo $bra .",
            &["UndefinedVar:3: Usage of undefined variable '$bra' [$bra]"],
        ),
        (
            "FROM a\nARG bar=1\nCOPY $bra .",
            &["UndefinedVar:3: Usage of undefined variable '$bra' (did you mean $bar?) [$bra]"],
        ),
        (
            "FROM a\nENV PATH=$PAHT:/b",
            &[
                "UndefinedVar:2: Usage of undefined variable '$PAHT' (did you mean $PATH?) [$PAHT:/b]",
            ],
        ),
        ("FROM unknown\nCOPY $foo .", &[]),
        ("FROM a\nRUN echo $foo", &[]),
        (
            "FROM a\nCMD [\"b\"]\nCMD [\"c\"]",
            &[
                "MultipleInstructionsDisallowed:2: Multiple CMD instructions should not be used in the same stage because only the last one will be used [CMD]",
            ],
        ),
        (
            "FROM a\nHEALTHCHECK NONE\nHEALTHCHECK CMD b\nFROM a\nHEALTHCHECK NONE",
            &[
                "MultipleInstructionsDisallowed:2: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used [HEALTHCHECK]",
            ],
        ),
        (
            "FROM a\nENV b c d",
            &[
                "LegacyKeyValueFormat:2: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format [b c d]",
            ],
        ),
        (
            "FROM a\nLABEL b c",
            &[
                "LegacyKeyValueFormat:2: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format [b c]",
            ],
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            &[
                "RedundantTargetPlatform:1: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior [--platform=$TARGETPLATFORM]",
            ],
        ),
        (
            "FROM --platform=linux/amd64 a",
            &[
                "FromPlatformFlagConstDisallowed:1: FROM --platform flag should not use constant value \"linux/amd64\" [--platform=linux/amd64]",
            ],
        ),
        ("FROM --platform=linux/amd64 a AS build_amd64", &[]),
        ("FROM --platform=$BUILDPLATFORM a", &[]),
        (
            "FROM a\nARG DB_PASSWORD API_KEY_FILE PUBLIC_KEY",
            &[
                "SecretsUsedInArgOrEnv:2: Do not use ARG or ENV instructions for sensitive data (ARG \"DB_PASSWORD\") [DB_PASSWORD]",
            ],
        ),
        (
            "FROM a\nENV aws_Secret=b",
            &[
                "SecretsUsedInArgOrEnv:2: Do not use ARG or ENV instructions for sensitive data (ENV \"aws_Secret\") [aws_Secret]",
            ],
        ),
        (
            "ARG t\nFROM a:$t",
            &[
                "InvalidDefaultArgInFrom:2: Default value for ARG a:$t results in empty or invalid base image name [a:$t]",
                "error:2: failed to parse stage name \"a:\": invalid reference format",
            ],
        ),
        (
            "FROM a\nEXPOSE 80/TcP",
            &[
                "ExposeProtoCasing:2: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase [80/TcP]",
            ],
        ),
        (
            "FROM a\nEXPOSE 127.0.0.1:80:80",
            &[
                "ExposeInvalidFormat:2: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' [127.0.0.1:80:80]",
            ],
        ),
        (
            "# check=experimental=all\nFROM a\nCOPY ./b.log c/d.log secret/x /",
            &[
                "CopyIgnoredFile:3: Attempting to Copy file \"b.log\" that is excluded by .dockerignore [./b.log]",
                "CopyIgnoredFile:3: Attempting to Copy file \"secret/x\" that is excluded by .dockerignore [secret/x]",
            ],
        ),
        ("FROM a\nCOPY b.log /", &[]),
        (
            "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=1\n# x y\nFROM a AS base\n\n# no description\n\nARG b",
            &[
                "InvalidDefinitionDescription:3: Comment for ARG should follow the format: `# foo <description>`",
                "InvalidDefinitionDescription:5: Comment for FROM should follow the format: `# base <description>`",
            ],
        ),
        (
            "FROM java\nCMD a",
            &[
                "InvalidBaseImagePlatform:1: Base image java was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build [java]",
                "UndefinedVar:1: Usage of undefined variable '$JAVA_HME' (did you mean $JAVA_HOME?) [FROM]",
            ],
        ),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn errors_come_with_what_was_found_before() {
    for (text, expected) in [
        (
            "FROM a as b\nRUNN x\nFROM a AS C",
            &[
                "FromAsCasing:1: 'as' and 'FROM' keywords' casing do not match [as]",
                "error:2: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)",
            ][..],
        ),
        ("FROM a\nEXPOSE foo", &["error:2: invalid containerPort: foo"]),
        ("FROM a\nSTOPSIGNAL foo", &["error:2: invalid signal: foo"]),
        (
            "FROM a\nCOPY --chmod=99999 b c",
            &[
                "error:2: invalid chmod parameter: '99999'. it should be octal string and between 0 and 07777",
            ],
        ),
        ("FROM a\nCOPY https://b/c d", &["error:2: source can't be a URL for COPY"]),
        ("FROM a\nCOPY git@b:c d", &["error:2: source can't be a git ref for COPY"]),
        (
            "FROM a\nADD --checksum=sha256:x b c",
            &["error:2: checksum requires HTTP(S) or Git sources"],
        ),
        ("FROM a\nUSER ${b?c}", &["error:2: failed to process \"${b?c}\": b: c"]),
        ("FROM a\nRUN --mount=type=foo b", &["error:2: unsupported mount type \"foo\""]),
        (
            "FROM a\nCOPY --from=b c d\nFROM e AS b",
            &[
                "error:2: cannot copy from stage \"b\", it needs to be defined before current stage \"stage-0\"",
            ],
        ),
        ("", &["error:0: the Dockerfile cannot be empty"]),
    ] {
        assert_eq!(shown(text), expected, "{text}");
    }
}

#[test]
fn settings_come_from_the_file_or_from_outside() {
    let text = "# check=skip=StageNameCasing;error=true\nFROM a as B\n";
    let report = run(text, &request());
    assert_eq!(report.violations, ["FromAsCasing"]);
    let outside = Settings::parse("skip=FromAsCasing").unwrap();
    let report = run(text, &Request { settings: Some(outside), ..request() });
    assert_eq!(report.warnings[0].rule, rules::STAGE_NAME_CASING);
    assert!(report.violations.is_empty());
    assert!(check(b"# check=foo\nFROM a", &request(), &NoFacts).is_err());
}

#[test]
fn with_a_target_only_what_it_needs_is_checked() {
    let text = "FROM a AS one\nCMD x\nFROM a AS two\nCMD y\n";
    let lines = |target: Option<&str>| {
        let request = Request { target: target.map(String::from), ..request() };
        let report = run(text, &request);
        report.warnings.iter().map(|warning| warning.lines.first).collect::<Vec<_>>()
    };
    assert_eq!(lines(None), [2, 4]);
    assert_eq!(lines(Some("one")), [2]);
}
