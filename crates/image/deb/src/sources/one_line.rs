//! Sources of one line: `deb [option=value ...] address suite component ...`.

use super::{Source, clean_path, clean_uri};
use crate::{Error, Result};

/// The source of a line; none of an empty line, a comment, source code, or an archive without
/// suites.
pub(super) fn parse(line: &str) -> Result<Option<Source>> {
    let wrong = |why: &str| Error::Source { line: line.trim().into(), why: why.into() };
    let text = line.split('#').next().unwrap_or_default().trim();
    let Some((kind, rest)) = text.split_once([' ', '\t']) else {
        return match text.is_empty() {
            true => Ok(None),
            false => Err(wrong("it has no address")),
        };
    };
    match kind {
        "deb" => {}
        "deb-src" => return Ok(None),
        _ => return Err(wrong("it begins with neither deb nor deb-src")),
    }
    let mut source = Source::default();
    let mut rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('[') {
        let (options, after) = inner.split_once(']').ok_or_else(|| wrong("no ] closes its ["))?;
        for option in options.split_ascii_whitespace() {
            let (name, value) =
                option.split_once('=').ok_or_else(|| wrong("it has an option without a value"))?;
            source.set(&name.to_ascii_lowercase(), value).map_err(|why| wrong(&why))?;
        }
        rest = after;
    }
    let mut words = rest.split_ascii_whitespace();
    let uri = words.next().ok_or_else(|| wrong("it has no address"))?;
    let suite = words.next().ok_or_else(|| wrong("it has no suite"))?;
    if suite.ends_with('/') {
        return Ok(None);
    }
    source.uri = clean_uri(uri)?;
    source.suite = clean_path(suite)?;
    source.components = words.map(str::to_owned).collect();
    source.check()?;
    Ok(Some(source))
}
