//! `pull`, `push`, `copy`, `login`, `logout`.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use hako_engine::{
    Engine, Error, PullOptions, Pulled,
    registry::{
        self, Codec, CopyOptions, CopyRequest, Credentials, Place, PushOptions, Stored, Travel,
    },
    tty::RawMode,
};
use hako_oci::{Platform, Reference};

use crate::{
    failure::{Failure, say, success},
    flag::{self, Completes, Flag, Group, Order, parse_integer},
    progress::{self, Out, Show},
    verb::{Topic, Verb},
};

use super::{image::platform, print};

/// The registry that is meant where none is named.
const DEFAULT: &str = "docker.io";
/// Whatever is typed as a password is no longer than that.
const SECRET_BYTES_MAX: u64 = 64 << 10;

#[derive(Default)]
struct Pull {
    all_tags: bool,
    quiet: bool,
    platform: Option<Platform>,
}

const PULL_FLAGS: &[Group<Pull>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch(
            "all-tags",
            Some('a'),
            "Pull all tags of the repository",
            |o: &mut Pull, v| {
                o.all_tags = v == "true";
                Ok(())
            },
        ),
        Flag::switch("quiet", Some('q'), "Say only what was pulled", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::one("platform", None, "string", "Platform of the image, as linux/amd64", |o, v| {
            o.platform = Some(platform(v)?);
            Ok(())
        }),
    ],
}];

/// `pull`.
pub(super) const PULL: Verb = Verb {
    paths: &["pull", "image pull"],
    topic: Topic::Common,
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Fetch an image from a registry",
    more: "Layers come at once, and are unpacked while they come. A pull that was interrupted goes\n\
           on where it ended. Registries on this machine may speak plain HTTP.\n\n\
           Files that count, as with docker, podman and containerd:\n  \
           ~/.docker/config.json, containers/auth.json    credentials\n  \
           /etc/containers/registries.conf                mirrors, short names\n  \
           certs.d/<registry>/ in /etc/hako, /etc/containerd, /etc/containers, /etc/docker\n\n\
           Environment:\n  \
           HTTPS_PROXY, HTTP_PROXY, NO_PROXY    proxies\n  \
           HAKO_REGISTRY_TIMEOUT                seconds that nothing may come (default 60)",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(PULL_FLAGS),
    run: |app, verb, args| {
        let mut options = Pull::default();
        let words = verb.parse(PULL_FLAGS, Order::Anywhere, args, &mut options)?;
        let typed: Reference = words[0].parse().map_err(invalid)?;
        if options.all_tags && (typed.tag().is_some() || typed.digest().is_some()) {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let is_bare = typed.tag().is_none() && typed.digest().is_none();
        if is_bare && !options.all_tags && !options.quiet {
            print("Using default tag: latest\n")?;
        }
        let engine = app.engine()?;
        let (quiet, pull) = (options.quiet, PullOptions { platform: options.platform });
        if !options.all_tags {
            let pulled = first(&engine, &words[0], &pull, Out::Stdout, quiet)?;
            print(&format!("{}\n", pulled.name))?;
            return success();
        }
        let mut name = typed;
        for candidate in engine.pull_names(&words[0])? {
            name = candidate.with_tag("latest").map_err(invalid)?;
        }
        for tag in engine.remote_tags(&name)? {
            // A registry may list what is no tag; it names nothing that could be kept.
            let Ok(tagged) = name.clone().with_tag(&tag) else { continue };
            one(&engine, &tagged, &pull, Out::Stdout, quiet)?;
        }
        print(&format!("{}\n", name.name()))?;
        success()
    },
};

fn invalid(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

/// Pulls what a typed name means; where that is several names, the first that is there.
pub(super) fn first(
    engine: &Engine,
    typed: &str,
    options: &PullOptions,
    out: Out,
    quiet: bool,
) -> Result<Pulled, Error> {
    let mut names = engine.pull_names(typed)?.into_iter().peekable();
    loop {
        let Some(name) = names.next() else {
            return Err(Error::Unsupported(format!("no registry to search for {typed}")));
        };
        match one(engine, &name, options, out, quiet) {
            Err(_) if names.peek().is_some() => {}
            done => return done,
        }
    }
}

fn one(
    engine: &Engine,
    name: &Reference,
    options: &PullOptions,
    out: Out,
    quiet: bool,
) -> Result<Pulled, Error> {
    let word = name.tag().map(str::to_owned).or(name.digest().map(ToString::to_string));
    let title = format!("{}: Pulling from {}", word.unwrap_or_default(), name.path());
    let show = Show::new(progress::PULL, out, quiet, Some(title));
    let pulled = engine.pull(name, options, &show).inspect_err(|_| show.end())?;
    if !quiet {
        show.say(&format!("Digest: {}", pulled.digest));
        let status = match pulled.is_new {
            true => "Downloaded newer image for",
            false => "Image is up to date for",
        };
        show.say(&format!("Status: {status} {}", name.familiar()));
    }
    Ok(pulled)
}

#[derive(Default)]
struct Push {
    all_tags: bool,
    quiet: bool,
    options: PushOptions,
    format: Option<String>,
    level: Option<i32>,
    force: bool,
}

impl Push {
    /// What the flags of compression come to together.
    fn travel(&self) -> Result<Travel, Failure> {
        let codec = match self.format.as_deref() {
            Some("none") if self.level.is_some() => {
                return Err(Failure::new("--compression-level needs a format that compresses"));
            }
            Some("none") if self.force => return Ok(Travel::Plain),
            Some("none") => return Ok(Travel::AsIs),
            Some(format) => format.parse::<Codec>().map_err(invalid)?,
            None => Codec::GZIP,
        };
        let codec = self.level.map_or(Ok(codec), |level| codec.with_level(level));
        let codec = codec.map_err(invalid)?;
        Ok(if self.force { Travel::Anew(codec) } else { Travel::Compressed(codec) })
    }
}

const PUSH_FLAGS: &[Group<Push>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch(
            "all-tags",
            Some('a'),
            "Push all tags of the repository",
            |o: &mut Push, v| {
                o.all_tags = v == "true";
                Ok(())
            },
        ),
        Flag::switch("quiet", Some('q'), "Say only what was pushed", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::one(
            "platform",
            None,
            "string",
            "Push only the image for this platform, without its index",
            |o, v| {
                o.options.platform = Some(platform(v)?);
                Ok(())
            },
        ),
        Flag::switch(
            "all-platforms",
            None,
            "Push every image of an index, or fail if one is not here",
            |o, v| {
                o.options.all_platforms = v == "true";
                Ok(())
            },
        ),
        Flag::one(
            "compression-format",
            None,
            "string",
            "gzip, zstd or none, for layers that are not compressed (default gzip)",
            |o: &mut Push, v| {
                o.format = Some(v.into());
                Ok(())
            },
        )
        .completes(Completes::Words(&["gzip", "zstd", "none"])),
        Flag::one("compression-level", None, "int", "How small: 1 to 12, with zstd 22", |o, v| {
            o.level = Some(parse_integer(v)?);
            Ok(())
        }),
        Flag::switch(
            "force-compression",
            None,
            "Compress layers anew that are compressed in another way",
            |o, v| {
                o.force = v == "true";
                Ok(())
            },
        ),
        Flag::switch(
            "disable-content-trust",
            None,
            "Do not sign the image, as always (default true)",
            |_, _| Ok(()),
        ),
    ],
}];

/// `push`.
pub(super) const PUSH: Verb = Verb {
    paths: &["push", "image push"],
    topic: Topic::Common,
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Send an image to a registry",
    more: "What is pushed is what is here, byte by byte: an image that was pulled keeps its digest.\n\
           Layers that are not compressed, as those of archives and of images made here, are sent\n\
           as gzip, and always as the same bytes; --compression-format none sends them as they are.\n\
           A layer that is there costs one question; one that another repository of the registry\n\
           has is mounted from there. Files and environment: see `hako pull --help`.",
    words: Completes::Nothing,
    count: (1, 1),
    flags: || flag::describe(PUSH_FLAGS),
    run: |app, verb, args| {
        let mut options = Push::default();
        let words = verb.parse(PUSH_FLAGS, Order::Anywhere, args, &mut options)?;
        options.options.travel = options.travel()?;
        let typed: Reference = words[0].parse().map_err(invalid)?;
        if typed.digest().is_some() {
            return Err(Failure::new("cannot push a digest reference"));
        }
        let engine = app.engine()?;
        let names = match (options.all_tags, typed.tag()) {
            (true, Some(_)) => {
                return Err(Failure::new("tag can't be used with --all-tags/-a"));
            }
            (true, None) => engine.tags(&typed)?,
            (false, tag) => {
                if tag.is_none() && !options.quiet {
                    print("Using default tag: latest\n")?;
                }
                vec![typed.clone().with_default_tag()]
            }
        };
        if names.is_empty() {
            let name = typed.familiar_name();
            let message = format!("An image does not exist locally with the tag: {name}");
            return Err(Failure::new(message));
        }
        if !options.quiet {
            print(&format!("The push refers to repository [{}]\n", typed.name()))?;
        }
        for name in names {
            let show = Show::new(progress::PUSH, Out::Stdout, options.quiet, None);
            let pushed = engine.push(&name, &options.options, &show).inspect_err(|_| show.end())?;
            if options.quiet {
                print(&format!("{name}\n"))?;
                continue;
            }
            let tag = name.tag().unwrap_or_default();
            show.say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
            if pushed.only_platform {
                say!(
                    "hako: the images of {} for other platforms are not here: \
                     only this machine's was pushed",
                    name.familiar()
                );
            }
        }
        success()
    },
};

#[derive(Default)]
struct Copy {
    quiet: bool,
    options: CopyOptions,
}

const COPY_FLAGS: &[Group<Copy>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::switch("all", Some('a'), "All platforms of an index, not one", |o: &mut Copy, v| {
            o.options.all = v == "true";
            Ok(())
        }),
        Flag::switch(
            "referrers",
            Some('r'),
            "What is about it, too, from registry to registry",
            |o, v| {
                o.options.referrers = v == "true";
                Ok(())
            },
        ),
        Flag::switch(
            "preserve-digests",
            None,
            "Change no bytes, as always (default true)",
            |_, _| Ok(()),
        ),
        Flag::switch("quiet", Some('q'), "Say nothing", |o, v| {
            o.quiet = v == "true";
            Ok(())
        }),
        Flag::one("platform", None, "string", "Platform of the image, as linux/amd64", |o, v| {
            o.options.platform = Some(platform(v)?);
            Ok(())
        }),
    ],
}];

/// `copy`.
pub(super) const COPY: Verb = Verb {
    paths: &["copy", "image copy"],
    topic: Topic::Images,
    usage: "[OPTIONS] SOURCE DESTINATION",
    about: "Copy an image between registries, layouts, archives and the store",
    more: "Places:\n  \
           docker://NAME[:TAG|@DIGEST]        a registry\n  \
           oci:DIRECTORY[:REF]                an OCI image layout\n  \
           oci-archive:FILE[:REF]             the same in a tar\n  \
           docker-archive:FILE[:NAME[:TAG]]   an archive for docker load\n  \
           dir:DIRECTORY                      as skopeo has it\n  \
           NAME[:TAG]                         the store\n\n\
           Bytes and digests stay what they are. Where neither place is the store, none is needed,\n\
           nor root.",
    words: Completes::Nothing,
    count: (2, 2),
    flags: || flag::describe(COPY_FLAGS),
    run: |app, verb, args| {
        let mut options = Copy::default();
        let words = verb.parse(COPY_FLAGS, Order::Anywhere, args, &mut options)?;
        let place = |word: &String| word.parse::<Place>().map_err(invalid);
        let (from, to) = (place(&words[0])?, place(&words[1])?);
        let Copy { quiet, options } = options;
        let request = CopyRequest { from, to, options };
        let show = Show::new(progress::COPY, Out::Stdout, quiet, None);
        let copied = match request.needs_store() {
            true => app.engine()?.copy(&request, &show),
            false => registry::copy(&request, &show),
        };
        let copied = copied.inspect_err(|_| show.end())?;
        if !quiet {
            show.say(&format!("Digest: {}", copied.digest));
        }
        success()
    },
};

#[derive(Default)]
struct Login {
    user: Option<String>,
    password: Option<String>,
    from_stdin: bool,
}

const LOGIN_FLAGS: &[Group<Login>] = &[Group {
    heading: "Options",
    flags: &[
        Flag::one("username", Some('u'), "string", "User name", |o: &mut Login, v| {
            o.user = Some(v.into());
            Ok(())
        }),
        Flag::one("password", Some('p'), "string", "Password or token", |o, v| {
            o.password = Some(v.into());
            Ok(())
        }),
        Flag::switch("password-stdin", None, "Read the password from standard input", |o, v| {
            o.from_stdin = v == "true";
            Ok(())
        }),
    ],
}];

/// `login`.
pub(super) const LOGIN: Verb = Verb {
    paths: &["login"],
    topic: Topic::Images,
    usage: "[OPTIONS] [SERVER]",
    about: "Log in to a registry",
    more: "The registry is asked, and what it takes is kept where docker keeps it:\n\
           REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json or ~/.docker/config.json, or the\n\
           credential helper that is named there. Without SERVER: docker.io.",
    words: Completes::Nothing,
    count: (0, 1),
    flags: || flag::describe(LOGIN_FLAGS),
    run: |_, verb, args| {
        let mut options = Login::default();
        let words = verb.parse(LOGIN_FLAGS, Order::Anywhere, args, &mut options)?;
        let server = server(&words);
        let credentials = ask(options, &server)?;
        match registry::login(&server, credentials)? {
            Stored::Helper(_) => {}
            Stored::File(path) => say!(
                "WARNING! Your credentials are stored unencrypted in '{}'.\n\
                 Configure a credential helper to remove this warning.\n",
                path.display()
            ),
        }
        print("Login Succeeded\n")?;
        success()
    },
};

/// `logout`.
pub(super) const LOGOUT: Verb = Verb {
    paths: &["logout"],
    topic: Topic::Images,
    usage: "[SERVER]",
    about: "Log out from a registry",
    more: "",
    words: Completes::Nothing,
    count: (0, 1),
    flags: super::no_flags,
    run: |_, verb, args| {
        let words = verb.parse(super::NONE, Order::Anywhere, args, &mut ())?;
        let server = server(&words);
        match registry::logout(&server)? {
            true => print(&format!("Removing login credentials for {server}\n"))?,
            false => print(&format!("Not logged in to {server}\n"))?,
        }
        success()
    },
};

/// A registry as it is kept: without a scheme and without a path.
fn server(words: &[String]) -> String {
    let word = words.first().map_or(DEFAULT, String::as_str);
    let word = word.strip_prefix("https://").or(word.strip_prefix("http://")).unwrap_or(word);
    match word.split('/').next().unwrap_or(word) {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT.into(),
        server => server.into(),
    }
}

fn ask(options: Login, server: &str) -> Result<Credentials, Failure> {
    let Login { user, password, from_stdin } = options;
    if from_stdin && password.is_some() {
        return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
    }
    if from_stdin {
        let user = user.filter(|user| !user.is_empty());
        let user =
            user.ok_or_else(|| Failure::new("Must provide --username with --password-stdin"))?;
        let mut password = String::new();
        io::stdin()
            .take(SECRET_BYTES_MAX)
            .read_to_string(&mut password)
            .map_err(|e| Failure::new(format!("reading the password: {e}")))?;
        let password = password.trim_end_matches(['\n', '\r']).to_owned();
        return Ok(Credentials::Password { user, password });
    }
    if password.is_some() {
        say!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if (user.is_none() || password.is_none()) && !io::stdin().is_terminal() {
        return Err(Failure::new("Cannot perform an interactive login from a non TTY device"));
    }
    let user = match user {
        Some(user) => user,
        None => {
            print(&format!("Log in to {server}\nUsername: "))?;
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            read.map_err(|e| Failure::new(format!("reading the user name: {e}")))?;
            line.trim().to_owned()
        }
    };
    let password = password.map_or_else(read_secret, Ok)?;
    if user.is_empty() {
        return Err(Failure::new("username is empty"));
    }
    if password.is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok(Credentials::Password { user, password })
}

/// A line from the terminal that is not shown.
fn read_secret() -> Result<String, Failure> {
    print("Password: ")?;
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("reading the password: {e}"));
    let stdin = io::stdin();
    let raw = {
        use std::os::fd::AsFd;
        RawMode::enter(stdin.as_fd()).map_err(|e| failed(&e))?
    };
    let mut secret = Vec::new();
    let mut typed = Ok(());
    for byte in stdin.lock().bytes().take(SECRET_BYTES_MAX as usize) {
        match byte {
            Ok(b'\r' | b'\n' | 4) => break,
            Ok(3) => {
                typed = Err(Failure::Said(130));
                break;
            }
            Ok(8 | 127) => drop(secret.pop()),
            Ok(byte) => secret.push(byte),
            Err(e) => {
                typed = Err(failed(&e));
                break;
            }
        }
    }
    raw.leave().map_err(|e| failed(&e))?;
    writeln!(io::stdout())?;
    typed?;
    String::from_utf8(secret).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let cases = [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("quay.io"), "quay.io"),
            (Some("http://localhost:5000/v2/"), "localhost:5000"),
        ];
        for (word, want) in cases {
            let words: Vec<String> = word.into_iter().map(str::to_owned).collect();
            assert_eq!(server(&words), want);
        }
    }
}
