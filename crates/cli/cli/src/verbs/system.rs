//! `info`, `version`, `completion`, `man`.

use hako_engine::Info;
use serde_json::{Value, json};

use crate::{
    App, describe,
    failure::{Failure, Outcome, success},
    flag::{self, Completes, Flag, Group, Order},
    output::units::size_binary,
    template::{Context, Template},
    verb::{Topic, Verb},
};

use super::{NONE, NONE_WORDS, no_flags, print};

/// This program's version.
const VERSION_NUMBER: &str = env!("CARGO_PKG_VERSION");

/// What `hako --version` says.
pub(crate) fn version_line() -> String {
    format!("hako version {VERSION_NUMBER}")
}

#[derive(Default)]
struct Options {
    format: String,
}

const FLAGS: &[Group<Options>] = &[Group {
    heading: "Options",
    flags: &[Flag::one("format", Some('f'), "string", "\"json\", or a Go template", |o, v| {
        o.format = v.into();
        Ok(())
    })],
}];

/// `info`.
pub(super) const INFO: Verb = Verb {
    paths: &["info", "system info"],
    topic: Topic::System,
    usage: "[OPTIONS]",
    about: "Show what is in use: store, kernel features, and what is missing",
    more: "",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run: |app, verb, args| {
        let mut options = Options::default();
        verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
        let info = app.engine()?.info()?;
        let document =
            serde_json::to_value(&info).map_err(|e| Failure::new(format!("JSON: {e}")))?;
        formatted(&options.format, &document, || info_text(&info))
    },
};

/// `version`.
pub(super) const VERSION: Verb = Verb {
    paths: &["version", "system version"],
    topic: Topic::System,
    usage: "[OPTIONS]",
    about: "Show the version of hako and of what it runs on",
    more: "",
    words: Completes::Nothing,
    count: NONE_WORDS,
    flags: || flag::describe(FLAGS),
    run: |_: &App, verb, args| {
        let mut options = Options::default();
        verb.parse(FLAGS, Order::Anywhere, args, &mut options)?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_err(|e| Failure::new(format!("/proc/sys/kernel/osrelease: {e}")))?;
        let kernel = kernel.trim();
        let arch = hako_oci::platform::normalized_architecture(std::env::consts::ARCH);
        let half = json!({
            "Version": VERSION_NUMBER, "Os": "linux", "Arch": arch, "KernelVersion": kernel,
            "RuntimeSpecVersion": hako_oci::runtime::VERSION,
        });
        // Scripts ask for both; without a daemon both are this program.
        let document = json!({ "Client": half, "Server": half });
        formatted(&options.format, &document, || {
            format!(
                "hako:\n Version:       {VERSION_NUMBER}\n OS/Arch:       linux/{arch}\n \
                 Kernel:        {kernel}\n Runtime spec:  {}\n",
                hako_oci::runtime::VERSION
            )
        })
    },
};

fn formatted(format: &str, document: &Value, text: impl FnOnce() -> String) -> Outcome {
    match format {
        "" => print(&text())?,
        "json" => print(&format!("{document}\n"))?,
        template => {
            let text = Template::parse(template)?.render(document, &Context::default())?;
            print(&(text + "\n"))?;
        }
    }
    success()
}

fn info_text(info: &Info) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| text += &format!("{name:18} {value}\n");
    row("Version:", info.server_version);
    row("Store:", &info.root);
    row("Run directory:", &info.run_root);
    let running = info.containers_running;
    let (paused, stopped) = (info.containers_paused, info.containers_stopped);
    let all = info.containers;
    row("Containers:", &format!("{all}  ({running} running, {paused} paused, {stopped} stopped)"));
    row("Images:", &info.images.to_string());
    row("Snapshotter:", &format!("{}  ({})", info.driver, info.driver_reason));
    row("Cgroup driver:", info.cgroup_driver);
    let controllers = info.cgroup_controllers.join(" ");
    row("Cgroups:", &format!("{}  ({controllers})", info.cgroup_version));
    row("Rootless:", if info.rootless { "yes" } else { "no" });
    row("Kernel:", &info.kernel_version);
    row("System:", &format!("{} {}", info.operating_system, info.architecture));
    row("Processors:", &info.ncpu.to_string());
    row("Memory:", &size_binary(info.mem_total));
    row("Host name:", &info.name);

    text += "\nKernel features:\n";
    for feature in info.features.iter().filter(|f| f.available) {
        text += &format!("  {:22} {}\n", feature.name, feature.detail);
    }
    let mut missing = info.features.iter().filter(|f| !f.available).peekable();
    if missing.peek().is_some() {
        text += "\nMissing:\n";
    }
    for feature in missing {
        text += &format!("  {:22} {}\n", feature.name, feature.detail);
        text += &format!("  {:22} -> {}\n", "", feature.consequence);
    }
    text
}

/// `completion`.
pub(super) const COMPLETION: Verb = Verb {
    paths: &["completion"],
    topic: Topic::System,
    usage: "bash|zsh|fish|elvish|powershell",
    about: "Print completions for a shell",
    more: "For this shell:  source <(hako completion bash)",
    words: Completes::Words(&["bash", "zsh", "fish", "elvish", "powershell"]),
    count: (1, 1),
    flags: no_flags,
    run: |_, verb, args| {
        let words = verb.parse(NONE, Order::Anywhere, args, &mut ())?;
        match describe::completions(&words[0]) {
            Some(script) => print(&script)?,
            None => return Err(Failure::new(format!("no completions for shell {:?}", words[0]))),
        }
        success()
    },
};

#[derive(Default)]
struct Man {
    directory: Option<String>,
}

const MAN_FLAGS: &[Group<Man>] = &[Group {
    heading: "Options",
    flags: &[Flag::one(
        "dir",
        None,
        "DIR",
        "Write every page to a file there",
        |o: &mut Man, v| {
            o.directory = Some(v.into());
            Ok(())
        },
    )
    .completes(Completes::Directory)],
}];

/// `man`.
pub(super) const MAN: Verb = Verb {
    paths: &["man"],
    topic: Topic::System,
    usage: "[OPTIONS] [COMMAND]",
    about: "Print a manual page, as roff",
    more: "To read one:  hako man run | man -l -",
    words: Completes::Nothing,
    count: (0, 2),
    flags: || flag::describe(MAN_FLAGS),
    run: |_, verb, args| {
        let mut options = Man::default();
        let words = verb.parse(MAN_FLAGS, Order::Anywhere, args, &mut options)?;
        let Some(directory) = options.directory else {
            let page = describe::man(&words.join(" "))?;
            let page =
                page.ok_or_else(|| Failure::new(format!("no page for {:?}", words.join(" "))))?;
            print(&page)?;
            return success();
        };
        for (name, page) in describe::man_all()? {
            let path = std::path::Path::new(&directory).join(&name);
            std::fs::write(&path, page)
                .map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        }
        success()
    },
};
