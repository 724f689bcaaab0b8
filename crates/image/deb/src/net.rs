//! Files of archives: over HTTP, of this machine, or by apt.

mod apt;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use hako_oci::Digest;
use hako_remote::{Config, Files, Get, Got, Stamp};

use crate::{Error, Result, Settings, Sources, sources};

const BUFFER_BYTES: usize = 256 << 10;
const AUTH_BYTES_MAX: u64 = 1 << 20;

/// The way to archives. Connections are made when the first is needed.
#[derive(Debug)]
pub struct Net {
    method: Method,
    settings: Settings,
    logins: Vec<Login>,
    files: OnceLock<Files>,
}

/// A name and password for a host, and paths on it that begin so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Login {
    scheme: String,
    place: String,
    name: String,
    password: String,
}

/// A file that is wanted.
pub(crate) struct Wanted<'a> {
    pub url: &'a str,
    pub from: u64,
    pub size: Option<u64>,
    pub bytes_max: u64,
    pub unless: Stamp,
    /// Its SHA-256, where that is known. Who gets the bytes checks it all the same.
    pub digest: Option<&'a Digest>,
}

/// Who fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// hako itself: `http`, `https`, `file` and `copy`.
    #[default]
    Direct,
    /// apt's own methods, with all that is configured for them: transports, credentials,
    /// certificates, proxies that are found out.
    Apt,
}

/// Takes bytes in order.
pub(crate) type Sink<'s> = dyn FnMut(&[u8]) -> Result<()> + Send + 's;

impl Net {
    /// With the machine's proxies and credentials; `root` is where apt's files are.
    pub fn new(method: Method, settings: &Settings, root: &Path) -> Result<Net> {
        let dir = root.join("etc/apt");
        let mut files = vec![dir.join("auth.conf")];
        files.extend(sources::files_in(&dir.join("auth.conf.d"), &[".conf"])?);
        let mut logins = Vec::new();
        for path in files {
            match sources::read(&path, AUTH_BYTES_MAX) {
                Ok(bytes) => logins.extend(read_logins(&String::from_utf8_lossy(&bytes))),
                // Root's secrets are not for everybody.
                Err(Error::Io { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Net { method, settings: settings.clone(), logins, files: OnceLock::new() })
    }

    /// With names and passwords that stand in the addresses of sources.
    pub fn with_logins_of(mut self, sources: &Sources) -> Net {
        for source in &sources.sources {
            if let (url, Some((name, password))) = without_login(&source.uri)
                && let Some((scheme, place)) = url.split_once("://")
            {
                let (scheme, place) = (scheme.to_owned(), place.trim_end_matches('/').to_owned());
                self.logins.push(Login { scheme, place, name, password });
            }
        }
        self
    }

    fn files(&self) -> Result<&Files> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let (http, https) = (&self.settings.http_proxy, &self.settings.https_proxy);
        let config = Config::from_env()?.with_proxies(http.as_deref(), https.as_deref())?;
        let files = Files::open(config)?;
        Ok(self.files.get_or_init(|| files))
    }

    /// Fetches a file: the sink gets its bytes in order. `None` where it is not there.
    pub(crate) fn get(&self, wanted: &Wanted<'_>, sink: &mut Sink<'_>) -> Result<Option<Got>> {
        if let Some(path) = local(wanted.url) {
            return read_local(&path, wanted, sink);
        }
        if self.method == Method::Apt {
            return apt::get(wanted, sink);
        }
        let (url, mut login) = without_login(wanted.url);
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Error::Scheme(url));
        }
        if login.is_none() {
            login = self.login(&url);
        }
        let get = Get {
            url,
            login,
            from: wanted.from,
            size: wanted.size,
            bytes_max: wanted.bytes_max,
            unless: wanted.unless.clone(),
        };
        // Ours goes through as it is.
        let mut own = None;
        let got = self.files()?.get(&get, &mut |bytes| {
            sink(bytes).map_err(|e| {
                own = Some(e);
                io::Error::other("").into()
            })
        });
        match (got, own) {
            (_, Some(error)) => Err(error),
            (Ok(got), _) => Ok(Some(got)),
            (Err(e), _) if e.is_absent() => Ok(None),
            (Err(e), _) => Err(e.into()),
        }
    }

    /// The whole of a small file; `None` where it is not there.
    pub(crate) fn get_bytes(
        &self,
        url: &str,
        bytes_max: u64,
        unless: Stamp,
    ) -> Result<Option<(Vec<u8>, Got)>> {
        let mut bytes = Vec::new();
        let wanted = Wanted { url, from: 0, size: None, bytes_max, unless, digest: None };
        let got = self.get(&wanted, &mut |more| {
            bytes.extend_from_slice(more);
            Ok(())
        })?;
        Ok(got.map(|got| (bytes, got)))
    }

    /// The longest place that the address is in, as apt_auth.conf(5) has it.
    fn login(&self, url: &str) -> Option<(String, String)> {
        let (scheme, place) = url.split_once("://")?;
        let is_in = |login: &&Login| {
            let rest = place.strip_prefix(login.place.as_str());
            login.scheme == scheme
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
        };
        let login = self.logins.iter().filter(is_in).max_by_key(|login| login.place.len())?;
        Some((login.name.clone(), login.password.clone()))
    }
}

/// For the fuzzer: all that is read of addresses and credentials.
pub(crate) fn read_words(text: &str) {
    let _logins = read_logins(text);
    let (bare, login) = without_login(text);
    assert!(login.is_none() || !bare.is_empty());
    let _path = local(text);
}

/// `machine HOST login NAME password WORD`, all of them words in a row, as in a netrc. A host
/// without a scheme is meant with TLS only.
fn read_logins(text: &str) -> Vec<Login> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let mut words = lines.flat_map(str::split_ascii_whitespace);
    let mut logins: Vec<Login> = Vec::new();
    while let Some(word) = words.next() {
        let Some(value) = words.next() else { break };
        match (word, logins.last_mut()) {
            ("machine", _) => {
                let (scheme, place) = value.split_once("://").unwrap_or(("https", value));
                let place = place.trim_end_matches('/').to_owned();
                logins.push(Login { scheme: scheme.into(), place, ..Login::default() });
            }
            ("login", Some(login)) => login.name = value.into(),
            ("password", Some(login)) => login.password = value.into(),
            _ => {}
        }
    }
    logins
}

/// The path of `file:/a`, `file:///a` and `copy:/a`.
fn local(url: &str) -> Option<PathBuf> {
    let path = url.strip_prefix("file:").or_else(|| url.strip_prefix("copy:"))?;
    let path = path.strip_prefix("//").unwrap_or(path);
    path.starts_with('/').then(|| path.into())
}

fn read_local(path: &Path, wanted: &Wanted<'_>, sink: &mut Sink<'_>) -> Result<Option<Got>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|e| Error::io("open", path, e))?,
    };
    let failed = |call| move |e| Error::io(call, path, e);
    let metadata = file.metadata().map_err(failed("stat"))?;
    let wrong_size = wanted.size.is_some_and(|size| size != metadata.len());
    if !metadata.is_file() || wrong_size || metadata.len() > wanted.bytes_max {
        let why = match metadata.is_file() {
            true => format!("it has {} bytes, which is not what is wanted", metadata.len()),
            false => "it is no file".into(),
        };
        return Err(Error::io("read", path, io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    file.seek(SeekFrom::Start(wanted.from)).map_err(failed("seek"))?;
    let mut file = file.take(wanted.bytes_max.saturating_sub(wanted.from));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(Got::Whole(Stamp::default()))),
            Ok(n) => sink(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed("read")(e)),
        }
    }
}

/// An address without the name and password that stand in it.
fn without_login(url: &str) -> (String, Option<(String, String)>) {
    let whole = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("://") else { return whole() };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some((login, _)) = rest[..end].rsplit_once('@') else { return whole() };
    let (name, password) = login.split_once(':').unwrap_or((login, ""));
    let bare = format!("{scheme}://{}", &rest[login.len() + 1..]);
    (bare, Some((name.to_owned(), password.to_owned())))
}

/// An address as people may see it: without a password.
pub(crate) fn shown(url: &str) -> String {
    without_login(url).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials() {
        let text = "# secrets\nmachine a.example login me\npassword x\n\
                    machine http://b.example/debian login you password y\n";
        let net = Net {
            method: Method::Direct,
            settings: Settings::default(),
            logins: read_logins(text),
            files: OnceLock::new(),
        };
        let cases = [
            ("https://a.example/x", Some("me")),
            ("https://a.example:8443/x", Some("me")),
            ("http://a.example/x", None),
            ("https://a.example.org/x", None),
            ("http://b.example/debian/dists", Some("you")),
            ("http://b.example/other", None),
        ];
        for (url, want) in cases {
            assert_eq!(net.login(url).map(|(name, _)| name).as_deref(), want, "{url}");
        }
        let (url, login) = without_login("https://u:p@a.example/x@y");
        assert_eq!((url.as_str(), login.unwrap().1.as_str()), ("https://a.example/x@y", "p"));
        assert_eq!(shown("http://a.example/x@y"), "http://a.example/x@y");
    }

    #[test]
    fn files_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "hello").unwrap();
        let net = Net::new(Method::Direct, &Settings::default(), dir.path()).unwrap();
        let get = |url: &str| net.get_bytes(url, 10, Stamp::default());
        for url in [format!("file:{}", path.display()), format!("copy://{}", path.display())] {
            assert_eq!(get(&url).unwrap().unwrap().0, b"hello");
        }
        assert!(get(&format!("file:{}/none", dir.path().display())).unwrap().is_none());
        assert!(get(&format!("file:{}", dir.path().display())).is_err());
        assert!(net.get_bytes(&format!("file:{}", path.display()), 4, Stamp::default()).is_err());
        assert!(matches!(get("tor+http://a/x"), Err(Error::Scheme(_))));
    }
}
