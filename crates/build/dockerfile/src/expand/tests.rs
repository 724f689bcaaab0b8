use std::collections::BTreeMap;

use super::*;

fn vars(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A file of BuildKit's tables, or nothing, and a word about it.
fn table(name: &str) -> Option<String> {
    let root = std::env::var_os("HAKO_TEST_DATA").map(std::path::PathBuf::from);
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared/data");
    let path = root.unwrap_or_else(|| here.into()).join("dockerfile/shell").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("SKIP {name}: no test data at {}", path.display());
    }
    text
}

#[test]
fn buildkit_s_table_of_words() {
    let Some(table) = table("envVarTest") else { return };
    let vars = vars(&[("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")]);
    let mut rows = 0;
    for (at, line) in table.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.trim().split('|').collect();
        let [platform, source, expected] = words[..] else { continue };
        if platform.trim() == "W" {
            continue;
        }
        rows += 1;
        let (source, expected) = (source.trim(), expected.trim());
        let found = Lexer::new('\\').word(source, &vars);
        match expected {
            "error" => assert!(found.is_err(), "{}: {source}: {found:?}", at + 1),
            _ => assert_eq!(found.unwrap().text, expected, "{}: {source}", at + 1),
        }
    }
    assert!(rows > 150, "only {rows} rows were read");
}

#[test]
fn buildkit_s_table_of_splitting() {
    let Some(table) = table("wordsTest") else { return };
    let mut vars = BTreeMap::new();
    let mut rows = 0;
    for (at, line) in table.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = line.strip_prefix("ENV ").and_then(|line| line.split_once('='))
        {
            vars.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let Some((test, expected)) = line.split_once('|') else { continue };
        rows += 1;
        let found = Lexer::new('\\').words(test.trim(), &vars);
        match expected.trim_start() {
            "error" => assert!(found.is_err(), "{}: {test}: {found:?}", at + 1),
            expected => assert_eq!(found.unwrap().join(","), expected, "{}: {test}", at + 1),
        }
    }
    assert!(rows > 15, "only {rows} rows were read");
}

#[test]
fn patterns_and_replacements() {
    let vars = vars(&[("v", "a.b.c"), ("f", "docs.docker.com"), ("p", "/x/*"), ("empty", "")]);
    for (word, expected) in [
        ("${v#*.}", "b.c"),
        ("${v##*.}", "c"),
        ("${v%.*}", "a.b"),
        ("${v%%.*}", "a"),
        ("${f/docs/build}", "build.docker.com"),
        ("${f//o/0}", "d0cs.d0cker.c0m"),
        ("${f/o/}", "dcs.docker.com"),
        ("${p//\\//-}", "-x-*"),
        ("${p%\\*}", "/x/"),
        ("${none#x}", ""),
        ("${none/a/b}", ""),
        ("${v#${empty}a}", ".b.c"),
        ("\"${v%.*}\"", "a.b"),
        ("${v:-${none:-x}}", "a.b.c"),
        ("${empty:-x}${empty-x}", "x"),
        ("${empty:+x}${empty+x}", "x"),
        ("${v/a/'q q'}", "q q.b.c"),
    ] {
        assert_eq!(Lexer::new('\\').word(word, &vars).unwrap().text, expected, "{word}");
    }
}

#[test]
fn errors_say_what_buildkit_says() {
    let vars = vars(&[("empty", ""), ("v", "x")]);
    for (word, expected) in [
        ("${v", "failed to process \"${v\": unsupported modifier (\u{fffd}) in substitution"),
        ("${v:-a", "failed to process \"${v:-a\": syntax error: missing '}'"),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${}", "failed to process \"${}\": syntax error: bad substitution"),
        ("${v^^}", "failed to process \"${v^^}\": unsupported modifier (^) in substitution"),
        ("${v:=a}", "failed to process \"${v:=a}\": unsupported modifier (:=) in substitution"),
        ("${v:#a}", "failed to process \"${v:#a}\": unsupported modifier (:#) in substitution"),
        ("${v/a}", "failed to process \"${v/a}\": syntax error: missing '/' in ${}"),
        ("${none?}", "failed to process \"${none?}\": none: is not allowed to be unset"),
        ("${empty:?}", "failed to process \"${empty:?}\": empty: is not allowed to be empty"),
        ("${none:?say \\n}", "failed to process \"${none:?say \\\\n}\": none: say n"),
        (
            "'a",
            "failed to process \"'a\": unexpected end of statement while looking for matching \
             single-quote",
        ),
        (
            "\"a",
            "failed to process \"\\\"a\": unexpected end of statement while looking for matching \
             double-quote",
        ),
    ] {
        let error = Lexer::new('\\').word(word, &vars).unwrap_err();
        assert_eq!(error.to_string(), expected, "{word}");
    }
}

#[test]
fn what_was_asked_for_is_told() {
    let vars = vars(&[("a", "1"), ("empty", "")]);
    let found = Lexer::new('\\').word("$a ${b:-$c} '$d' \\$e ${empty}", &vars).unwrap();
    let names = |set: &std::collections::BTreeSet<String>| {
        set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&found.used), "a empty");
    assert_eq!(names(&found.unset), "b c");
}

#[test]
fn a_backtick_escapes_where_it_was_chosen() {
    let vars = vars(&[("v", "x")]);
    let lexer = Lexer::new('`');
    assert_eq!(lexer.word("C:\\a\\$v `$v `\"", &vars).unwrap().text, "C:\\a\\x $v \"");
    assert_eq!(lexer.word("\"`$v \\$v\"", &vars).unwrap().text, "$v \\x");
}

#[test]
fn heredocs_keep_quotes() {
    let vars = vars(&[("v", "x")]);
    let found = Lexer::heredoc().word("a '$v' \"$v\" \\$v\nit's", &vars).unwrap();
    assert_eq!(found.text, "a 'x' \"x\" $v\nit's");
}

#[test]
fn names_shown_keep_what_is_not_set() {
    let vars = vars(&[("v", "x")]);
    let lexer = Lexer { raw_quotes: true, keep_unset: true, ..Lexer::new('\\') };
    let shown = lexer.word("RUN echo \"$v\" $w ${w} ${w:-a} ${w%b} ${w/a/b}", &vars).unwrap();
    assert_eq!(shown.text, "RUN echo \"x\" $w ${w} ${w:-a} ${w%b} ${w/a/b}");
}

#[test]
fn nesting_and_growth_have_bounds() {
    let deep = format!("{}x{}", "${a:-".repeat(5_000), "}".repeat(5_000));
    assert_eq!(Lexer::new('\\').word(&deep, &NoVars).unwrap_err().problem, Problem::Deep);
    let vars = vars(&[("v", &"x".repeat(1 << 16))]);
    let large = "$v".repeat(100);
    assert_eq!(Lexer::new('\\').word(&large, &vars).unwrap_err().problem, Problem::Large);
}
