//! `registry serve`.

use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use hako_engine::{
    Places,
    serve::{self, Log, Options, Tokens, Upstream},
};

use crate::{
    failure::{Failure, success},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    verb::{Topic, Verb},
};

use super::NONE_WORDS;

/// Where Docker's registry listens, but not for everybody.
const LISTEN: &str = "127.0.0.1:5000";

/// Lines that wait to be written. A reader of the log that stands still stops nobody: lines are
/// lost, and how many is said when there is room again.
const LINES_MAX: usize = 4096;

struct Serve {
    root: Option<PathBuf>,
    options: Options,
    certificates: Option<PathBuf>,
    key: Option<PathBuf>,
    realm: Option<String>,
    service: Option<String>,
    issuer: Option<String>,
    keys: Vec<PathBuf>,
    proxy: Option<String>,
    proxy_user: Option<String>,
    proxy_password: Option<PathBuf>,
    proxy_ttl: Duration,
}

const FLAGS: &[Group<Serve>] = &[
    Group {
        heading: "Options",
        flags: &[
            Flag::one(
                "listen",
                None,
                "ADDR",
                "Address and port (default 127.0.0.1:5000)",
                |o: &mut Serve, v| {
                    o.options.listen = address(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "root",
                None,
                "DIR",
                "The store to serve (default: hako's own)",
                |o: &mut Serve, v| {
                    o.root = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::Directory),
            Flag::switch("read-only", None, "Refuse everything but pulls", |o: &mut Serve, v| {
                o.options.read_only = v == "true";
                Ok(())
            }),
            Flag::switch(
                "sparse",
                None,
                "Take manifests whose blobs are not here",
                |o: &mut Serve, v| {
                    o.options.sparse = v == "true";
                    Ok(())
                },
            ),
            Flag::many(
                "warning",
                None,
                "TEXT",
                "Have clients show this to their users",
                |o: &mut Serve, v| {
                    o.options.warnings.push(v.to_owned());
                    Ok(())
                },
            ),
            Flag::switch("no-delete", None, "Refuse to delete", |o: &mut Serve, v| {
                o.options.deletes = v != "true";
                Ok(())
            }),
        ],
    },
    Group {
        heading: "Security",
        flags: &[
            Flag::one(
                "htpasswd",
                None,
                "FILE",
                "Users, as `htpasswd -B` writes them",
                |o: &mut Serve, v| {
                    o.options.htpasswd = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::switch(
                "anonymous-pull",
                None,
                "Let everybody pull; users of --htpasswd push",
                |o: &mut Serve, v| {
                    o.options.anonymous_pull = v == "true";
                    Ok(())
                },
            ),
            Flag::switch(
                "auth-token-issuer",
                None,
                "Give users of --htpasswd short-lived tokens",
                |o: &mut Serve, v| {
                    o.options.issue = v == "true";
                    Ok(())
                },
            ),
            Flag::one(
                "auth-realm",
                None,
                "URL",
                "Believe tokens, which clients get there",
                |o: &mut Serve, v| {
                    o.realm = Some(v.to_owned());
                    Ok(())
                },
            ),
            Flag::one(
                "auth-service",
                None,
                "NAME",
                "Whom tokens must be for",
                |o: &mut Serve, v| {
                    o.service = Some(v.to_owned());
                    Ok(())
                },
            ),
            Flag::one(
                "auth-issuer",
                None,
                "NAME",
                "Who must have made tokens",
                |o: &mut Serve, v| {
                    o.issuer = Some(v.to_owned());
                    Ok(())
                },
            ),
            Flag::many(
                "auth-rootcertbundle",
                None,
                "FILE",
                "Certificates (PEM) or keys (PEM, JWKS) that sign tokens",
                |o: &mut Serve, v| {
                    o.keys.push(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::one("tls-cert", None, "FILE", "Certificate chain, PEM", |o: &mut Serve, v| {
                o.certificates = Some(v.into());
                Ok(())
            })
            .completes(Completes::File),
            Flag::one("tls-key", None, "FILE", "Its private key, PEM", |o: &mut Serve, v| {
                o.key = Some(v.into());
                Ok(())
            })
            .completes(Completes::File),
        ],
    },
    Group {
        heading: "Pull-through cache",
        flags: &[
            Flag::one(
                "proxy",
                None,
                "URL",
                "Fetch what is not here from this registry, and keep it",
                |o: &mut Serve, v| {
                    o.proxy = Some(v.to_owned());
                    Ok(())
                },
            ),
            Flag::one("proxy-username", None, "NAME", "Who we are to it", |o: &mut Serve, v| {
                o.proxy_user = Some(v.to_owned());
                Ok(())
            }),
            Flag::one(
                "proxy-password-file",
                None,
                "FILE",
                "File with the password",
                |o: &mut Serve, v| {
                    o.proxy_password = Some(v.into());
                    Ok(())
                },
            )
            .completes(Completes::File),
            Flag::one(
                "proxy-ttl",
                None,
                "duration",
                "Keep what nobody asks for so long, 0s for ever (default 168h)",
                |o: &mut Serve, v| {
                    o.proxy_ttl = duration(v)?;
                    Ok(())
                },
            ),
        ],
    },
    Group {
        heading: "Limits",
        flags: &[
            Flag::one(
                "max-connections",
                None,
                "int",
                "Connections served at once (default 1000)",
                |o: &mut Serve, v| {
                    o.options.connections_max = parse_integer(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "max-uploads",
                None,
                "int",
                "Uploads open at once (default 10000)",
                |o: &mut Serve, v| {
                    o.options.uploads_max = parse_integer(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "stall-timeout",
                None,
                "duration",
                "Cut off clients that stand still for so long (default 1m)",
                |o: &mut Serve, v| {
                    o.options.stall = duration(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "shutdown-timeout",
                None,
                "duration",
                "Time for open requests after SIGTERM (default 10s)",
                |o: &mut Serve, v| {
                    o.options.shutdown = duration(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "gc-interval",
                None,
                "duration",
                "Time between garbage collections (default 1h)",
                |o: &mut Serve, v| {
                    o.options.collect_every = duration(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "gc-grace",
                None,
                "duration",
                "Keep blobs that no manifest names for so long (default 24h)",
                |o: &mut Serve, v| {
                    o.options.ages.blob = duration(v)?;
                    Ok(())
                },
            ),
            Flag::one(
                "upload-timeout",
                None,
                "duration",
                "Keep uploads that nobody continues for so long (default 168h)",
                |o: &mut Serve, v| {
                    o.options.ages.upload = duration(v)?;
                    Ok(())
                },
            ),
        ],
    },
];

/// `registry serve`.
pub(super) const SERVE: Verb = Verb {
    paths: &["registry serve"],
    topic: Topic::Images,
    usage: "[OPTIONS]",
    about: "Serve a store as a registry",
    more: "The store may be the one that hako itself uses: what is in it need not be sent.\n\
           Requests are logged to standard error, one line of JSON each; numbers are at /metrics.\n\
           SIGHUP has it read certificates, keys and users again.\n\
           SIGTERM ends it when the requests that are open are answered.",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let mut asked = Serve {
            root: None,
            options: Options::new(address(LISTEN).map_err(Failure::new)?),
            certificates: None,
            key: None,
            realm: None,
            service: None,
            issuer: None,
            keys: Vec::new(),
            proxy: None,
            proxy_user: None,
            proxy_password: None,
            proxy_ttl: Duration::from_secs(168 * 3600),
        };
        verb.parse(FLAGS, Order::Anywhere, args, &mut asked)?;
        asked.options.tls = match (asked.certificates, asked.key) {
            (Some(certificates), Some(key)) => Some((certificates, key)),
            (None, None) => None,
            _ => return Err(Failure::new("--tls-cert and --tls-key belong together")),
        };
        asked.options.tokens = match (asked.realm, asked.service, asked.issuer) {
            (None, None, None) if asked.keys.is_empty() => None,
            (Some(realm), Some(service), Some(issuer)) if !asked.keys.is_empty() => {
                Some(Tokens { realm, service, issuer, keys: asked.keys })
            }
            _ => {
                return Err(Failure::new(
                    "--auth-realm, --auth-service, --auth-issuer and --auth-rootcertbundle belong \
                     together",
                ));
            }
        };
        let user = match (asked.proxy_user, asked.proxy_password) {
            (Some(user), Some(file)) => Some((user, file)),
            (None, None) => None,
            _ => {
                let message = "--proxy-username and --proxy-password-file belong together";
                return Err(Failure::new(message));
            }
        };
        let ttl = Some(asked.proxy_ttl).filter(|ttl| !ttl.is_zero());
        match asked.proxy {
            Some(_) if asked.options.read_only => {
                return Err(Failure::new("--proxy and --read-only exclude each other"));
            }
            Some(address) => {
                asked.options.ages.pulled = ttl;
                asked.options.upstream = Some(Upstream { address, user, ttl });
            }
            None if user.is_some() => return Err(Failure::new("--proxy-username needs --proxy")),
            None => {}
        }
        let users = asked.options.htpasswd.is_some();
        if users && asked.options.tokens.is_some() {
            return Err(Failure::new("--htpasswd and --auth-realm exclude each other"));
        }
        if !users && (asked.options.issue || asked.options.anonymous_pull) {
            return Err(Failure::new("--anonymous-pull and --auth-token-issuer need --htpasswd"));
        }
        let root = match asked.root {
            Some(root) => root,
            None => Places::resolve(app.globals.root.clone(), app.globals.run_root.clone())?.root,
        };
        let (log, writer) = logger()?;
        let served = serve::serve(&root, asked.options, log);
        // The last lines are written before the process ends.
        if writer.join().is_err() {
            return Err(Failure::new("the log's writer panicked"));
        }
        served?;
        success()
    },
};

fn address(text: &str) -> Result<SocketAddr, String> {
    // `:5000` is every address, as Go's programs have it.
    let full = match text.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => text.to_owned(),
    };
    full.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT"))
}

/// Go's durations, of one unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| format!("{text:?} is no duration, as 90s, 5m or 1h"))?;
    let factor = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(format!("{text:?} is no duration, as 90s, 5m or 1h")),
    };
    let seconds = number.checked_mul(factor).filter(|s| *s <= u64::from(u32::MAX));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is too long"))
}

/// A log to standard error, written by a thread of its own.
fn logger() -> Result<(Log, thread::JoinHandle<()>), Failure> {
    let (sender, receiver) = mpsc::sync_channel::<String>(LINES_MAX);
    let lost = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    let write = move || {
        for mut line in receiver {
            line.push('\n');
            let missing = counted.swap(0, std::sync::atomic::Ordering::Relaxed);
            if missing > 0 {
                line += &format!("{{\"event\":\"lost\",\"lines\":{missing}}}\n");
            }
            // Where standard error is gone there is nobody to tell, and serving goes on.
            let _nobody = std::io::stderr().lock().write_all(line.as_bytes());
        }
    };
    let writer = thread::Builder::new().name("log".into()).spawn(write)?;
    let log = move |line: &str| {
        if sender.try_send(line.to_owned()).is_err() {
            lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    Ok((Arc::new(log), writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(address(":5000").unwrap().to_string(), "[::]:5000");
        assert_eq!(address("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        for bad in ["", ":", "localhost", "1.2.3.4", ":99999"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("168h"), Ok(Duration::from_secs(168 * 3600)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "s", "5", "5x", "-1s", "99999999999999999999h", "9999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
