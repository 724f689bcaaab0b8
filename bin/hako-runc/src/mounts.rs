//! `mounts add` and `mounts remove`: mounts of a container that runs.

use std::io::Read;

use hako_oci::runtime::Mount;
use hako_runtime::Container;

use crate::args::Parsed;
use crate::{Context, Failure, Outcome};

/// More than any list of mounts needs.
const DOCUMENT_MAX: u64 = 4 << 20;

/// `mounts`.
pub(crate) fn mounts(context: &Context, parsed: &Parsed) -> Outcome {
    let [action, id, rest @ ..] = parsed.positional.as_slice() else {
        let message = "hako-runc: \"mounts\" requires a minimum of 2 argument(s): add or remove, container ID";
        return Err(message.to_owned().into());
    };
    let mut wanted: Vec<Mount> = parsed.all("mount").map(mount).collect::<Result<_, String>>()?;
    match action.as_str() {
        "add" => {
            for path in rest {
                wanted.extend(document(path)?);
            }
            if wanted.is_empty() {
                return Err("no mounts are given: FILE or --mount".to_owned().into());
            }
            Container::load(&context.root, id)?.add_mounts(&wanted)?;
        }
        "remove" => {
            let mut places: Vec<String> = wanted.into_iter().map(|m| m.destination).collect();
            for word in rest {
                // A place in the container, or as crun has it a file that lists mounts.
                match word.starts_with('/') && !std::path::Path::new(word).is_file() {
                    true => places.push(word.clone()),
                    false => places.extend(document(word)?.into_iter().map(|m| m.destination)),
                }
            }
            if places.is_empty() {
                return Err("no mounts are given: DESTINATION or FILE".to_owned().into());
            }
            Container::load(&context.root, id)?.remove_mounts(&places)?;
        }
        other => return Err(format!("mounts {other:?}: add or remove").into()),
    }
    Ok(0)
}

/// A list of mounts as in config.json.
fn document(path: &str) -> Result<Vec<Mount>, Failure> {
    let mut text = Vec::new();
    let read = match path {
        "-" => std::io::stdin().lock().take(DOCUMENT_MAX).read_to_end(&mut text),
        path => std::fs::File::open(path)
            .and_then(|file| file.take(DOCUMENT_MAX).read_to_end(&mut text)),
    };
    read.map_err(|e| format!("read mounts from {path}: {e}"))?;
    Ok(serde_json::from_slice(&text).map_err(|e| format!("mounts from {path}: {e}"))?)
}

/// `type=bind,src=/a,dst=/b,ro`, as Docker's `--mount`; what has no name of its own is an option.
fn mount(text: &str) -> Result<Mount, String> {
    let mut mount = Mount::default();
    let invalid = |why: &str| format!("invalid value {text:?} for --mount: {why}");
    for part in text.split(',').filter(|p| !p.is_empty()) {
        match part.split_once('=') {
            Some(("type", kind)) => mount.kind = Some(kind.to_owned()),
            Some(("source" | "src", source)) => mount.source = Some(source.to_owned()),
            Some(("destination" | "dst" | "target", place)) => mount.destination = place.to_owned(),
            Some(("readonly" | "ro", "true" | "1")) | None if part.starts_with("readonly") => {
                mount.options.push("ro".to_owned());
            }
            Some(("readonly" | "ro", "false" | "0")) => {}
            Some(("bind-propagation", how)) => mount.options.push(how.to_owned()),
            _ => mount.options.push(part.to_owned()),
        }
    }
    if !mount.destination.starts_with('/') {
        return Err(invalid("it needs dst=, an absolute path in the container"));
    }
    if mount.kind.as_deref().is_none_or(|kind| kind == "bind") {
        let source = mount.source.as_deref().ok_or_else(|| invalid("it needs src="))?;
        let source = std::path::absolute(source).map_err(|e| invalid(&e.to_string()))?;
        mount.source = Some(source.to_string_lossy().into_owned());
        mount.kind = Some("bind".to_owned());
        if !mount.options.iter().any(|o| matches!(o.as_str(), "bind" | "rbind")) {
            mount.options.push("rbind".to_owned());
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_in_words() {
        for (text, kind, source, options) in [
            ("type=bind,src=/a,dst=/b", "bind", Some("/a"), &["rbind"][..]),
            ("src=/a,target=/b,readonly", "bind", Some("/a"), &["ro", "rbind"]),
            ("source=/a,destination=/b,readonly=true,bind", "bind", Some("/a"), &["ro", "bind"]),
            (
                "src=/a,dst=/b,ro=false,bind-propagation=rslave",
                "bind",
                Some("/a"),
                &["rslave", "rbind"],
            ),
            ("type=tmpfs,dst=/b,size=1m,nosuid", "tmpfs", None, &["size=1m", "nosuid"]),
        ] {
            let found = mount(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(found.destination, "/b", "{text}");
            assert_eq!(
                (found.kind.as_deref(), found.source.as_deref()),
                (Some(kind), source),
                "{text}"
            );
            assert_eq!(found.options, options, "{text}");
        }
        for text in ["", "type=bind,src=/a", "type=bind,dst=/b", "type=tmpfs,dst=b"] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
