//! Functions of templates: Go's own and Docker's, and how Go prints values.

use std::cmp::Ordering;

use serde_json::Value;

/// What an absent key of a map is; prints as Go prints it.
pub(super) fn no_value() -> Value {
    Value::String("<no value>".into())
}

type Function = fn(&[Value]) -> Result<Value, String>;

/// Name, fewest and most arguments, what it does.
const FUNCTIONS: &[(&str, usize, usize, Function)] = &[
    ("and", 1, usize::MAX, unreachable_short_circuit),
    ("eq", 2, usize::MAX, |a| Ok(a[1..].iter().any(|b| equal(&a[0], b)).into())),
    ("ge", 2, 2, |a| Ok((order(&a[0], &a[1])? != Ordering::Less).into())),
    ("gt", 2, 2, |a| Ok((order(&a[0], &a[1])? == Ordering::Greater).into())),
    ("html", 1, usize::MAX, |a| Ok(html(&joined(a)).into())),
    ("index", 1, usize::MAX, |a| a[1..].iter().try_fold(a[0].clone(), |v, key| index(&v, key))),
    ("join", 2, 2, |a| Ok(list_of_text(&a[0])?.join(&text(&a[1])).into())),
    ("json", 1, 1, |a| Ok(json(&a[0]).into())),
    ("le", 2, 2, |a| Ok((order(&a[0], &a[1])? != Ordering::Greater).into())),
    ("len", 1, 1, |a| length(&a[0]).map(Value::from)),
    ("lower", 1, 1, |a| Ok(text(&a[0]).to_lowercase().into())),
    ("lt", 2, 2, |a| Ok((order(&a[0], &a[1])? == Ordering::Less).into())),
    ("ne", 2, 2, |a| Ok((!equal(&a[0], &a[1])).into())),
    ("not", 1, 1, |a| Ok((!truth(&a[0])).into())),
    ("or", 1, usize::MAX, unreachable_short_circuit),
    ("pad", 3, 3, |a| Ok(pad(&text(&a[0]), number(&a[1])?, number(&a[2])?).into())),
    ("print", 0, usize::MAX, |a| Ok(joined(a).into())),
    ("printf", 1, usize::MAX, |a| printf(&text(&a[0]), &a[1..]).map(Value::from)),
    ("println", 0, usize::MAX, |a| Ok((spaced(a) + "\n").into())),
    ("slice", 1, 3, slice),
    ("split", 2, 2, |a| {
        let (words, separator) = (text(&a[0]), text(&a[1]));
        Ok(words.split(separator.as_str()).map(Value::from).collect())
    }),
    ("title", 1, 1, |a| Ok(title(&text(&a[0])).into())),
    ("truncate", 2, 2, |a| {
        let length = usize::try_from(number(&a[1])?).unwrap_or_default();
        Ok(text(&a[0]).chars().take(length).collect::<String>().into())
    }),
    ("upper", 1, 1, |a| Ok(text(&a[0]).to_uppercase().into())),
    ("urlquery", 1, usize::MAX, |a| Ok(urlquery(&joined(a)).into())),
];

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// For `and` and `or`: the truth that lets them go on.
pub(super) fn short_circuit(name: &str) -> Option<bool> {
    match name {
        "and" => Some(true),
        "or" => Some(false),
        _ => None,
    }
}

pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, String> {
    let Some((_, least, most, function)) = FUNCTIONS.iter().find(|(known, ..)| *known == name)
    else {
        return Err(format!("{name:?} is not a defined function"));
    };
    let count = arguments.len();
    if count < *least || count > *most {
        let want = if least == most { least.to_string() } else { format!("at least {least}") };
        return Err(format!("wrong number of args for {name}: want {want} got {count}"));
    }
    function(&arguments).map_err(|message| format!("error calling {name}: {message}"))
}

/// In the heading of a table a function's subject is the column's name, which passes through.
pub(super) fn heading(name: &str, mut arguments: Vec<Value>) -> Value {
    let subject = match name {
        "printf" | "print" | "println" | "index" => arguments.pop(),
        _ => arguments.into_iter().next(),
    };
    subject.unwrap_or(Value::Null)
}

fn unreachable_short_circuit(arguments: &[Value]) -> Result<Value, String> {
    // `eval` decides these while it evaluates their operands; here all are known already.
    Ok(arguments.last().cloned().unwrap_or(Value::Null))
}

/// Whether Go's `if` takes a value for true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go's `%v`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", spaced(list)),
        Value::Object(map) => {
            let mut entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", inner_text(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        Value::Number(n) if n.is_f64() => n.as_f64().unwrap_or_default().to_string(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Within a list or map, nothing is `<nil>`.
fn inner_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        value => text(value),
    }
}

fn spaced(values: &[Value]) -> String {
    values.iter().map(inner_text).collect::<Vec<_>>().join(" ")
}

/// As Go's `Sprint`: a blank between operands where neither is a string.
fn joined(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 && !value.is_string() && !values[i - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&inner_text(value));
    }
    out
}

/// Without HTML escapes and without a newline, as Docker's `json`.
fn json(value: &Value) -> String {
    value.to_string()
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a
                .as_f64()
                .partial_cmp(&b.as_f64())
                .ok_or_else(|| "incompatible types for comparison".into()),
        },
        _ => Err("incompatible types for comparison".into()),
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(s) => Ok(s.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        Value::Null => Err("len of nil pointer".into()),
        other => Err(format!("len of type {}", kind(other))),
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        Value::Array(list) => {
            let at = number(key)?;
            let found = usize::try_from(at).ok().and_then(|at| list.get(at));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        // Most maps hold strings, whose zero value is what Go gives for an absent key.
        Value::Object(map) => {
            Ok(map.get(text(key).as_str()).cloned().unwrap_or_else(|| Value::String(String::new())))
        }
        Value::String(s) => {
            let at = number(key)?;
            let found = usize::try_from(at).ok().and_then(|at| s.as_bytes().get(at));
            found.map(|b| Value::from(*b)).ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::Null => Err("index of untyped nil".into()),
        other => Err(format!("can't index item of type {}", kind(other))),
    }
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let length = length(&arguments[0])?;
    let bound = |at: usize, default: usize| match arguments.get(at) {
        Some(value) => {
            let n = number(value)?;
            let n = usize::try_from(n).map_err(|_| format!("index out of range: {n}"))?;
            if n > length { Err(format!("index out of range: {n}")) } else { Ok(n) }
        }
        None => Ok(default),
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match &arguments[0] {
        Value::String(s) => {
            s.get(from..to).map(Value::from).ok_or_else(|| "slice splits a character".into())
        }
        Value::Array(list) => Ok(Value::Array(list[from..to].to_vec())),
        other => Err(format!("can't slice item of type {}", kind(other))),
    }
}

fn list_of_text(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(list) => Ok(list.iter().map(text).collect()),
        Value::Null => Ok(Vec::new()),
        other => Err(format!("wrong type for value; expected []string; got {}", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn number(value: &Value) -> Result<i64, String> {
    value.as_i64().ok_or_else(|| format!("expected integer; got {}", text(value)))
}

/// Bound on the width that `pad` and `printf` fill: a format is no way to use up memory.
const WIDTH_MAX: usize = 10_000;

/// Blanks around what is not empty.
fn pad(text: &str, before: i64, after: i64) -> String {
    let width = |n: i64| usize::try_from(n).unwrap_or_default().min(WIDTH_MAX);
    match text {
        "" => String::new(),
        text => " ".repeat(width(before)) + text + &" ".repeat(width(after)),
    }
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |c: char| c.to_uppercase().next().unwrap_or(c);
    text.chars()
        .map(|c| {
            let out = if start { upper(c) } else { c };
            start = !c.is_alphanumeric() && c != '_' && c != '\'';
            out
        })
        .collect()
}

fn html(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

fn urlquery(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
        out
    })
}

/// Go's `printf` with the verbs that fit JSON: v s d q t x X f g e and %, flags `-`, `0`, `+`,
/// width and precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let flags_end = rest.find(|c| !"+-# 0".contains(c)).unwrap_or(rest.len());
        let (flags, after) = rest.split_at(flags_end);
        let width_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (width, after) = after.split_at(width_end);
        let (precision, after) = match after.strip_prefix('.') {
            Some(after) => {
                let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
                (Some(after[..end].parse().unwrap_or(0usize).min(WIDTH_MAX)), &after[end..])
            }
            None => (None, after),
        };
        let Some(verb) = after.chars().next() else {
            out.push_str("%!(NOVERB)");
            return Ok(out);
        };
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let body = verb_text(verb, value, flags, precision);
        let width = width.parse().unwrap_or(0usize).min(WIDTH_MAX);
        let missing = width.saturating_sub(body.chars().count());
        match (flags.contains('-'), flags.contains('0') && value.is_number()) {
            (true, _) => out.push_str(&(body + &" ".repeat(missing))),
            (false, true) => {
                let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
                out.push_str(&(sign.to_owned() + &"0".repeat(missing) + digits));
            }
            (false, false) => out.push_str(&(" ".repeat(missing) + &body)),
        }
    }
    out.push_str(rest);
    let extra: Vec<String> = arguments.map(|v| format!("{}={}", kind(v), text(v))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn verb_text(verb: char, value: &Value, flags: &str, precision: Option<usize>) -> String {
    let signed = |text: String| match flags.contains('+') && !text.starts_with('-') {
        true => "+".to_owned() + &text,
        false => text,
    };
    let bad = || format!("%!{verb}({}={})", kind(value), text(value));
    match (verb, value) {
        ('v' | 's', Value::Null) => "<nil>".into(),
        ('v', value) if value.is_number() => signed(text(value)),
        ('v' | 's', value) => {
            let all = text(value);
            precision.map_or(all.clone(), |n| all.chars().take(n).collect())
        }
        ('q', Value::String(s)) => format!("{s:?}"),
        ('t', Value::Bool(b)) => b.to_string(),
        ('d', Value::Number(n)) if n.is_i64() || n.is_u64() => signed(n.to_string()),
        ('x' | 'X', Value::Number(n)) if n.as_i64().is_some() => {
            let n = n.as_i64().unwrap_or_default();
            let digits = format!("{:x}", n.unsigned_abs());
            let digits = if verb == 'X' { digits.to_uppercase() } else { digits };
            if n < 0 { "-".to_owned() + &digits } else { digits }
        }
        ('x' | 'X', Value::String(s)) => {
            let digits: String = s.bytes().map(|b| format!("{b:02x}")).collect();
            if verb == 'X' { digits.to_uppercase() } else { digits }
        }
        ('f' | 'F', Value::Number(n)) => {
            signed(format!("{:.*}", precision.unwrap_or(6), n.as_f64().unwrap_or_default()))
        }
        ('g' | 'e', Value::Number(n)) => signed(n.to_string()),
        _ => bad(),
    }
}
