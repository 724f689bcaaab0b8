//! dpkg's own database, as it is between unpacking and configuring.
//!
//! ```text
//! var/lib/dpkg/info/NAME.list, .postinst ...   of each package, in its layer; they stay so
//! var/lib/dpkg/status                          all packages, "install ok unpacked"
//! var/lib/dpkg/triggers/File, NAME             who wants to be told of what
//! ```
//!
//! `dpkg --configure --pending` takes it from there. Configuration files are in their places
//! already: their sums are in `status`, so that dpkg knows what was changed later.

use std::collections::BTreeMap;

use hako_tar::Kind;

use crate::{Result, database, layer::Made, unpack::Unpacked};

/// dpkg's directory, without the slash before it.
pub const DATABASE: &str = "var/lib/dpkg";
const UNPACKED: &str = "install ok unpacked";
/// Scripts that dpkg runs.
const SCRIPTS: &[&str] = &["preinst", "postinst", "prerm", "postrm", "config"];

/// What is in a package's layer beside its files.
pub(crate) fn info(package: &Unpacked) -> Result<Vec<Made>> {
    let name = package.control().info_name();
    let path = |kind: &str| format!("{DATABASE}/info/{name}.{kind}");
    let mut list = b"/.\n".to_vec();
    for entry in package.entries.iter().filter(|entry| !entry.header.path.is_empty()) {
        list.push(b'/');
        list.extend(&entry.header.path);
        list.push(b'\n');
    }
    let mut made = vec![Made::file(path("list"), 0o644, list)];
    for (kind, member) in package.members.iter().filter(|(kind, _)| *kind != "control") {
        let mode = if SCRIPTS.contains(&kind.as_str()) { 0o755 } else { 0o644 };
        made.push(Made::file(path(kind), mode, member.bytes.clone()));
    }
    if package.member("md5sums").is_none() {
        made.push(Made::file(path("md5sums"), 0o644, database::md5sums(package)?));
    }
    Ok(made)
}

/// Files of the database that are of all packages together, by their path in it.
pub(crate) fn state(packages: &[Unpacked]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut status = Vec::new();
    let mut triggers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        status.extend(database::status(package, UNPACKED, &conffiles(package)?));
        status.push(b'\n');
        for (name, interest) in interests(package) {
            triggers.entry(name).or_default().push(interest);
        }
    }
    let mut state = BTreeMap::from([
        ("status".to_owned(), status),
        ("available".to_owned(), Vec::new()),
        ("info/format".to_owned(), b"1\n".to_vec()),
        ("triggers/Unincorp".to_owned(), Vec::new()),
        ("triggers/Lock".to_owned(), Vec::new()),
    ]);
    for (name, lines) in triggers {
        state.insert(format!("triggers/{name}"), (lines.join("\n") + "\n").into_bytes());
    }
    Ok(state)
}

/// The field of the configuration files and their sums.
fn conffiles(package: &Unpacked) -> Result<String> {
    let mut field = String::new();
    for path in database::conffiles(package) {
        let entry = package.entries.iter().find(|e| e.header.path == path);
        let Some(entry) = entry.filter(|e| e.header.kind == Kind::File) else { continue };
        let Ok(path) = str::from_utf8(path) else { continue };
        field.push_str(&format!("\n /{path} {}", database::md5(package, entry)?));
    }
    Ok(if field.is_empty() { field } else { format!("Conffiles:{field}\n") })
}

/// The triggers that a package is interested in (deb-triggers(5)): in which file of `triggers/` it
/// is noted, and how.
fn interests(package: &Unpacked) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(package.member("triggers").unwrap_or_default()).into_owned();
    let mut interests = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(directive), Some(name), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let wait = match directive {
            "interest" | "interest-await" => "",
            "interest-noawait" => "/noawait",
            _ => continue,
        };
        let who = format!("{}{wait}", package.control().info_name());
        // Triggers of files are all in one file; others have names like packages.
        match name.starts_with('/') {
            true => interests.push(("File".to_owned(), format!("{name} {who}"))),
            false if name.contains(['/', '.']) || name == "File" => {}
            false => interests.push((name.to_owned(), who)),
        }
    }
    interests
}
