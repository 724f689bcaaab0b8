//! Debian packages and archives for tests: made byte by byte, signed with a key of the test's own.
//!
//! The OpenPGP here shares no code with hako's: gpgv takes what it signs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};

use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};

use crate::{
    archive::{Entry, gzip, sha256, tar},
    registry::{Registry, Reply, Request, ranged},
    skip,
};

/// When test keys and signatures were made: the first of January 2024.
const MADE: u32 = 1_704_067_200;

/// A binary package.
#[derive(Debug, Clone)]
pub struct Deb {
    fields: Vec<(String, String)>,
    files: Vec<Entry>,
    control: Vec<Entry>,
}

impl Deb {
    /// A package for all architectures, with nothing in it.
    pub fn new(name: &str, version: &str) -> Deb {
        let fields = [
            ("Package", name),
            ("Version", version),
            ("Architecture", "all"),
            ("Maintainer", "Nobody <nobody@test.example>"),
            ("Description", "a test's"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Deb { fields: fields.map(owned).to_vec(), files: Vec::new(), control: Vec::new() }
    }

    /// The same with this field, in place of one of that name.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Deb {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The same with this among its files; names begin with `./`.
    #[must_use]
    pub fn file(mut self, entry: Entry) -> Deb {
        self.files.push(entry);
        self
    }

    /// The same with a script or another file beside its control file.
    #[must_use]
    pub fn script(mut self, name: &str, text: &str) -> Deb {
        self.control.push(Entry::file(&format!("./{name}"), 0o755, text));
        self
    }

    /// Its control file.
    pub fn control(&self) -> String {
        self.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect()
    }

    /// The package.
    pub fn bytes(&self) -> Vec<u8> {
        let mut control = vec![Entry::directory("./", 0o755)];
        control.push(Entry::file("./control", 0o644, self.control()));
        control.extend(self.control.iter().cloned());
        let mut files = vec![Entry::directory("./", 0o755)];
        files.extend(self.files.iter().cloned());
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", &gzip(&tar(&control))),
            ("data.tar.gz", &gzip(&tar(&files))),
        ])
    }

    fn value(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// An `ar` archive.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in members {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len());
        bytes.extend(header.bytes());
        bytes.extend_from_slice(content);
        bytes.extend(std::iter::repeat_n(b'\n', content.len() % 2));
    }
    bytes
}

/// A key that signs archives: Ed25519, as OpenPGP has it since GnuPG 2.1.
pub struct Key {
    pair: Ed25519KeyPair,
}

impl Key {
    /// The key of a seed: different ones are different keys.
    pub fn new(seed: u8) -> Key {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]);
        Key { pair: pair.expect("32 bytes are a seed") }
    }

    /// The keyring file.
    pub fn keyring(&self) -> Vec<u8> {
        let name = b"Test <test@test.example>";
        let mut bytes = packet(6, &self.body());
        bytes.extend(packet(13, name));
        let mut about = self.hashed_body();
        about.push(0xb4);
        about.extend((name.len() as u32).to_be_bytes());
        about.extend(name);
        // That it may certify and sign.
        bytes.extend(self.signature(0x13, &about, &[&[27, 3]]));
        bytes
    }

    /// A file that is signed in the clear, as `InRelease`. No line of it may begin with a dash.
    pub fn sign_clear(&self, text: &str) -> String {
        let canonical: Vec<&str> =
            text.trim_end_matches('\n').split('\n').map(str::trim_end).collect();
        let signature = self.signature(0x01, canonical.join("\r\n").as_bytes(), &[]);
        let text = text.trim_end_matches('\n');
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}\n{}",
            armor("SIGNATURE", &signature)
        )
    }

    /// A signature beside its file, as `Release.gpg`.
    pub fn sign(&self, content: &[u8]) -> String {
        armor("SIGNATURE", &self.signature(0x00, content, &[]))
    }

    fn body(&self) -> Vec<u8> {
        let mut body = vec![4];
        body.extend(MADE.to_be_bytes());
        body.extend([22, 9, 0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01]);
        // A number of 263 bits: the point in its native form.
        body.extend([0x01, 0x07, 0x40]);
        body.extend(self.pair.public_key().as_ref());
        body
    }

    fn hashed_body(&self) -> Vec<u8> {
        let body = self.body();
        let mut bytes = vec![0x99];
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn signature(&self, kind: u8, content: &[u8], more: &[&[u8]]) -> Vec<u8> {
        let fingerprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.hashed_body());
        let mut hashed = subpacket(2, &MADE.to_be_bytes());
        hashed.extend(subpacket(33, &[&[4], fingerprint.as_ref()].concat()));
        for more in more {
            hashed.extend(subpacket(more[0], &more[1..]));
        }
        let mut body = vec![4, kind, 22, 8];
        body.extend((hashed.len() as u16).to_be_bytes());
        body.extend(hashed);
        let mut text = content.to_vec();
        text.extend(&body);
        text.extend([4, 0xff]);
        text.extend((body.len() as u32).to_be_bytes());
        let hash = digest::digest(&digest::SHA256, &text);
        let signed = self.pair.sign(hash.as_ref());
        let unhashed = subpacket(16, &fingerprint.as_ref()[12..]);
        body.extend((unhashed.len() as u16).to_be_bytes());
        body.extend(unhashed);
        body.extend(&hash.as_ref()[..2]);
        for half in signed.as_ref().chunks(32) {
            body.extend(number(half));
        }
        packet(2, &body)
    }
}

fn subpacket(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[content.len() as u8 + 1, kind], content].concat()
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xc0 | tag, 0xff];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn number(bytes: &[u8]) -> Vec<u8> {
    let bytes: Vec<u8> = bytes.iter().copied().skip_while(|b| *b == 0).collect();
    let bits = bytes.first().map_or(0, |b| bytes.len() * 8 - b.leading_zeros() as usize);
    [&(bits as u16).to_be_bytes(), &bytes[..]].concat()
}

fn armor(kind: &str, bytes: &[u8]) -> String {
    let mut text = format!("-----BEGIN PGP {kind}-----\n\n");
    for line in bytes.chunks(48) {
        text += &base64(line);
        text.push('\n');
    }
    // Old programs find the end by the checksum.
    let crc = bytes.iter().fold(0x00b7_04ce_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 16, |crc, _| {
            let next = crc << 1;
            if next & 0x0100_0000 == 0 { next } else { next ^ 0x0186_4cfb }
        })
    });
    text + &format!("={}\n-----END PGP {kind}-----\n", base64(&crc.to_be_bytes()[1..]))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b));
        let bits = bits << (8 * (3 - group.len()));
        for n in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize];
            text.push(if n > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// The files of an archive, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A suite of an archive, with one component, `main`.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Fields of its release before the digests; what is changed here is signed.
    pub fields: Vec<(String, String)>,
    /// Paragraphs of `Packages`, by architecture.
    pub packages: BTreeMap<String, String>,
    pool: Files,
}

impl Suite {
    /// An empty one for amd64 and arm64, made a year after the test's keys.
    pub fn new(name: &str) -> Suite {
        let fields = [
            ("Suite", name),
            ("Codename", name),
            ("Date", "Wed, 01 Jan 2025 00:00:00 UTC"),
            ("Acquire-By-Hash", "yes"),
            ("Architectures", "all amd64 arm64"),
            ("Components", "main"),
            ("No-Support-for-Architecture-all", "Packages"),
        ];
        let packages = ["amd64", "arm64"].map(|architecture| (architecture.into(), String::new()));
        Suite {
            name: name.into(),
            fields: fields.map(|(name, value)| (name.into(), value.into())).to_vec(),
            packages: packages.into(),
            pool: Files::new(),
        }
    }

    /// The same with this field in its release; an empty one is none.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Suite {
        self.fields.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.fields.push((name.into(), value.into()));
        }
        self
    }

    /// The same with this package.
    #[must_use]
    pub fn with(mut self, deb: &Deb) -> Suite {
        let (name, version) = (deb.value("Package"), deb.value("Version"));
        let file = format!("{name}_{version}_{}.deb", deb.value("Architecture"));
        self.add(&deb.control(), deb.value("Architecture"), &file, deb.bytes());
        self
    }

    /// The same with the packages of these files, whose control files dpkg-deb reads.
    #[must_use]
    pub fn with_files(mut self, files: &[PathBuf]) -> Suite {
        for path in files {
            let output = Command::new("dpkg-deb").arg("--field").arg(path).output();
            let output = output.unwrap_or_else(|e| skip!("dpkg-deb: {e}"));
            assert!(output.status.success(), "dpkg-deb: {}", path.display());
            let control = String::from_utf8(output.stdout).expect("control files are text");
            let architecture = control.lines().find_map(|l| l.strip_prefix("Architecture: "));
            let architecture = architecture.expect("packages have an architecture").to_owned();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let bytes = fs::read(path).expect("it was downloaded");
            self.add(&control, &architecture, &name, bytes);
        }
        self
    }

    fn add(&mut self, control: &str, architecture: &str, file: &str, bytes: Vec<u8>) {
        let path = format!("pool/main/{file}");
        let paragraph = format!(
            "{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
            bytes.len(),
            sha256(&bytes)
        );
        for (known, packages) in &mut self.packages {
            if architecture == "all" || architecture == known {
                packages.push_str(&paragraph);
            }
        }
        self.pool.insert(path, bytes);
    }

    /// The archive's files, signed with `key`: `InRelease`, indexes in gzip, packages.
    pub fn files(&self, key: &Key) -> Files {
        let dir = format!("dists/{}", self.name);
        let mut files = self.pool.clone();
        let mut list = String::new();
        for (architecture, packages) in &self.packages {
            let plain = format!("main/binary-{architecture}/Packages");
            let packed = gzip(packages.as_bytes());
            let hash = sha256(&packed);
            for (path, bytes) in
                [(plain.clone(), packages.as_bytes()), (plain + ".gz", &packed[..])]
            {
                list += &format!(" {} {} {path}\n", sha256(bytes), bytes.len());
                files.insert(format!("{dir}/{path}"), bytes.to_vec());
            }
            files.insert(format!("{dir}/main/binary-{architecture}/by-hash/SHA256/{hash}"), packed);
        }
        let fields: String = self.fields.iter().map(|(n, v)| format!("{n}: {v}\n")).collect();
        let release = format!("{fields}SHA256:\n{list}");
        files.insert(format!("{dir}/InRelease"), key.sign_clear(&release).into_bytes());
        files.insert(format!("{dir}/Release.gpg"), key.sign(release.as_bytes()).into_bytes());
        files.insert(format!("{dir}/Release"), release.into_bytes());
        files
    }
}

/// The files of several suites at one address.
pub fn together(suites: &[&Suite], key: &Key) -> Files {
    suites.iter().flat_map(|suite| suite.files(key)).collect()
}

/// Writes files below a directory, as a `file:` source has them.
pub fn write(files: &Files, dir: &Path) {
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("it is below")).expect("mkdir");
        fs::write(path, bytes).expect("write");
    }
}

/// An archive on loopback, whose files can change.
pub struct Mirror {
    /// The server; it has seen all requests.
    pub server: Registry,
    /// What it serves.
    pub files: Arc<Mutex<Files>>,
}

impl Mirror {
    /// Serves files: with ranges, and with an `ETag` by which it can say that nothing changed.
    pub fn start(files: Files) -> Mirror {
        Mirror::start_with(files, |_, honest| honest)
    }

    /// The same, but what is answered is this function's: it gets the honest answer.
    pub fn start_with(
        files: Files,
        answer: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Mirror {
        let files = Arc::new(Mutex::new(files));
        let served = Arc::clone(&files);
        let server = Registry::start(move |request| {
            let files = served.lock().unwrap_or_else(PoisonError::into_inner);
            let path = request.path().trim_start_matches('/');
            let honest = match files.get(path) {
                None => Reply::new(404, "not found"),
                Some(bytes) => {
                    let etag = format!("\"{}\"", sha256(bytes));
                    match request.header("if-none-match") == Some(&etag) {
                        true => Reply::new(304, ""),
                        false => ranged(request, bytes).header("ETag", etag),
                    }
                }
            };
            answer(request, honest)
        });
        Mirror { server, files }
    }

    /// Its address.
    pub fn uri(&self) -> String {
        format!("http://{}", self.server.host())
    }

    /// Serves these from now on.
    pub fn replace(&self, files: Files) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
    }
}

/// Packages that apt fetches, into `dir`, which keeps them for other tests. Skips the test where
/// apt cannot.
pub fn download(names: &[&str], dir: &Path) -> Vec<PathBuf> {
    fs::create_dir_all(dir).expect("mkdir");
    let found = |name: &str| {
        let entries = fs::read_dir(dir).expect("readdir").flatten().map(|entry| entry.path());
        let start = format!("{name}_");
        let is_it = |path: &PathBuf| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start))
                && path.extension().is_some_and(|e| e == "deb")
        };
        entries.into_iter().find(is_it)
    };
    let missing: Vec<&&str> = names.iter().filter(|name| found(name).is_none()).collect();
    if !missing.is_empty() {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "APT::Sandbox::User=", "download"]).args(missing);
        match command.current_dir(dir).output() {
            Err(e) => skip!("apt-get: {e}"),
            Ok(output) if !output.status.success() => {
                skip!("apt-get download: {}", String::from_utf8_lossy(&output.stderr).trim())
            }
            Ok(_) => {}
        }
    }
    names.iter().map(|name| found(name).unwrap_or_else(|| skip!("apt gave no {name}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpgv_and_dpkg_take_what_is_made() {
        let dir = std::env::temp_dir().join(format!("hako-debian-{}", std::process::id()));
        let key = Key::new(1);
        let deb = Deb::new("a", "1").file(Entry::file("./etc/a", 0o644, "hello"));
        write(&Suite::new("test").with(&deb).files(&key), &dir);
        fs::write(dir.join("key.gpg"), key.keyring()).unwrap();
        let run = |program: &str, args: &[&str]| match Command::new(program)
            .args(args)
            .current_dir(&dir)
            .output()
        {
            Err(e) => println!("SKIP gpgv_and_dpkg_take_what_is_made: {program}: {e}"),
            Ok(output) => {
                let words = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{program} {args:?}: {words}");
            }
        };
        let ring = dir.join("key.gpg");
        let ring = ring.to_string_lossy();
        run("gpgv", &["--keyring", &ring, "dists/test/InRelease"]);
        run("gpgv", &["--keyring", &ring, "dists/test/Release.gpg", "dists/test/Release"]);
        run("dpkg-deb", &["--contents", "pool/main/a_1_all.deb"]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
