//! One line of comma-separated values, as Go's `encoding/csv` reads it: the values of `--mount`
//! and `--device`.

/// The fields of a line.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    if line.is_empty() {
        return Err("EOF");
    }
    let mut out = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let field = &rest[..end];
            if field.contains('"') {
                return Err("parse error on line 1: bare \" in non-quoted-field");
            }
            out.push(field.to_owned());
            match rest[end..].strip_prefix(',') {
                Some(behind) => rest = behind,
                None => return Ok(out),
            }
            continue;
        };
        let mut field = String::new();
        rest = quoted;
        loop {
            let Some(end) = rest.find('"') else {
                return Err("parse error on line 1: extraneous or missing \" in quoted-field");
            };
            field.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(behind) => {
                    field.push('"');
                    rest = behind;
                }
                None => break,
            }
        }
        out.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(out),
            None => return Err("parse error on line 1: extraneous or missing \" in quoted-field"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_may_be_quoted() {
        for (line, expected) in [
            ("a,b=c", Some(vec!["a", "b=c"])),
            ("\"a,b\",c", Some(vec!["a,b", "c"])),
            ("\"a\"\"b\"", Some(vec!["a\"b"])),
            ("a,", Some(vec!["a", ""])),
            (",", Some(vec!["", ""])),
            ("", None),
            ("a\"b", None),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            let expected = expected.map(|fields| fields.into_iter().map(String::from).collect());
            assert_eq!(fields(line).ok(), expected, "{line}");
        }
    }
}
