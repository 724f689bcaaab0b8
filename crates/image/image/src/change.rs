//! `--change` of `import` and `commit`: instructions of a Dockerfile that touch nothing but the
//! configuration, in Docker's grammar.

use hako_oci::image::ContainerConfig;
use serde_json::json;

use crate::Error;

/// Applies instructions to a configuration, in order.
pub fn change(config: &mut ContainerConfig, changes: &[String]) -> Result<(), Error> {
    let mut has_cmd = false;
    for text in changes {
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let word = word.to_ascii_uppercase();
        let rest = rest.trim();
        let wrong = |why: String| Error::Change { change: text.clone(), why };
        let Some((_, apply)) = INSTRUCTIONS.iter().find(|(name, _)| *name == word) else {
            return Err(wrong(format!("{word} is not a valid change command")));
        };
        if rest.is_empty() {
            return Err(wrong(format!("{word} requires at least one argument")));
        }
        apply(config, rest).map_err(wrong)?;
        has_cmd |= word == "CMD";
        // The command was that of the entrypoint before.
        if word == "ENTRYPOINT" && !has_cmd {
            config.cmd = None;
        }
    }
    Ok(())
}

type Apply = fn(&mut ContainerConfig, &str) -> Result<(), String>;

const INSTRUCTIONS: &[(&str, Apply)] = &[
    ("CMD", |config, rest| {
        config.cmd = Some(command(rest));
        Ok(())
    }),
    ("ENTRYPOINT", |config, rest| {
        config.entrypoint = Some(command(rest));
        Ok(())
    }),
    ("ENV", |config, rest| {
        for (name, value) in pairs(rest)? {
            let prefix = format!("{name}=");
            let assignment = format!("{prefix}{value}");
            match config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
                Some(known) => *known = assignment,
                None => config.env.push(assignment),
            }
        }
        Ok(())
    }),
    ("EXPOSE", |config, rest| {
        for word in words(rest)? {
            for port in ports(&word)? {
                config.exposed_ports.insert(port, json!({}));
            }
        }
        Ok(())
    }),
    ("LABEL", |config, rest| {
        config.labels.extend(pairs(rest)?);
        Ok(())
    }),
    ("ONBUILD", |config, rest| {
        let list = config.extra.entry("OnBuild").or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        list.as_array_mut().into_iter().for_each(|list| list.push(rest.into()));
        Ok(())
    }),
    ("STOPSIGNAL", |config, rest| {
        config.stop_signal = Some(rest.into());
        Ok(())
    }),
    ("USER", |config, rest| {
        config.user = rest.into();
        Ok(())
    }),
    ("VOLUME", |config, rest| {
        let list = strings(rest).map_or_else(|| words(rest), Ok)?;
        for path in list {
            if path.is_empty() {
                return Err("VOLUME specified can not be an empty string".into());
            }
            config.volumes.insert(path, json!({}));
        }
        Ok(())
    }),
    ("WORKDIR", |config, rest| {
        let path = words(rest)?.join(" ");
        let path = match (path.starts_with('/'), config.working_dir.as_str()) {
            (true, _) => path,
            (false, "") => format!("/{path}"),
            (false, before) => format!("{}/{path}", before.trim_end_matches('/')),
        };
        config.working_dir = clean(&path);
        Ok(())
    }),
];

/// A list of strings in JSON, if it is one.
fn strings(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A command: a list in JSON, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    strings(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

/// `NAME=value NAME="two words"`, or `NAME the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let first = text.split(char::is_whitespace).next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{text:?} must be of the form name=value"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) | None => Err(format!("{word:?} must be of the form name=value")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    };
    words(text)?.into_iter().map(pair).collect()
}

/// Words between blanks; quotes and backslashes keep blanks.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("a backslash is its last character")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `80/udp`, `80-82/tcp`, each as `80/tcp`.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("Invalid containerPort: {text}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("Invalid proto: {protocol}"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let first: u16 = first.parse().map_err(|_| wrong())?;
    let last: u16 = last.parse().map_err(|_| wrong())?;
    if first == 0 || last < first {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Without `.`, `..` and double slashes.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn run(changes: &[&str]) -> Result<Value, String> {
        let mut config = ContainerConfig {
            cmd: Some(vec!["old".into()]),
            env: vec!["PATH=/bin".into()],
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
        change(&mut config, &changes).map_err(|e| e.to_string())?;
        Ok(serde_json::to_value(config).unwrap())
    }

    #[test]
    fn instructions() {
        let cases = [
            (r#"CMD ["a", "b"]"#, "Cmd", json!(["a", "b"])),
            ("cmd echo hi", "Cmd", json!(["/bin/sh", "-c", "echo hi"])),
            (r#"ENTRYPOINT ["/e"]"#, "Cmd", Value::Null),
            ("ENV PATH=/x A=\"1 2\" B=c\\ d", "Env", json!(["PATH=/x", "A=1 2", "B=c d"])),
            ("ENV A the rest of it", "Env", json!(["PATH=/bin", "A=the rest of it"])),
            ("LABEL a=1 b='x y'", "Labels", json!({"a": "1", "b": "x y"})),
            (
                "EXPOSE 80 53/udp 90-91",
                "ExposedPorts",
                json!({"53/udp": {}, "80/tcp": {}, "90/tcp": {}, "91/tcp": {}}),
            ),
            ("USER 10:20", "User", json!("10:20")),
            ("WORKDIR a/../b", "WorkingDir", json!("/srv/b")),
            ("WORKDIR /x", "WorkingDir", json!("/x")),
            (r#"VOLUME ["/a b", "/c"]"#, "Volumes", json!({"/a b": {}, "/c": {}})),
            ("VOLUME /a /b", "Volumes", json!({"/a": {}, "/b": {}})),
            ("STOPSIGNAL SIGTERM", "StopSignal", json!("SIGTERM")),
            ("ONBUILD RUN true", "OnBuild", json!(["RUN true"])),
        ];
        for (text, field, want) in cases {
            let config = run(&[text]).unwrap();
            assert_eq!(config.get(field).cloned().unwrap_or_default(), want, "{text}");
        }
        let both = run(&[r#"CMD ["new"]"#, r#"ENTRYPOINT ["/e"]"#]).unwrap();
        assert_eq!(both["Cmd"], json!(["new"]));
    }

    #[test]
    fn what_is_no_change() {
        for (text, why) in [
            ("FROM x", "FROM is not a valid change command"),
            ("RUN true", "RUN is not a valid change command"),
            ("CMD", "requires at least one argument"),
            ("ENV A", "must be of the form name=value"),
            ("ENV A=1 B", "must be of the form name=value"),
            ("ENV A='1", "a quote is not closed"),
            ("EXPOSE 0", "Invalid containerPort: 0"),
            ("EXPOSE 9-8", "Invalid containerPort"),
            ("EXPOSE 80/x", "Invalid proto: x"),
            ("", "is not a valid change command"),
        ] {
            let error = run(&[text]).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
