//! Debian's docker-registry as the other side, and skopeo as another client of it.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use hako_tests::{
    Case,
    archive::sha256,
    binary, command,
    image::{Image, pack},
    place::Place,
};

use crate::Client;

const PEERS: &str = "issue: peers";

/// A docker-registry on a port of its own; ends with the test.
struct Peer {
    child: Child,
    host: String,
    _place: Place,
}

impl Peer {
    fn start() -> Peer {
        Peer::with("")
    }

    /// One that speaks TLS, with a certificate that it signed itself; gives that, too.
    fn with_tls() -> (Peer, Place) {
        let place = Place::new("certificate");
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| place.join(name));
        let mut openssl = Command::new(binary::tool("openssl"));
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]);
        openssl.args(["-subj", "/CN=localhost"]);
        openssl.args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        command::run(&mut openssl).exits(0);
        let (certificate, key) = (certificate.display(), key.display());
        let peer = Peer::with(&format!(", tls: {{certificate: {certificate}, key: {key}}}"));
        (peer, place)
    }

    fn with(tls: &str) -> Peer {
        let program = binary::tool("docker-registry");
        let place = Place::new("docker-registry");
        // A port that was free just now; the sandbox has a network of its own.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let host = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let storage = place.directory("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{host}\"{tls}}}\n",
            storage.display()
        );
        let config = place.write("config.yml", text);
        let log = fs::File::create(place.join("log")).expect("our own file");
        let child = Command::new(program)
            .arg("serve")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("our own file"))
            .stderr(log)
            .spawn()
            .expect("it starts");
        let peer = Peer { child, host, _place: place };
        command::wait_until("docker-registry answers", || {
            std::net::TcpStream::connect(&peer.host).is_ok()
        });
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn skopeo(words: &[&str]) -> command::Output {
    let mut command = Command::new(binary::tool("skopeo"));
    // Its policy is the machine's; a machine without one cannot tell us anything.
    command.arg("--insecure-policy").args(words);
    command::run(&mut command)
}

/// All blobs of a layout directory that skopeo wrote, with their bytes.
fn blobs(layout: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut blobs: Vec<(String, Vec<u8>)> = fs::read_dir(layout.join("blobs/sha256"))
        .expect("a layout")
        .map(|entry| entry.expect("a blob").path())
        .map(|path| {
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("our own file"))
        })
        .collect();
    blobs.sort();
    blobs
}

fn app(gzip: bool) -> Image {
    let mut image = Image::busybox("app:1");
    image.gzip = gzip;
    image
}

pub(crate) const CASES: &[Case] = &[
    Case::new("peer-push-is-exact", PEERS, "skopeo reads what hako pushed, byte by byte", || {
        let (client, peer) = (Client::new(), Peer::start());
        let archive = client.hako.place().write("app.tar", pack(&app(true).oci_layout()));
        client.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        let name = format!("{}/team/app:1", peer.host);
        client.call(&["tag", "app:1", &name]).ok();
        client.call(&["push", "-q", &name]).ok();
        let layout = client.hako.place().join("layout");
        let to = format!("oci:{}:app", layout.display());
        let from = format!("docker://{name}");
        skopeo(&["copy", "-q", "--src-tls-verify=false", &from, &to]).ok();
        let found = blobs(&layout);
        let want: Vec<(String, Vec<u8>)> = app(true)
            .oci_layout()
            .into_iter()
            .filter_map(|(path, bytes)| path.starts_with("blobs/").then(|| (sha256(&bytes), bytes)))
            .collect();
        assert_eq!(found.len(), want.len());
        for (name, bytes) in want {
            assert!(found.contains(&(name.clone(), bytes)), "{name} is not as it was");
        }
    }),
    Case::new("peer-pull-is-exact", PEERS, "hako pulls what skopeo pushed, digests kept", || {
        let (client, peer) = (Client::new(), Peer::start());
        let archive = client.hako.place().write("app.tar", pack(&app(true).oci_layout()));
        let name = format!("{}/app:1", peer.host);
        let from = format!("oci-archive:{}", archive.display());
        let to = format!("docker://{name}");
        skopeo(&["copy", "-q", "--dest-tls-verify=false", &from, &to]).ok();
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &to]);
        let digest = format!("sha256:{}", sha256(raw.ok().as_bytes()));
        client.call(&["pull", &name]).says(&format!("Digest: {digest}"));
        client.call(&["images", "--digests", "--no-trunc"]).says(&digest).says(&app(true).id());
        client.call(&["run", "--rm", &name, "cat", "/etc/os-release"]).says("hako-test");
    }),
    Case::new(
        "peer-tls",
        "docker certificates",
        "certificates are believed by their directory",
        || {
            let (client, (peer, certificate)) = (Client::new(), Peer::with_tls());
            let archive = client.hako.place().write("app.tar", pack(&app(true).oci_layout()));
            client.call(&["load", "-q", "-i", &archive.to_string_lossy()]).ok();
            // On this machine, as with Docker, TLS without a known certificate does.
            let near = format!("{}/app:1", peer.host);
            client.call(&["tag", "app:1", &near]).ok();
            client.call(&["push", "-q", &near]).ok();
            client.call(&["rmi", &near]).ok();
            client.call(&["pull", "-q", &near]).ok();
            // Anywhere else it does not.
            let hosts = ".config/containers/certs.d/example.test/hosts.toml";
            client.write(hosts, &format!("server = \"https://{}\"\n", peer.host));
            let far = "example.test/app:1";
            client
                .call(&["pull", far])
                .exits(1)
                .complains("x509: certificate signed by unknown authority");
            // Neither the certificate of somebody else.
            let certificate =
                fs::read_to_string(certificate.join("cert.pem")).expect("it was made");
            let (_other, other) = Peer::with_tls();
            let other = fs::read_to_string(other.join("cert.pem")).expect("it was made");
            let named = format!(".config/containers/certs.d/{}/ca.crt", peer.host);
            client.write(&named, &other);
            client.call(&["pull", far]).exits(1).complains("x509: ");
            client.call(&["pull", &near]).exits(1).complains("x509: ");
            client.write(&named, &certificate);
            client.call(&["pull", "-q", far]).ok();
            client.call(&["pull", "-q", &near]).ok();
        },
    ),
];
