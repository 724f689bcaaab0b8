//! Dockerfiles, the words in them, and `.dockerignore`.

use std::collections::BTreeMap;

use hako_dockerfile::{
    check::{NoFacts, Request, check},
    directive::detect_syntax,
    expand::{EXPANDED_BYTES_MAX, Lexer},
    glob,
    ignore::{Matcher, Seen},
    parse,
    source::Source,
};

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(super) fn files() -> Vec<Vec<u8>> {
    bytes(&[
        "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all;error=true\nARG v=1\n# base x\n\
         FROM --platform=$BUILDPLATFORM a:$v AS base\nRUN a `\n  b `\n\n# c\n  d\n",
        "FROM a\nRUN --mount=type=cache,target=/c,id=$x,sharing=locked --network=none <<A <<-'B' c\n\
         $v\nA\n\t\tb\n\tB\n",
        "FROM a\nCOPY --from=b --chown=1:2 --chmod=u+x --link --parents --exclude=*.c a/./b <<E /d/\n\
         x\nE\nADD --checksum=sha256:a --keep-git-dir --unpack=false https://a/b.git#c:d /e\n",
        "FROM a\nENV a=b c=\"d e\" f='g'\nENV a b c\nLABEL \"a\"=\"b\\\"c\"\nARG x y=$a\nUSER ${x:-y}\n\
         EXPOSE 80/TCP 1-3 127.0.0.1:1:1\nVOLUME [\"/a\", \"\\u00fc\"]\nWORKDIR a\nSTOPSIGNAL 9\n",
        "from a as A\nHEALTHCHECK --interval=1m2.5s --retries=3 CMD [\"a\"]\nSHELL [\"a\"]\nCMD x\n\
         ONBUILD COPY <<E b\nc\nE\nMAINTAINER a\nENTRYPOINT [\"a\", 1]\n",
        "\u{feff}FROM scratch\r\nCOPY --from=0 a b\r\n",
    ])
}

/// What is read can be written down, and then says the same; errors point into the file.
pub(super) fn file(input: &[u8]) {
    detect_syntax(input);
    let source = Source::new("Dockerfile", input);
    if let Ok(report) = check(input, &Request::new(), &NoFacts) {
        for span in report.warnings.iter().filter_map(|warning| warning.span) {
            assert!(span.start < span.end && span.end <= input.len(), "{span:?}");
        }
        report.text(&source);
        report.json(&source);
    }
    let file = match parse(input) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.lines.last <= source.lines(), "{error:?}");
            assert!(error.span.is_none_or(|span| span.end <= input.len()), "{error:?}");
            return;
        }
    };
    if !file.is_printable() || std::str::from_utf8(input).is_err() {
        return;
    }
    let printed = file.to_string();
    // Lines may become longer than lines may be.
    if printed.lines().any(|line| line.len() >= 65_535) {
        return;
    }
    let again = parse(printed.as_bytes());
    assert_eq!(again.map(|again| again.stages).as_ref(), Ok(&file.stages), "{printed:?}");
}

pub(super) fn words() -> Vec<Vec<u8>> {
    bytes(&[
        "$a ${b} '$c' \"$d\" \\$e",
        "${a:-b}${a-b}${a:+b}${a+b}${a:?b}${a?b}",
        "${a#*.}${a##*.}${a%.*}${a%%.*}",
        "${a/b/c}${a//\\//$b}${a:-${b:-${c}}}",
        "<<EOF <<-\"A B\" 3<<'C'",
        "*/?[a-z]\\*[^x]",
    ])
}

/// Expansion has bounds, and a pattern is matched in the time it takes to read it.
pub(super) fn word(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let value = "a.b/c*d".repeat(8);
    let vars: BTreeMap<String, String> = ["a", "b", "empty"]
        .into_iter()
        .zip([value, "x y".into(), String::new()])
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for escape in ['\\', '`'] {
        for lexer in [
            Lexer::new(escape),
            Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new(escape) },
            Lexer { plain_quotes: true, ..Lexer::new(escape) },
        ] {
            let Ok((expansion, words)) = lexer.run(text, &vars) else { continue };
            assert!(expansion.text.len() <= EXPANDED_BYTES_MAX, "{}", expansion.text.len());
            assert!(words.iter().all(|word| !word.is_empty()), "{words:?}");
        }
    }
    hako_dockerfile::heredoc::begins(text);
    if let Ok(glob) = glob::Glob::new(text) {
        glob.matches("a/b.c");
        glob.matches(text);
    }
}

pub(super) fn ignores() -> Vec<Vec<u8>> {
    bytes(&[
        "# c\n*\n!a\n!b/c\n",
        "**/*.log\ntarget/\n!target/keep\n/x/../y\n",
        "a[b-d]?\\*\n**x\n!**/y/**\n\u{feff}\n",
    ])
}

/// A walk that skips directories finds what asking for each file finds.
pub(super) fn ignore(input: &[u8]) {
    let Ok(matcher) = Matcher::of_file(input) else { return };
    for path in ["a", "a/b/c", "target/keep/x.log", "b/c", "y/y/y", "x\u{fc}/.a"] {
        matcher.is_ignored(path);
        let (mut walk, mut all) = (Seen::default(), Seen::default());
        let (mut ignored, mut left_out, mut skipped) = (false, false, false);
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            (left_out, all) = matcher.below(&path[..end], &all);
            if !skipped {
                (ignored, walk) = matcher.below(&path[..end], &walk);
                skipped = ignored && end < path.len() && matcher.may_skip(&path[..end]);
            }
        }
        assert_eq!(ignored, left_out, "{path}");
    }
}
