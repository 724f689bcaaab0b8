//! Programs of images without a shell, run by a user without rights.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use hako_tests::{Case, command::wait_until, install::Hako};

use crate::debian::make;

const ISSUE: &str = "issue: base images from packages";

/// An image with one package.
fn with(package: &str) -> Hako {
    let hako = Hako::new();
    make(&hako, &["--include", package, "-t", "it", "-q", "-u", "nonroot"]).ok();
    hako
}

pub(crate) const CASES: &[Case] = &[
    Case::new("python3", ISSUE, "python3 runs, with its libraries and certificates", || {
        let hako = with("python3");
        let program = "import os, ssl, sqlite3, lzma, bz2, zlib, ctypes, readline, zoneinfo, pwd; \
                       print(os.getuid(), pwd.getpwuid(os.getuid()).pw_name, \
                       ssl.create_default_context().cert_store_stats()['x509_ca'] > 50, \
                       zoneinfo.ZoneInfo('Europe/Berlin'), os.path.exists('/bin/sh'))";
        let output = hako.call(&["run", "--rm", "it", "python3", "-c", program]);
        output.prints("65532 nonroot True Europe/Berlin False\n");
    }),
    Case::new("node", ISSUE, "node runs", || {
        let hako = with("nodejs");
        let program = "console.log(process.getuid(), new Intl.NumberFormat('de').format(1234.5), \
                       require('crypto').createHash('md5').update('').digest('hex'))";
        let output = hako.call(&["run", "--rm", "it", "node", "-e", program]);
        output.prints("65532 1.234,5 d41d8cd98f00b204e9800998ecf8427e\n");
    }),
    Case::new("openssl", ISSUE, "openssl finds authorities by the hashes of their names", || {
        let hako = with("openssl");
        let run = |words: &[&str]| hako.call(&[&["run", "--rm", "it", "openssl"], words].concat());
        run(&["version"]).says("OpenSSL");
        let certificate = "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt";
        let words =
            ["verify", "-no-CAfile", "-no-CAstore", "-CApath", "/etc/ssl/certs", certificate];
        run(&words).says("OK");
    }),
    Case::new("redis", ISSUE, "redis serves", || {
        let hako = with("redis-server");
        let words = ["--save", "", "--dir", "/tmp", "--port", "7001"];
        hako.call(&[&["run", "-d", "--name", "redis", "it", "redis-server"], &words[..]].concat())
            .ok();
        let cli = |words: &[&str]| {
            hako.call(&[&["exec", "redis", "redis-cli", "-p", "7001"], words].concat())
        };
        wait_until("redis answers", || cli(&["ping"]).stdout == "PONG\n");
        cli(&["set", "a", "1"]).prints("OK\n");
        cli(&["get", "a"]).prints("1\n");
        hako.call(&["rm", "-f", "redis"]).ok();
    }),
    Case::new("nginx", ISSUE, "nginx serves a file", || {
        let hako = with("nginx");
        let site = hako.place().join("site");
        fs::create_dir(&site).expect("mkdir");
        fs::write(site.join("index.html"), "hello from nginx").expect("write");
        let text = "daemon off; pid /tmp/pid; error_log stderr; events {} http { access_log off; \
                    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; \
                    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; \
                    server { listen 127.0.0.1:7002; root /site; } }";
        fs::write(hako.place().join("nginx.conf"), text).expect("write");
        let conf = format!("{}:/nginx.conf:ro", hako.place().join("nginx.conf").display());
        let volume = format!("{}:/site:ro", site.display());
        hako.call(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "host",
            "-v",
            &conf,
            "-v",
            &volume,
            "it",
            "nginx",
            "-c",
            "/nginx.conf",
        ])
        .ok();
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect("127.0.0.1:7002")?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        wait_until("nginx answers", || get().is_ok_and(|text| text.ends_with("hello from nginx")));
        hako.call(&["rm", "-f", "web"]).ok();
    }),
];
