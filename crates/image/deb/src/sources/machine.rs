//! apt's files: `sources.list`, `sources.list.d/*.list` and `*.sources` (sources.list(5)).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Source, of_paragraph, one_line, read};
use crate::{Error, Result, deb822};

const FILE_BYTES_MAX: u64 = 4 << 20;

/// All sources of binary packages, in apt's order.
pub(super) fn read_sources(root: &Path) -> Result<Vec<Source>> {
    let dir = root.join("etc/apt");
    let mut files: Vec<PathBuf> =
        [dir.join("sources.list")].into_iter().filter(|path| path.exists()).collect();
    files.extend(files_in(&dir.join("sources.list.d"), &[".list", ".sources"])?);
    let mut sources = Vec::new();
    for path in files {
        let bytes = read(&path, FILE_BYTES_MAX)?;
        let wrong = |why: String| Error::SourcesFile { path: path.clone(), why };
        if path.extension().is_some_and(|e| e == "sources") {
            let paragraphs = deb822::paragraphs(&bytes, true).map_err(|e| wrong(e.to_string()))?;
            for paragraph in &paragraphs {
                sources.extend(of_paragraph(paragraph).map_err(|e| wrong(e.to_string()))?);
            }
        } else {
            let text = str::from_utf8(&bytes).map_err(|e| wrong(e.to_string()))?;
            for line in text.lines() {
                sources.extend(one_line::parse(line).map_err(|e| wrong(e.to_string()))?);
            }
        }
    }
    Ok(sources)
}

/// Files of a directory that end so, in order; none where there is no directory. Names that apt
/// passes over, as editors leave them, are passed over.
pub(crate) fn files_in(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io("readdir", dir, e))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("readdir", dir, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let is_ours = endings.iter().any(|ending| name.ends_with(ending));
        if is_ours && name.bytes().all(plain) && !name.starts_with('.') && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
