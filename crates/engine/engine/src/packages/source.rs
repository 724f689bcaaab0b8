//! From what is wanted to packages on disk: by the archives' signed indexes, or by a lock file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hako_deb::{
    Archive, Cache, Deb, Given, Method, Net, Selected, Selection, Settings, architecture_of, fetch,
};
use hako_oci::Platform;

use super::{PackagesError, PackagesRequest, PackagesStep, PackagesWatch, Variant, config};
use crate::{Engine, Error, Result};

/// Where packages come from. By default that is what the machine's apt says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Addresses of archives, instead of apt's.
    pub mirrors: Vec<String>,
    /// Suites at these mirrors that belong to the one that is asked for, as `bookworm-updates`.
    pub suites: Vec<String>,
    /// Components at these mirrors; `main` where absent.
    pub components: Vec<String>,
    /// Who may have signed what is at these mirrors; the machine's keyrings where absent.
    pub keyrings: Vec<PathBuf>,
    /// Whether these mirrors are believed unsigned.
    pub trusted: bool,
    /// Whether apt's own programs fetch.
    pub apt: bool,
}

/// Where apt's configuration is.
const ROOT: &str = "/";
const COMPONENT: &str = "main";

impl Sources {
    fn resolve(&self, suite: &str) -> Result<hako_deb::Sources> {
        let settings = Settings::of_machine()?;
        if self.mirrors.is_empty() {
            return Ok(hako_deb::Sources::of_machine(Path::new(ROOT), suite, settings)?);
        }
        let mut components = self.components.clone();
        if components.is_empty() {
            components.push(COMPONENT.to_owned());
        }
        let given = Given {
            mirrors: self.mirrors.clone(),
            suites: [&[suite.to_owned()], &self.suites[..]].concat(),
            components,
            keyrings: self.keyrings.clone(),
            trusted: self.trusted,
        };
        Ok(hako_deb::Sources::given(&given, settings)?)
    }

    fn method(&self) -> Method {
        if self.apt { Method::Apt } else { Method::Direct }
    }
}

impl Engine {
    /// Finds out which packages are wanted, and has them on disk, in the selection's order.
    pub(super) fn find_packages(
        &self,
        request: &PackagesRequest,
        watch: &PackagesWatch<'_>,
    ) -> Result<(Selection, Vec<PathBuf>)> {
        watch(PackagesStep::Resolving);
        let cache = Cache::open(&self.places.root.join("deb"))?;
        let platform = request.platform.clone().unwrap_or_else(Platform::host);
        let architecture = architecture_of(&platform)?;
        if let Some(selection) = read_lock(request)? {
            if selection.suite != request.suite || selection.architecture != architecture {
                return Err(other_lock(request, &selection));
            }
            let net = Net::new(request.sources.method(), &Settings::of_machine()?, ROOT.as_ref())?;
            let debs = fetch_all(&cache, &net, &selection, request, watch)?;
            if !is_answer(&selection, &debs, request)? {
                return Err(other_lock(request, &selection));
            }
            return Ok((selection, debs));
        }
        let sources = request.sources.resolve(&request.suite)?;
        let net = Net::new(request.sources.method(), &sources.settings, ROOT.as_ref())?;
        let net = net.with_logins_of(&sources);
        let archive = Archive::open(&cache, &net, &sources, architecture)?;
        let selection = select(&archive, request)?;
        let selection = request.variant.prune(selection, &request.include);
        let debs = fetch_all(&cache, &net, &selection, request, watch)?;
        if let Some(path) = &request.lock {
            write_lock(path, &selection.to_lock()?)?;
        }
        Ok((selection, debs))
    }
}

/// Chooses packages. What a variant would like to have is left out where the archive has it not.
fn select(archive: &Archive, request: &PackagesRequest) -> Result<Selection> {
    let wanted = request.variant.request(&request.include, request.recommends);
    let liked = request.variant.liked();
    if !liked.is_empty() {
        let mut more = wanted.clone();
        more.include.extend(liked);
        match archive.select(&more) {
            Err(hako_deb::Error::Unsatisfiable(_)) => {}
            selected => return Ok(selected?),
        }
    }
    Ok(archive.select(&wanted)?)
}

fn fetch_all(
    cache: &Cache,
    net: &Net,
    selection: &Selection,
    request: &PackagesRequest,
    watch: &PackagesWatch<'_>,
) -> Result<Vec<PathBuf>> {
    let bytes = selection.packages.iter().map(|package| package.size).sum();
    watch(PackagesStep::Fetching(selection.packages.len(), bytes));
    let arrived = |_, bytes| watch(PackagesStep::Fetched(bytes));
    // Where a lock file's packages are looked for when they have gone from their place.
    let is_known = |mirror: &&String| {
        let mirror = mirror.trim_end_matches('/');
        selection.origins.iter().any(|origin| origin.uri == mirror)
    };
    let mirrors: Vec<String> =
        request.sources.mirrors.iter().filter(|m| !is_known(m)).cloned().collect();
    Ok(fetch(cache, net, selection, &mirrors, &arrived)?)
}

/// What the lock file says; `None` where it is to be written.
fn read_lock(request: &PackagesRequest) -> Result<Option<Selection>> {
    let Some(path) = &request.lock else { return Ok(None) };
    match fs::read(path) {
        Ok(bytes) => Ok(Some(Selection::from_lock(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && !request.locked => Ok(None),
        Err(source) => Err(PackagesError::NoLock { path: path.clone(), source }.into()),
    }
}

/// Beside its place first: who reads it gets all of it, or what was there before.
fn write_lock(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::NamedTempFile::new_in(dir).map_err(Error::io("create", path))?;
    fs::write(beside.path(), bytes).map_err(Error::io("write", path))?;
    let open = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    fs::set_permissions(beside.path(), open).map_err(Error::io("chmod", path))?;
    beside.persist(path).map_err(|e| Error::io("rename", path)(e.error))?;
    Ok(())
}

fn other_lock(request: &PackagesRequest, selection: &Selection) -> Error {
    let extra = request.variant.names_added();
    let asked = selection.packages.iter().filter(|p| p.asked && !extra.contains(&&p.name[..]));
    let asked: Vec<&str> = asked.map(|package| package.name.as_str()).collect();
    let found = format!("{} on {}: {}", selection.suite, selection.architecture, asked.join(","));
    PackagesError::OtherLock {
        path: request.lock.clone().unwrap_or_default(),
        wanted: config::name(request).to_string(),
        found,
    }
    .into()
}

/// Whether a lock file's packages are the answer to what is asked now: the same names, and of what
/// is no package's name, one that provides it.
fn is_answer(selection: &Selection, debs: &[PathBuf], request: &PackagesRequest) -> Result<bool> {
    let added = request.variant.names_added();
    let asked: Vec<(&Selected, &PathBuf)> =
        selection.packages.iter().zip(debs).filter(|(package, _)| package.asked).collect();
    if request.variant == Variant::Minbase
        && !asked.iter().any(|(p, _)| added.contains(&&p.name[..]))
    {
        return Ok(false);
    }
    let mut unexplained: Vec<&(&Selected, &PathBuf)> =
        asked.iter().filter(|(package, _)| !added.contains(&&package.name[..])).collect();
    let mut missing = Vec::new();
    for wanted in &request.include {
        match asked.iter().find(|(package, _)| package.name == wanted.name) {
            Some((package, _))
                if wanted.version.as_ref().is_some_and(|v| *v != package.version) =>
            {
                return Ok(false);
            }
            Some((package, _)) => unexplained.retain(|(other, _)| other.name != package.name),
            None => missing.push(&wanted.name),
        }
    }
    for name in missing {
        let mut found = false;
        for (package, deb) in &asked {
            let file = fs::File::open(deb).map_err(Error::io("open", *deb))?;
            let control = Deb::open(file)?.control().clone();
            let provides = hako_deb::clauses(control.get("Provides").unwrap_or_default());
            let provides = provides.unwrap_or_default();
            if provides.iter().any(|clause| clause.0.iter().any(|one| one.name == *name)) {
                unexplained.retain(|(other, _)| other.name != package.name);
                found = true;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(unexplained.is_empty())
}
