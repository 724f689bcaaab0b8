//! What holds for every input: nothing panics, nothing takes for ever, and what is written down
//! says what was read.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A failing call fails the test.

use hako_dockerfile::{
    check::{NoFacts, Request, check},
    expand::{Lexer, NoVars},
    glob,
    ignore::{Matcher, Seen},
    parse,
};
use proptest::prelude::*;

/// Text that parsers stumble over, more often than chance makes it.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(
        &[
            "FROM a\n",
            "FROM a AS b\n",
            "RUN ",
            "COPY --from=b ",
            "ADD ",
            "ENV a=b ",
            "ENV a b",
            "ARG x=1 ",
            "ARG ",
            "LABEL ",
            "EXPOSE 80 ",
            "HEALTHCHECK --interval=1s CMD ",
            "CMD ",
            "CMD [\"a\", \"b\"]\n",
            "ONBUILD ",
            "USER ",
            "VOLUME ",
            "WORKDIR ",
            "SHELL [\"a\"]\n",
            "STOPSIGNAL 9\n",
            "--mount=type=cache,target=/x ",
            "--chown=a ",
            "--x",
            "<<E ",
            "<<-'E' ",
            "E\n",
            "\n",
            "\\\n",
            " \\ \n",
            "# c\n",
            "# escape=`\n",
            "`\n",
            "'",
            "\"",
            "\\",
            "$x",
            "${x:-y}",
            "${x",
            "}",
            "[",
            "]",
            "ü",
            " ",
            "\t",
            "\r",
            "a",
            "/b",
            "=",
            "-- ",
            ",",
        ][..],
    );
    let pieces = prop::collection::vec(pieces, 0..25).prop_map(|pieces| pieces.concat());
    prop_oneof![pieces.clone(), pieces.prop_map(|rest| format!("FROM a\n{rest}")), ".{0,80}",]
}

/// Names and patterns of few letters, so that they meet.
fn path() -> impl Strategy<Value = String> {
    "[ab.]{1,3}(/[ab.]{1,3}){0,3}"
}

fn pattern() -> impl Strategy<Value = String> {
    "!?(\\*\\*/)?[ab*?./\\[\\]^-]{1,6}(/\\*\\*)?"
}

proptest! {
    #[test]
    fn what_is_printed_says_the_same(text in text()) {
        let Ok(file) = parse(text.as_bytes()) else { return Ok(()) };
        prop_assume!(file.is_printable());
        let printed = file.to_string();
        let again = parse(printed.as_bytes());
        let again = match again {
            Ok(again) => again,
            Err(error) => panic!("{text:?}\nprinted {printed:?}\n{error}"),
        };
        prop_assert_eq!(&again.global_args, &file.global_args, "{:?}", printed);
        prop_assert_eq!(&again.stages, &file.stages, "{:?}", printed);
    }

    #[test]
    fn checks_take_everything(text in text()) {
        if let Ok(report) = check(text.as_bytes(), &Request::new(), &NoFacts) {
            let source = hako_dockerfile::source::Source::new("Dockerfile", text);
            report.text(&source);
            report.json(&source);
        }
    }

    #[test]
    fn spans_lie_in_the_file(text in text()) {
        if let Err(error) = parse(text.as_bytes())
            && let Some(span) = error.span
        {
            prop_assert!(span.start <= span.end && span.end <= text.len());
        }
    }

    #[test]
    fn bytes_are_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = Matcher::of_file(&bytes);
        hako_dockerfile::directive::detect_syntax(&bytes);
    }

    #[test]
    fn words_without_anything_special_are_themselves(word in "[a-z/.:=-]{0,40}") {
        let found = Lexer::new('\\').word(&word, &NoVars).unwrap();
        prop_assert_eq!(&found.text, &word);
        prop_assert!(found.unset.is_empty());
    }

    #[test]
    fn expansion_takes_everything(word in "[ab$'\"{}:+?#%/*\\\\-]{0,40}") {
        let vars = std::collections::BTreeMap::from([("a".to_owned(), "ab*/b".to_owned())]);
        for keep_unset in [false, true] {
            let _ = Lexer { keep_unset, ..Lexer::new('\\') }.run(&word, &vars);
        }
    }

    /// A walk that skips what it may finds what asking for each file finds.
    #[test]
    fn walks_agree_with_questions(
        patterns in prop::collection::vec(pattern(), 1..5),
        path in path(),
    ) {
        let Ok(matcher) = Matcher::new(&patterns) else { return Ok(()) };
        let path = glob::clean(&path);
        prop_assume!(!path.starts_with('.'));
        let mut seen = Seen::default();
        let mut ignored = false;
        let mut skipped = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            if skipped {
                prop_assert!(true);
                break;
            }
            (ignored, seen) = matcher.below(&path[..end], &seen);
            skipped = ignored && end < path.len() && matcher.may_skip(&path[..end]);
        }
        // What was skipped is what a walk that skips nothing leaves out.
        let mut all = Seen::default();
        let mut left_out = false;
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (left_out, all) = matcher.below(&path[..end], &all);
        }
        prop_assert_eq!(ignored, left_out, "{:?} {}", patterns, path);
    }
}

/// Sizes at which anything quadratic would take minutes.
#[test]
fn large_files_take_no_longer_than_they_are() {
    let continued = format!("FROM a\nRUN a {}b\n", "\\\n".repeat(500_000));
    assert_eq!(parse(continued.as_bytes()).unwrap().stages[0].instructions.len(), 1);
    let commented = format!("FROM a\nRUN a \\\n{}b\n", "# c\n".repeat(250_000));
    assert!(parse(commented.as_bytes()).is_ok());
    let documents = 100_000;
    let words: Vec<String> = (0..documents).map(|at| format!("<<E{at} \\\n")).collect();
    let bodies: Vec<String> = (0..documents).map(|at| format!("x\nE{at}\n")).collect();
    let many = format!("FROM a\nRUN {}cat\n{}", words.concat(), bodies.concat());
    let file = parse(many.as_bytes()).unwrap();
    let hako_dockerfile::ast::Kind::Run(run) = &file.stages[0].instructions[0].kind else {
        panic!("no RUN")
    };
    assert_eq!(run.heredocs.len(), documents);
    let stages = "FROM a\nCOPY --from=0 b c\n".repeat(20_000);
    assert!(parse(stages.as_bytes()).is_ok());
    let quoted = format!("FROM a\nENV a=\"{}\"\n", "\\\n".repeat(300_000));
    assert!(parse(quoted.as_bytes()).is_ok());
    let array = format!("FROM a\nCMD [{}\"a\"]\n", "\"a\",\\\n".repeat(100_000));
    assert!(parse(array.as_bytes()).is_ok());
}

/// Many variables, stages and patterns: what a check does with a file stays in proportion.
#[test]
fn large_files_are_checked() {
    let mut text = "FROM scratch\n".to_owned();
    for at in 0..3_000 {
        text.push_str(&format!("ENV v{at}=$v{}\nARG a{at}=$a{}\n", at / 2, at / 2));
    }
    check(text.as_bytes(), &Request::new(), &NoFacts).unwrap();
    let mut text = String::new();
    for at in 0..3_000 {
        text.push_str(&format!("FROM scratch AS s{at}\nCOPY --from=s{} a b\n", at / 2));
    }
    check(text.as_bytes(), &Request::new(), &NoFacts).unwrap();
}
