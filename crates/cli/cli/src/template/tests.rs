use serde_json::{Value, json};

use super::{Context, Template};

fn data() -> Value {
    json!({
        "Id": "abc", "Name": "/web", "Args": ["a", "b c"], "Empty": [], "Null": null,
        "State": {"Pid": 42, "Running": true, "Dead": false},
        "Config": {"Labels": {"x.y": "1", "b": "2"}, "Env": ["A=1", "B=2"]},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "53/udp": null},
        "Mounts": [{"Source": "/s", "Destination": "/d"}],
    })
}

fn render(text: &str) -> Result<String, String> {
    let label = |arguments: &[Value]| Ok(format!("label {}", arguments[0]).into());
    let context = Context { maps: &["Labels"], methods: &[("Label", &label)], heading: false };
    Template::parse(text)
        .and_then(|template| template.render(&data(), &context))
        .map_err(|error| error.to_string())
}

#[test]
fn templates_render_as_go_renders_them() {
    let cases = [
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{.Id}}", "abc"),
        ("{{ .State.Pid }}-{{.State.Running}}", "42-true"),
        ("{{json .Args}} {{json .Name}} {{.Args | json}}", r#"["a","b c"] "/web" ["a","b c"]"#),
        ("{{json .State}}", r#"{"Pid":42,"Running":true,"Dead":false}"#),
        ("{{.Args}} {{.Config.Labels}} {{.Null}}", "[a b c] map[b:2 x.y:1] <no value>"),
        ("{{.Mounts}}", "[map[Destination:/d Source:/s]]"),
        ("{{index .Config.Labels \"x.y\"}}{{index .Config.Labels \"none\"}}", "1"),
        ("{{.Config.Labels.b}} {{.Config.Labels.none}}", "2 <no value>"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{with index .Ports \"80/tcp\"}}{{(index . 0).HostPort}}{{end}}", "8080"),
        ("{{range .Args}}<{{.}}>{{end}}", "<a><b c>"),
        ("{{range $i, $e := .Config.Env}}{{$i}}:{{$e}} {{end}}", "0:A=1 1:B=2 "),
        ("{{range $p, $c := .Ports}}{{$p}} {{end}}", "53/udp 80/tcp "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Null}}x{{end}}", ""),
        ("{{range .Args}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}", "b c"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Dead}}1{{else if .State.Pid}}2{{else}}3{{end}}", "2"),
        ("{{if and .State.Running (gt .State.Pid 1)}}ok{{end}}", "ok"),
        ("{{if or .Empty .Null}}x{{else}}y{{end}}", "y"),
        ("{{and .State.Dead .State.Nowhere}}", "false"),
        ("{{or .Id .State.Nowhere}}", "abc"),
        ("{{if not .Empty}}e{{end}}", "e"),
        ("{{with .Null}}x{{else}}y{{end}}", "y"),
        ("{{with $x := .Id}}{{$x}}{{.}}{{end}}", "abcabc"),
        ("{{$x := .Id}}{{$x}} {{$.Name}}", "abc /web"),
        ("{{$n := 0}}{{range .Args}}{{$n = len .}}{{end}}{{$n}}", "3"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{join .Args \", \"}} {{split \"a,b\" \",\"}}", "a, b c [a b]"),
        ("{{upper .Id}} {{title \"ab cd\"}} {{lower \"AB\"}}", "ABC Ab Cd ab"),
        ("{{truncate .Name 3}}|{{pad .Id 1 2}}|{{pad \"\" 1 2}}", "/we| abc  |"),
        ("{{len .Args}}{{len .Id}}{{slice .Id 1}}{{slice .Id 0 1}}", "23bca"),
        (
            "{{printf \"%s=%d %q %5s|%-5s|%05d %x %.2f %v %%\" .Id 7 .Id .Id .Id 42 255 1.5 .Args}}",
            "abc=7 \"abc\"   abc|abc  |00042 ff 1.50 [a b c] %",
        ),
        ("{{printf \"%d\"}} {{printf \"%d\" \"x\"}}", "%!d(MISSING) %!d(string=x)"),
        ("{{print 1 2 \"a\" \"b\" 3}}{{println \"x\" 1}}", "1 2ab3x 1\n"),
        ("{{eq .State.Pid 1 42}} {{ne 1 1.0}} {{lt \"a\" \"b\"}}", "true false true"),
        ("a {{- .Id -}} b", "aabcb"),
        ("a\n {{- /* gone */ -}} \nb{{/* gone */}}c", "abc"),
        ("{{- 3}} {{-3}}", "3 -3"),
        (
            "{{`raw \\n`}} {{\"t\\tq\\\"\\u00e9\"}} {{'a'}} {{0x10}} {{1e3}}",
            "raw \\n t\tq\"é 97 16 1000",
        ),
        ("{{html \"<a>\"}} {{urlquery \"a b&\"}}", "&lt;a&gt; a+b%26"),
        ("{{.Label \"x\"}} {{\"y\" | .Label}}", "label \"x\" label \"y\""),
        ("{{.}}", &super::func::text(&data())),
        ("é{{.Id}}ü", "éabcü"),
    ];
    for (text, want) in cases {
        assert_eq!(render(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn what_cannot_be_rendered_says_where_and_why() {
    let cases = [
        (
            "{{.Nope}}",
            "template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        ("{{.Id.X}}", "can't evaluate field X in type string"),
        ("{{.Null.X}}", "nil pointer evaluating interface {}.X"),
        ("{{index .Args 9}}", "error calling index: index out of range: 9"),
        ("{{.Id 1}}", "Id has arguments but cannot be invoked as function"),
        ("{{range .Id}}{{end}}", "range can't iterate over abc"),
        ("{{join .Id \",\"}}", "expected []string"),
        ("{{len}}", "wrong number of args for len: want 1 got 0"),
        ("{{lt 1 \"a\"}}", "incompatible types for comparison"),
        ("x\n{{.Id", "template: :2: unclosed action"),
        ("{{nope .Id}}", "template: :1: function \"nope\" not defined"),
        ("{{if .Id}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value for command"),
        ("{{.Id | }}", "missing value for command"),
        ("{{.Id | 3}}", "non executable command in pipeline"),
        ("{{\"a}}", "unterminated quoted string"),
        ("{{`a}}", "unterminated raw quoted string"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{(.Id}}", "unclosed left paren"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{template \"x\"}}", "not supported"),
        ("{{.Id%}}", "unexpected '%'"),
        ("{{/* x }}", "unclosed comment"),
        ("{{12ab}}", "bad number syntax"),
        ("{{'ab'}}", "malformed character constant"),
    ];
    for (text, want) in cases {
        let error = render(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
    let deep = "{{(".repeat(100) + "1";
    assert!(render(&deep).is_err());
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(100), ")".repeat(100));
    assert!(render(&deep).unwrap_err().contains("nested too deeply"));
}

#[test]
fn headings_pass_through_functions() {
    let context = Context { heading: true, ..Context::default() };
    let row = json!({"ID": "CONTAINER ID", "Names": "NAMES"});
    let template = Template::parse("{{.ID}}\t{{truncate .Names 3}}\t{{json .ID}}").unwrap();
    assert_eq!(template.render(&row, &context).unwrap(), "CONTAINER ID\tNAMES\tCONTAINER ID");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_template_panic(text in ".{0,80}") {
        let _either_is_fine = render(&text);
    }

    #[test]
    fn no_tokens_make_the_template_panic(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " ", ".", ".Id", "$", "$x", ":=", "=", ",", "|", "(", ")",
            "if", "else", "end", "range", "with", "break", "\"s\"", "1", "-1", "index", "slice",
            "printf", "\"%5d\"", "len", "'", "`", "/*", "*/", ".Args", "nil", "and", "\n",
        ]), 0..30),
    ) {
        let _either_is_fine = render(&words.concat());
    }
}
