//! The way to a registry: proxies of every kind, and what stops a pull in the middle.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use hako_tests::{
    Case, command,
    registry::{Body, Content, Registry, Reply, Request},
    skip,
};

use crate::{Client, large, serving, with_app};

const PROXY: &str = "issue: proxies";
/// A name that only a proxy can look up.
const NAME: &str = "registry.test";

/// A client that may speak plain HTTP to the registry behind a proxy.
fn client() -> Client {
    let client = Client::new();
    let text = format!("[[registry]]\nlocation = \"{NAME}\"\ninsecure = true\n");
    client.hako.place().write("registries.conf", &text);
    client
}

/// What a proxy of HTTP does: passes on what it is asked for by its whole address.
fn http_proxy(content: Arc<Content>, login: Option<&'static str>) -> Registry {
    Registry::start(move |request| {
        if login.is_some_and(|login| request.header("proxy-authorization") != Some(login)) {
            return Reply::new(407, "who are you?");
        }
        match request.target.strip_prefix(&format!("http://{NAME}")) {
            Some(target) => {
                content.answer(&Request { target: target.to_owned(), ..request.clone() })
            }
            // CONNECT, to where nobody speaks TLS.
            None => Reply::new(502, "nobody there"),
        }
    })
}

/// A SOCKS proxy that leads every name to one place; gives its address and the names it was asked.
fn socks_proxy(to: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("it is bound").to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let names = Arc::clone(&asked);
    // Ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (to, names) = (to.clone(), Arc::clone(&names));
            thread::spawn(move || socks(stream, &to, &names).ok());
        }
    });
    (address, asked)
}

fn socks(mut stream: TcpStream, to: &str, names: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    stream.read_exact(&mut vec![0; usize::from(head[1])])?;
    stream.write_all(&[5, 2])?;
    let mut byte = [0; 1];
    // The version of the login; then name and password.
    stream.read_exact(&mut byte)?;
    for _ in 0..2 {
        stream.read_exact(&mut byte)?;
        let mut text = vec![0; usize::from(byte[0])];
        stream.read_exact(&mut text)?;
        names.lock().expect("ours").push(String::from_utf8_lossy(&text).into_owned());
    }
    stream.write_all(&[1, 0])?;
    let mut question = [0; 5];
    stream.read_exact(&mut question)?;
    let mut name = vec![0; usize::from(question[4]) + 2];
    stream.read_exact(&mut name)?;
    name.truncate(name.len() - 2);
    names.lock().expect("ours").push(String::from_utf8_lossy(&name).into_owned());
    stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])?;
    let other = TcpStream::connect(to)?;
    let (mut from, mut into) = (stream.try_clone()?, other.try_clone()?);
    let back = thread::spawn(move || {
        let (mut other, mut stream) = (other, stream);
        std::io::copy(&mut other, &mut stream).ok();
        stream.shutdown(Shutdown::Both).ok();
    });
    std::io::copy(&mut from, &mut into).ok();
    into.shutdown(Shutdown::Both).ok();
    back.join().ok();
    Ok(())
}

pub(crate) const CASES: &[Case] = &[
    Case::new("proxy-http", PROXY, "requests go through it, with its login", || {
        let client = client();
        let (_, content) = with_app(|_, _| None);
        let proxy = http_proxy(content, Some("Basic bWU6cHc="));
        let pull = |variable: &str, value: &str| {
            let name = format!("{NAME}/app:1");
            let mut command = client.command(&["pull", "-q", &name]);
            command::run(command.env(variable, value))
        };
        let address = format!("http://me:pw@{}", proxy.host());
        pull("ALL_PROXY", &address).prints(&format!("{NAME}/app:1"));
        assert!(proxy.count("CONNECT registry.test:443") > 0, "TLS was tried first");
        assert!(proxy.count("GET http://registry.test/v2/app/") > 0);
        // Without its login, and without the proxy.
        let output = pull("ALL_PROXY", &format!("http://me:wrong@{}", proxy.host()));
        output.exits(1);
        assert!(!output.stderr.contains("wrong"), "no password is shown: {}", output.stderr);
        pull("HAKO_NOTHING", "x").exits(1);
    }),
    Case::new(
        "proxy-none",
        PROXY,
        "NO_PROXY by name, domain and network; never this machine",
        || {
            let client = client();
            let (registry, content) = with_app(|_, _| None);
            let proxy = http_proxy(content, None);
            for direct in [NAME, ".test", "*"] {
                let name = format!("{NAME}/app:1");
                let mut command = client.command(&["pull", "-q", &name]);
                command
                    .env("ALL_PROXY", format!("http://{}", proxy.host()))
                    .env("NO_PROXY", direct);
                command::run(&mut command).exits(1);
            }
            let name = format!("{}/app:1", registry.host());
            let mut command = client.command(&["pull", "-q", &name]);
            command::run(command.env("ALL_PROXY", format!("http://{}", proxy.host()))).ok();
            assert_eq!(proxy.seen().len(), 0);
        },
    ),
    Case::new(
        "proxy-socks",
        PROXY,
        "SOCKS 5 with a login; names are the proxy's to look up",
        || {
            let client = client();
            let (registry, _) = with_app(|_, _| None);
            let (address, asked) = socks_proxy(registry.host());
            let name = format!("{NAME}/app:1");
            let mut command = client.command(&["pull", "-q", &name]);
            command::run(command.env("ALL_PROXY", format!("socks5h://me:p%40ss@{address}"))).ok();
            let asked = asked.lock().expect("ours").clone();
            assert_eq!(asked[..3], ["me", "p@ss", NAME]);
        },
    ),
    Case::new(
        "pull-overlapping",
        "issue: concurrency",
        "each blob is fetched once, by many pulls",
        || {
            let content = Content::default();
            let mut image = large();
            for tag in ["1", "2", "3", "4"] {
                image.config = serde_json::json!({"Labels": {"tag": tag}});
                content.add(&image, "app", tag);
            }
            let (registry, content) = serving(content, |_, _| None);
            let client = Client::new();
            let children: Vec<_> = ["1", "2", "3", "4"]
                .iter()
                .map(|tag| {
                    let name = format!("{}/app:{tag}", registry.host());
                    let mut command = client.command(&["pull", "-q", &name]);
                    command.stdout(std::process::Stdio::null()).spawn().expect("it starts")
                })
                .collect();
            for mut child in children {
                assert!(child.wait().expect("it is ours").success());
            }
            let layer = format!("GET /v2/app/blobs/{}", content.largest());
            assert_eq!(registry.count(&layer), 1);
            assert_eq!(client.call(&["images", "-q"]).ok().lines().count(), 4);
        },
    ),
    Case::new(
        "pull-interrupted",
        "issue: failing well",
        "^C ends it with 130; what came is kept",
        || {
            let (registry, content) =
                serving(Content::of(&large(), "app", "1"), |content, request| {
                    let is_layer = request.path().ends_with(&content.largest());
                    let first = is_layer && request.header("range").is_none();
                    let bytes = content.blob(&content.largest());
                    let half = bytes.len() / 2;
                    first.then(|| {
                        Reply::with(200, Body::Stall(bytes[..half].to_vec(), bytes.len() as u64))
                    })
                });
            let client = Client::new();
            let name = format!("{}/app:1", registry.host());
            let mut command = client.command(&["pull", "-q", &name]);
            let mut child = command.env("HAKO_REGISTRY_TIMEOUT", "60").spawn().expect("it starts");
            let partial = client.hako.root().join("content/partial");
            command::wait_until("half of it came", || {
                let entries = std::fs::read_dir(&partial).into_iter().flatten().flatten();
                entries.filter_map(|e| e.metadata().ok()).any(|m| m.len() > 200_000)
            });
            let mut kill = Command::new("kill");
            command::run(kill.args(["-INT", &child.id().to_string()])).ok();
            let status = child.wait().expect("it is ours");
            // By the signal, or by the code that shells make of it.
            use std::os::unix::process::ExitStatusExt;
            assert!(status.code() == Some(130) || status.signal() == Some(2), "{status}");
            assert_eq!(client.call(&["images", "-q"]).ok(), "");
            client.call(&["pull", "-q", &name]).ok();
            let ranges = registry.seen();
            let ranges = ranges.iter().filter(|r| r.path().ends_with(&content.largest()));
            assert!(
                ranges.filter(|r| r.header("range").is_some()).count() > 0,
                "it was gone on with"
            );
        },
    ),
    Case::new(
        "pull-full-disk",
        "issue: failing well",
        "a full disk is told; then it works",
        || {
            let client = Client::new();
            let (registry, _) = serving(Content::of(&large(), "app", "1"), |_, _| None);
            let root = client.hako.place().directory("small");
            let mount = |words: &[&str]| {
                let mut command = Command::new("mount");
                command::run(command.args(words))
            };
            let path = root.to_string_lossy().into_owned();
            let mounted = mount(&["-t", "tmpfs", "-o", "size=700k", "none", &path]);
            if mounted.code != 0 {
                skip!("no tmpfs can be mounted: {}", mounted.stderr);
            }
            let name = format!("{}/app:1", registry.host());
            let run_root = client.hako.place().join("small-run").to_string_lossy().into_owned();
            let call = |words: &[&str]| {
                client.call(&[&["--root", &path, "--run-root", &run_root][..], words].concat())
            };
            let failed = call(&["pull", "-q", &name]);
            failed.exits(1);
            let said = failed.stderr.to_lowercase();
            assert!(said.contains("no space left") || said.contains("disk is full"), "{said}");
            mount(&["-o", "remount,size=64m", &path]).ok();
            call(&["images", "-q"]).prints("");
            call(&["pull", "-q", &name]).ok();
            assert_eq!(call(&["images", "-q"]).ok().lines().count(), 1);
            command::run(Command::new("umount").arg(&path)).ok();
        },
    ),
];
