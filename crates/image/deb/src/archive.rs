//! Archives that were asked, verified, and hold what they have ready to be chosen from.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use hako_oci::Digest;
use hako_remote::{Got, Stamp};

use crate::{
    Cache, Error, Keyring, Net, Origin, Result, Source, Sources,
    cache::{KnownRelease, Part, RELEASE_BYTES_MAX},
    index::{self, Index},
    net::{self, Wanted},
    openpgp,
    release::{self, Dates, Listed, Release},
};

/// The largest index that is fetched, and the largest that it may become.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// How indexes may be compressed, the best first.
const COMPRESSIONS: &[&str] = &[".xz", ".zst", ".gz", ".bz2", ""];

/// What the archives of a suite have for one architecture.
#[derive(Debug)]
pub struct Archive {
    pub(crate) suite: String,
    pub(crate) architecture: String,
    pub(crate) parts: Vec<Place>,
}

/// One source of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub origin: Origin,
    /// apt's priority.
    pub pin: u32,
    pub indexes: Vec<Index>,
}

impl Archive {
    /// Asks all sources, verifies what they say, and reads what they have for an architecture (in
    /// Debian's words).
    pub fn open(
        cache: &Cache,
        net: &Net,
        sources: &Sources,
        architecture: &str,
    ) -> Result<Archive> {
        Archive::open_at(cache, net, sources, architecture, release::now())
    }

    /// The same, at another time than now, in seconds since 1970.
    pub fn open_at(
        cache: &Cache,
        net: &Net,
        sources: &Sources,
        architecture: &str,
        now: i64,
    ) -> Result<Archive> {
        let fits = |s: &&Source| {
            s.architectures.is_empty() || s.architectures.iter().any(|a| a == architecture)
        };
        let dates = Dates {
            check_valid_until: sources.settings.check_valid_until,
            check_date: sources.settings.check_date,
            now,
        };
        let asked = Asked { cache, net, sources, architecture, dates };
        let parts: Result<Vec<Option<Place>>> = thread::scope(|scope| {
            let threads: Vec<_> = sources
                .sources
                .iter()
                .filter(fits)
                .map(|source| scope.spawn(|| asked.open(source)))
                .collect();
            threads.into_iter().map(joined).collect()
        });
        let parts: Vec<Place> = parts?.into_iter().flatten().collect();
        if parts.iter().all(|part| part.indexes.iter().all(|index| index.len() == 0)) {
            let (suite, architecture) = (sources.suite.clone(), architecture.to_owned());
            return Err(Error::NoPackages { suite, architecture });
        }
        Ok(Archive { suite: sources.suite.clone(), architecture: architecture.to_owned(), parts })
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct Asked<'a> {
    cache: &'a Cache,
    net: &'a Net,
    sources: &'a Sources,
    architecture: &'a str,
    dates: Dates,
}

impl Asked<'_> {
    /// `None` where a part of the suite's family has nothing for this architecture.
    fn open(&self, source: &Source) -> Result<Option<Place>> {
        let uri = source.uri.replace("$(ARCH)", self.architecture);
        let release = self.release(source, &uri)?;
        let has = |architecture: &str| release.architectures.iter().any(|a| a == architecture);
        if !release.architectures.is_empty() && !has(self.architecture) {
            if source.suite != self.sources.suite {
                return Ok(None);
            }
            let known = release.architectures.join(", ");
            let why = format!("it has no architecture {}, but {known}", self.architecture);
            return Err(self.wrong(&uri, source, why));
        }
        let mut indexes = Vec::new();
        for component in &source.components {
            indexes.push(self.index(source, &uri, &release, component, self.architecture)?);
            if release.has_index_of_all {
                let all = format!("{component}/binary-all/Packages");
                if COMPRESSIONS.iter().any(|c| release.files.contains_key(&format!("{all}{c}"))) {
                    indexes.push(self.index(source, &uri, &release, component, "all")?);
                }
            }
        }
        let origin = Origin {
            uri: net::shown(&uri),
            suite: source.suite.clone(),
            components: source.components.clone(),
            release: release.digest,
            date: release.date,
        };
        Ok(Some(Place { origin, pin: release.pin, indexes }))
    }

    fn wrong(&self, uri: &str, source: &Source, why: impl Into<String>) -> Error {
        let what = format!("{} {}", net::shown(uri), source.suite);
        Error::Release { what, why: why.into() }
    }

    fn is_wanted(&self, source: &Source, path: &str) -> bool {
        source.components.iter().any(|component| {
            let rest =
                path.strip_prefix(component.as_str()).and_then(|p| p.strip_prefix("/binary-"));
            let Some((architecture, file)) = rest.and_then(|rest| rest.split_once('/')) else {
                return false;
            };
            (architecture == self.architecture || architecture == "all")
                && file.starts_with("Packages")
        })
    }

    /// The release of a source: signed by whom we believe, of this suite, of our time.
    fn release(&self, source: &Source, uri: &str) -> Result<Release> {
        let key = Digest::sha256(format!("{uri} {}", source.suite).as_bytes()).hex().to_owned();
        let known = self.cache.release(&key)?;
        // A release that was good is good no longer when its key or its time is not.
        let known = known.and_then(|known| {
            let release = self.read_inline(source, uri, &known.bytes).ok()?;
            Some((known, release))
        });
        let stamp = known.as_ref().map(|(known, _)| known.stamp.clone()).unwrap_or_default();
        let url = format!("{uri}/dists/{}/InRelease", source.suite);
        match self.net.get_bytes(&url, RELEASE_BYTES_MAX, stamp)? {
            Some((_, Got::Unchanged)) => match known {
                Some((_, release)) => Ok(release),
                None => Err(self.wrong(uri, source, "it says \"unchanged\" of nothing")),
            },
            Some((bytes, Got::Whole(stamp))) => {
                let release = self.read_inline(source, uri, &bytes)?;
                match known {
                    // An older one than before is no news: a mirror that lags, or worse.
                    Some((_, newer)) if newer.date > release.date => Ok(newer),
                    Some((KnownRelease { bytes: old, stamp: old_stamp }, _))
                        if old == bytes && old_stamp == stamp =>
                    {
                        Ok(release)
                    }
                    _ => {
                        self.cache.set_release(&key, &bytes, &stamp)?;
                        Ok(release)
                    }
                }
            }
            None => self.detached(source, uri),
        }
    }

    /// A release in whose text the signature is.
    fn read_inline(&self, source: &Source, uri: &str, bytes: &[u8]) -> Result<Release> {
        let unsigned = |why: openpgp::PgpError| Error::Unsigned {
            what: format!("{} {}", net::shown(uri), source.suite),
            why,
        };
        let text = match openpgp::split(bytes) {
            Ok(signed) => {
                if !source.trusted {
                    let keyring = self.keyring(source, uri)?;
                    keyring.verify_clear(&signed, self.clock()).map_err(unsigned)?;
                }
                signed.text
            }
            Err(_) if source.trusted => String::from_utf8_lossy(bytes).into_owned(),
            Err(why) => return Err(unsigned(why)),
        };
        self.parse(source, uri, &text)
    }

    /// A release beside its signature, where there is no `InRelease`.
    fn detached(&self, source: &Source, uri: &str) -> Result<Release> {
        let base = format!("{uri}/dists/{}/Release", source.suite);
        let get = |url: &str| self.net.get_bytes(url, RELEASE_BYTES_MAX, Stamp::default());
        let Some((text, _)) = get(&base)? else {
            let why = format!("there is neither {base} nor InRelease: is there such a suite?");
            return Err(self.wrong(uri, source, why));
        };
        if !source.trusted {
            let unsigned = |why| Error::Unsigned {
                what: format!("{} {}", net::shown(uri), source.suite),
                why,
            };
            let Some((signature, _)) = get(&format!("{base}.gpg"))? else {
                return Err(unsigned(openpgp::PgpError::Unsigned));
            };
            let keyring = self.keyring(source, uri)?;
            keyring.verify(&text, &signature, self.clock()).map_err(unsigned)?;
        }
        self.parse(source, uri, &String::from_utf8_lossy(&text))
    }

    fn parse(&self, source: &Source, uri: &str, text: &str) -> Result<Release> {
        let wrong = |why| self.wrong(uri, source, why);
        let release = Release::parse(text, |path| self.is_wanted(source, path)).map_err(wrong)?;
        release.check(source, self.dates).map_err(wrong)?;
        Ok(release)
    }

    fn keyring(&self, source: &Source, uri: &str) -> Result<Keyring> {
        let keyring = self.sources.keyring(source)?;
        match keyring.is_empty() {
            true => Err(self.wrong(uri, source, "there is no keyring to verify it with: give one")),
            false => Ok(keyring),
        }
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.dates.now).unwrap_or_default()
    }

    /// An index, from the cache or fetched, verified and made short.
    fn index(
        &self,
        source: &Source,
        uri: &str,
        release: &Release,
        component: &str,
        architecture: &str,
    ) -> Result<Index> {
        let base = format!("{component}/binary-{architecture}/Packages");
        let listed: Vec<(String, &Listed)> = COMPRESSIONS
            .iter()
            .filter_map(|compression| {
                let path = format!("{base}{compression}");
                release.files.get(&path).map(|listed| (path, listed))
            })
            .collect();
        let Some((_, best)) = listed.first() else {
            let why = format!("its release has no index {base}: is {component} a component of it?");
            return Err(self.wrong(uri, source, why));
        };
        // Two architectures may share an index of `all`, of which each keeps the same.
        let name = format!("{}-{}", best.digest.hex(), self.architecture);
        let short = self.cache.path(Part::Index, &name);
        if let Some(index) = Index::load(&short)? {
            touch(&short);
            return Ok(index);
        }
        // One makes it, and all who wanted it have it.
        let _alone = self.cache.lock(&name)?;
        if let Some(index) = Index::load(&short)? {
            return Ok(index);
        }
        let what = net::shown(&format!("{uri}/dists/{}/{base}", source.suite));
        // Not all that are listed need to be there.
        let mut file = None;
        for (path, listed) in &listed {
            file = self.fetch(source, uri, release, path, listed)?;
            if file.is_some() {
                break;
            }
        }
        let Some(file) = file else {
            return Err(Error::Fetch { what, why: "it is not there, however compressed".into() });
        };
        // An index that does not say how large it becomes is bounded by a ratio no honest one has.
        let whole = release.files.get(&base).map_or(best.size.saturating_mul(100), |l| l.size);
        let bytes_max = whole.min(INDEX_BYTES_MAX);
        let made = self.cache.write_with(Part::Index, &name, |out| {
            let why = index::shorten_file(&file, bytes_max, self.architecture, out);
            why.map_err(|e| Error::Fetch { what: what.clone(), why: e.to_string() })
        });
        fs::remove_file(&file).map_err(|e| Error::io("unlink", &file, e))?;
        made?;
        Index::load(&short)?.ok_or_else(|| Error::Fetch {
            what: short.display().to_string(),
            why: "what was just written cannot be read".into(),
        })
    }

    /// Fetches an index by its digest, or else by its name; `None` where it is not there.
    fn fetch(
        &self,
        source: &Source,
        uri: &str,
        release: &Release,
        path: &str,
        listed: &Listed,
    ) -> Result<Option<PathBuf>> {
        let Listed { digest, size } = listed;
        let at = format!("{uri}/dists/{}", source.suite);
        let by_name = format!("{at}/{path}");
        let what = net::shown(&by_name);
        if *size > INDEX_BYTES_MAX {
            let why = format!("it has {size} bytes, more than {INDEX_BYTES_MAX}");
            return Err(Error::Fetch { what, why });
        }
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let by_hash = format!("{at}/{dir}/by-hash/SHA256/{}", digest.hex());
        let use_hash = source.by_hash.unwrap_or(release.by_hash);
        let urls = if use_hash { vec![by_hash, by_name] } else { vec![by_name] };
        let mut is_absent = false;
        let fetched = self.cache.ensure(Part::Pool, digest, *size, &what, |from, sink| {
            for url in &urls {
                let wanted = Wanted {
                    url,
                    from,
                    size: Some(*size),
                    bytes_max: INDEX_BYTES_MAX,
                    unless: Stamp::default(),
                    digest: Some(digest),
                };
                if self.net.get(&wanted, sink)?.is_some() {
                    return Ok(());
                }
            }
            is_absent = true;
            Err(Error::Fetch { what: what.clone(), why: "it is not there".into() })
        });
        match fetched {
            Err(_) if is_absent => Ok(None),
            fetched => fetched.map(Some),
        }
    }
}

/// Marks a file as used, for `Cache::prune`; a cache that may only be read is as good.
fn touch(path: &Path) {
    if let Ok(file) = fs::File::open(path) {
        file.set_modified(std::time::SystemTime::now()).ok();
    }
}
