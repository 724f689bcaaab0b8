//! Verbs that change something: create, start, run, exec, kill, pause, resume, delete.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use hako_oci::runtime::Spec;
use hako_runtime::{
    CgroupDriver, Console, Container, Gate, Join, Options, Plan, RefusedLimits, Stdio,
};
use hako_sys::signal;

use crate::args::Parsed;
use crate::foreground::{self, Signals};
use crate::notify::{self, Notify};
use crate::{Context, Failure, Outcome, sealed};

/// A bundle's directory and configuration.
pub(crate) fn load(parsed: &Parsed) -> Result<(PathBuf, Spec), Failure> {
    let bundle = whole(Path::new(parsed.get("bundle").unwrap_or(".")))?;
    let path = bundle.join(parsed.text("config").unwrap_or("config.json"));
    let bytes = std::fs::read(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            format!("JSON specification file {} not found", path.display())
        }
        _ => format!("read {}: {}", path.display(), hako_sys::Errno::of(&e)),
    })?;
    let mut spec: Spec = serde_json::from_slice(&bytes).map_err(|e| {
        let text = String::from_utf8_lossy(&bytes);
        match hako_oci::locate::field_at(&text, e.line(), e.column()) {
            field if field.is_empty() => format!("{}: {e}", path.display()),
            field => format!("{}: {field}: {e}", path.display()),
        }
    })?;
    // crun's: a name for who has no way to write annotations.
    if let Some(receiver) = std::env::var("RUN_OCI_SECCOMP_RECEIVER").ok().filter(|r| !r.is_empty())
    {
        spec.annotations.entry("run.oci.seccomp.receiver".to_owned()).or_insert(receiver);
    }
    Ok((bundle, spec))
}

/// The bundle's absolute path. Links stay: hooks and engines know it by the name that was given.
fn whole(bundle: &Path) -> Result<PathBuf, String> {
    let failed = |e| format!("bundle {}: {}", bundle.display(), hako_sys::Errno::of(&e));
    if bundle.components().any(|part| part == std::path::Component::ParentDir) {
        return std::fs::canonicalize(bundle).map_err(failed);
    }
    std::fs::metadata(bundle).and_then(|_| std::path::absolute(bundle)).map_err(failed)
}

/// Where a field stands in the configuration, for a person: ` (config.json:12)`.
pub(crate) fn place(parsed: &Parsed, field: Option<String>) -> String {
    let path = Path::new(parsed.get("bundle").unwrap_or("."))
        .join(parsed.text("config").unwrap_or("config.json"));
    // Only on the way to an error, so the text was not kept; without it there is no line.
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if text.trim_end().lines().count() < 2 {
        // As engines write it: the line says nothing, and their users search for runc's words alone.
        return String::new();
    }
    let line = field.and_then(|field| hako_oci::locate::line_of(&text, &field));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    line.map(|line| format!(" ({name}:{line})")).unwrap_or_default()
}

/// Options as far as verbs have them in common.
pub(crate) fn options(context: &Context, parsed: &Parsed, id: &str) -> Result<Options, Failure> {
    let mut options = Options::new(id, &context.root);
    options.no_pivot = parsed.has("no-pivot");
    options.no_new_keyring = parsed.has("no-new-keyring");
    if parsed.has("clamp-limits") {
        options.refused_limits = RefusedLimits::Clamp;
    }
    match context.global.get("rootless") {
        None | Some("auto" | "") => {}
        Some("true" | "1") => options.cgroup_optional = true,
        Some("false" | "0") => options.cgroup_optional = false,
        Some(other) => {
            let message = format!("invalid value \"{other}\" for --rootless: true, false or auto");
            return Err(message.into());
        }
    }
    options.cgroup = match context.global.get("cgroup-manager") {
        Some("systemd") => CgroupDriver::Systemd,
        Some("disabled") => CgroupDriver::Disabled,
        Some("cgroupfs") | None if !context.global.has("systemd-cgroup") => CgroupDriver::Cgroupfs,
        Some("cgroupfs") | None => CgroupDriver::Systemd,
        Some(other) => return Err(format!("unknown cgroup manager {other}").into()),
    };
    if let Some(socket) = parsed.get("console-socket") {
        options.console = Console::Socket(PathBuf::from(socket));
    }
    (options.preserve_fds, options.extra_env) = inherited(parsed)?;
    Ok(options)
}

/// More descriptors than the kernel lets a process have, unless somebody raised `fs.nr_open`.
const NUMBERS_MAX: u32 = 1 << 20;

/// Descriptors that go to the process: `--preserve-fds`, and those of socket activation.
fn inherited(parsed: &Parsed) -> Result<(u32, Vec<String>), Failure> {
    let asked: u32 = parsed.number("preserve-fds")?.unwrap_or(0);
    let mut count = asked;
    let mut environment = Vec::new();
    let listen = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<u32>().ok());
    let for_us =
        std::env::var("LISTEN_PID").ok().is_none_or(|p| p == std::process::id().to_string());
    if let (Some(listen), true) = (listen, for_us) {
        environment.push(format!("LISTEN_FDS={listen}"));
        environment.push("LISTEN_PID=1".to_owned());
        if let Ok(names) = std::env::var("LISTEN_FDNAMES") {
            environment.push(format!("LISTEN_FDNAMES={names}"));
        }
        count = count.saturating_add(listen);
    }
    // N may be a bound rather than a count (crun's suite says 100), so some may be missing. Where
    // none of them is there, something went wrong.
    let is_open =
        |fd: u32| i32::try_from(fd).is_ok_and(|fd| hako_sys::process::inherited(fd).is_ok());
    let first = 3 + (count - asked);
    if asked > 0 && !(first..first.saturating_add(asked).min(NUMBERS_MAX)).any(is_open) {
        return Err(format!("preserved-fd 0 (of {asked}): descriptor {first} is not open").into());
    }
    Ok((count.min(NUMBERS_MAX), environment))
}

/// Which cgroups the container joins. Where the configuration names one, an engine looks for the
/// container in each hierarchy: for statistics, limits, events. Who mounts cgroups without a
/// namespace of their own looks there by the host's paths.
fn joined(spec: &Spec) -> Join {
    let Some(linux) = &spec.linux else { return Join::Needed };
    let named = linux.cgroups_path.as_deref().is_some_and(|path| !path.is_empty());
    let is_mounted = spec.mounts.iter().any(|mount| mount.kind.as_deref() == Some("cgroup"));
    let is_apart = linux.namespaces.iter().any(|namespace| namespace.kind == "cgroup");
    if named || (is_mounted && !is_apart) { Join::All } else { Join::Needed }
}

/// A container that could not be made, in the words that runc has for it: engines search them.
fn not_made(parsed: &Parsed, verb: &str, error: &hako_runtime::Error) -> Failure {
    let of_process = if error.is_of_process() { "unable to start container process: " } else { "" };
    let place = place(parsed, error.field());
    let chain = crate::log::chain(error);
    let message = format!("hako-runc {verb} failed: {of_process}{chain}{place}");
    Failure { message, status: 1 }
}

fn warn(context: &Context, plan: &Plan) {
    for warning in plan.warnings() {
        context.log.warn(warning);
    }
    if !context.log.is_debug() {
        return;
    }
    // The words of each line's beginning are runc's, for who searches its log.
    context.log.debug(&format!("nsexec container setup: {} steps", plan.steps().len()));
    for (step, field) in plan.preparations() {
        context.log.debug(&format!("{step} ({field})"));
    }
    for step in plan.steps() {
        context.log.debug(&format!("init: {step} ({})", step.field()));
    }
    if let Some(flags) = plan.seccomp_flags() {
        context.log.debug(&format!("seccomp filter flags: {flags}"));
    }
}

/// The program runs.
fn started(context: &Context) {
    context.log.debug("init: closing the pipe to signal completion");
}

/// The process is there.
fn made(context: &Context, pid: i32) {
    context.log.debug(&format!("child process in init(): process {pid}"));
}

/// What `exec` is about to do, as above.
fn trace_exec(context: &Context, process: &hako_oci::runtime::Process) {
    context.log.debug("nsexec container setup: join the container's namespaces");
    let cpus = process.exec_cpu_affinity.as_ref().and_then(|cpus| cpus.initial.as_deref());
    if let Some(mask) = cpus.and_then(mask) {
        context.log.debug(&format!("nsexec: affinity: {mask:#x}"));
    }
}

/// A list as `0,2-3`, as bits; none where it has more than these.
fn mask(list: &str) -> Option<u128> {
    let mut mask = 0u128;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        for n in first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()? {
            mask |= 1u128.checked_shl(n)?;
        }
    }
    Some(mask)
}

/// Files and sockets that are told of the process.
fn announce(parsed: &Parsed, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), Failure> {
    if let Some(path) = parsed.get("pid-file") {
        // Beside, then renamed: who waits for the file finds it whole.
        let path = Path::new(path);
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("pid");
        let beside = path.with_file_name(format!(".{name}"));
        std::fs::write(&beside, pid.to_string())
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|e| format!("write {}: {}", path.display(), hako_sys::Errno::of(&e)))?;
    }
    if let Some(path) = parsed.get("pidfd-socket") {
        let fail = |e| format!("send pidfd to {path}: {e}");
        let socket = std::os::unix::net::UnixStream::connect(path)
            .map_err(|e| fail(hako_sys::Errno::of(&e)))?;
        hako_sys::unix::send_with_fds(socket.as_fd(), b"pidfd", &[pidfd]).map_err(fail)?;
    }
    Ok(())
}

/// `create`.
pub(crate) fn create(context: &Context, parsed: &Parsed) -> Outcome {
    sealed::ensure()?;
    let id = parsed.id("create")?;
    let (bundle, mut spec) = load(parsed)?;
    let mut options = options(context, parsed, id)?;
    options.gate = Gate::Fifo;
    options.join_cgroups = joined(&spec);
    notify::prepare(&mut options, &mut spec);
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    check_console(parsed, terminal, true)?;
    let failed = |error| not_made(parsed, "create", &error);
    let plan = Plan::new(&spec, &bundle, &options).map_err(failed)?;
    warn(context, &plan);
    let created = hako_runtime::create(plan, Stdio::default()).map_err(failed)?;
    made(context, created.pid());
    announce(parsed, created.pid(), created.pidfd())?;
    created.leave();
    Ok(0)
}

fn check_console(parsed: &Parsed, terminal: bool, detach: bool) -> Result<(), Failure> {
    match (terminal, detach, parsed.get("console-socket")) {
        (true, true, None) => {
            Err("cannot allocate tty if runc will detach without setting console socket"
                .to_owned()
                .into())
        }
        (false, true, Some(_)) => {
            Err("cannot use console socket if runc will not detach or allocate tty"
                .to_owned()
                .into())
        }
        _ => Ok(()),
    }
}

/// `start`.
pub(crate) fn start(context: &Context, parsed: &Parsed) -> Outcome {
    let container = Container::load(&context.root, parsed.id("start")?)?;
    let mut notify = Notify::listen(&context.root, container.id(), container.pid())?;
    let process = container.process()?;
    container.start()?;
    if let (Some(notify), Some(process)) = (&mut notify, process) {
        notify.wait(process.as_fd())?;
    }
    Ok(0)
}

/// `run`.
pub(crate) fn run(context: &Context, parsed: &Parsed) -> Outcome {
    sealed::ensure()?;
    let id = parsed.id("run")?;
    let (bundle, mut spec) = load(parsed)?;
    let detach = parsed.has("detach");
    check_console(parsed, spec.process.as_ref().is_some_and(|p| p.terminal), detach)?;
    if let (false, Some(process)) = (detach, &mut spec.process) {
        foreground::take_size(process);
    }
    let mut options = options(context, parsed, id)?;
    options.join_cgroups = joined(&spec);
    notify::prepare(&mut options, &mut spec);
    options.record_seccomp = parsed.text("record-seccomp").map(PathBuf::from);
    if options.record_seccomp.is_some() && (detach || parsed.has("keep")) {
        let message = "--record-seccomp needs the end of the run: not with --detach or --keep";
        return Err(message.to_owned().into());
    }
    let failed = |error| not_made(parsed, "run", &error);
    let plan = Plan::new(&spec, &bundle, &options).map_err(failed)?;
    warn(context, &plan);
    // Before the process exists, or its end could be missed.
    let signals = Signals::block().map_err(|e| format!("block signals: {e}"))?;
    let created = hako_runtime::create(plan, Stdio::default()).map_err(failed)?;
    made(context, created.pid());
    announce(parsed, created.pid(), created.pidfd())?;
    let mut notify = Notify::listen(&context.root, id, created.pid())?;
    let mut running = created.start().map_err(failed)?;
    started(context);
    if detach {
        if let Some(notify) = &mut notify {
            notify.wait(running.pidfd())?;
        }
        running.leave();
        return Ok(0);
    }
    let console = running.take_console();
    let status = foreground::wait(&signals, running.pidfd(), console, notify)?;
    running.reaped();
    let recorder = running.take_recorder();
    if parsed.has("keep") {
        running.leave();
    } else {
        removed(context, running.delete())?;
    }
    // Now none of its processes is left.
    recorder.map_or(Ok(()), hako_runtime::Recorder::finish)?;
    Ok(status.code() as u8)
}

/// `exec`. What is not the program's own exit status is 255, as runc has it.
pub(crate) fn exec(context: &Context, parsed: &Parsed) -> Outcome {
    executed(context, parsed).map_err(|failure| Failure { status: 255, ..failure })
}

fn executed(context: &Context, parsed: &Parsed) -> Outcome {
    sealed::ensure()?;
    let [id, command @ ..] = parsed.positional.as_slice() else {
        let message = "hako-runc: \"exec\" requires a minimum of 1 argument(s): container ID";
        return Err(message.to_owned().into());
    };
    let container = Container::load(&context.root, id)?;
    let mut process = match parsed.get("process") {
        Some(path) => {
            // A document is all of it: the flags for single fields say nothing.
            let file = File::open(path).map_err(|e| format!("open {path}: {e}"))?;
            serde_json::from_reader(std::io::BufReader::new(file))
                .map_err(|e| format!("{path}: {e}"))?
        }
        None if command.is_empty() => {
            return Err("exec failed: process args cannot be empty".to_owned().into());
        }
        None => exec_process(&container, parsed, command)?,
    };
    if parsed.has("tty") {
        process.terminal = true;
    }
    let detach = parsed.has("detach");
    check_console(parsed, process.terminal, detach)?;
    if !detach {
        foreground::take_size(&mut process);
    }
    let mut options = hako_runtime::ExecOptions {
        ignore_paused: parsed.has("ignore-paused"),
        ..hako_runtime::ExecOptions::default()
    };
    if parsed.has("clamp-limits") {
        options.refused_limits = RefusedLimits::Clamp;
    }
    if let Some(socket) = parsed.get("console-socket") {
        options.console = Console::Socket(PathBuf::from(socket));
    }
    options.cgroups = parsed.all("cgroup").filter(|c| !c.is_empty()).map(str::to_owned).collect();
    (options.preserve_fds, options.extra_env) = inherited(parsed)?;
    let signals = Signals::block().map_err(|e| format!("block signals: {e}"))?;
    trace_exec(context, &process);
    let mut running = match container.exec(&process, &options, Stdio::default()) {
        Ok(running) => running,
        Err(e) => {
            let of_process =
                if e.is_of_process() { "unable to start container process: " } else { "" };
            let message = format!("exec failed: {of_process}{}", crate::log::chain(&e));
            if !parsed.has("for-engine") {
                return Err(message.into());
            }
            crate::log::say(format_args!("OCI runtime {message}"));
            return Ok(u8::try_from(e.exit_code()).unwrap_or(u8::MAX));
        }
    };
    for warning in running.warnings() {
        context.log.warn(warning);
    }
    made(context, running.pid());
    context.log.debug("setns_init: about to exec");
    announce(parsed, running.pid(), running.pidfd())?;
    if detach {
        running.leave();
        return Ok(0);
    }
    let console = running.take_console();
    let status = foreground::wait(&signals, running.pidfd(), console, None)?;
    running.reaped();
    Ok(status.code() as u8)
}

/// The container's own process, changed by the flags.
fn exec_process(
    container: &Container,
    parsed: &Parsed,
    command: &[String],
) -> Result<hako_oci::runtime::Process, Failure> {
    let mut process = container.config()?.process.unwrap_or_default();
    process.terminal = false;
    process.console_size = None;
    process.args = command.to_vec();
    process.env.extend(parsed.all("env").map(str::to_owned));
    if let Some(cwd) = parsed.get("cwd") {
        process.cwd = cwd.to_owned();
    }
    if let Some(user) = parsed.get("user") {
        // Numbers only, and nothing that merely looks like some (CVE-2016-3697 and kin).
        let number = |s: &str| match s.parse::<u32>() {
            Ok(n) if n != u32::MAX && s.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            _ => Err(format!("user {user:?} is not UID or UID:GID in numbers")),
        };
        let (uid, gid) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
        process.user.uid = number(uid)?;
        if let Some(gid) = gid {
            process.user.gid = number(gid)?;
        }
    }
    for list in parsed.all("additional-gids") {
        for gid in list.split(',') {
            let gid =
                gid.trim().parse::<u32>().map_err(|_| format!("group {gid:?} is not a number"))?;
            process.user.additional_gids.push(gid);
        }
    }
    if let Some(label) = parsed.get("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    if let Some(profile) = parsed.get("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if parsed.has("no-new-privs") {
        process.no_new_privileges = true;
    }
    let caps: Vec<String> = parsed.all("cap").map(str::to_owned).collect();
    if !caps.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(caps.iter().cloned());
        }
        // Ambient only where it can be: what is inheritable (CVE-2022-29162).
        let inheritable = sets.inheritable.clone();
        sets.ambient.extend(caps.into_iter().filter(|c| inheritable.contains(c)));
    }
    Ok(process)
}

/// The containers that an ID, or with `--regex` a pattern, means.
fn chosen(context: &Context, parsed: &Parsed, id: &str) -> Result<Vec<String>, Failure> {
    if !parsed.has("regex") {
        return Ok(vec![id.to_owned()]);
    }
    let pattern = crate::pattern::Pattern::new(id).map_err(|e| format!("pattern {id:?}: {e}"))?;
    let listed = Container::list(&context.root)?;
    Ok(listed.into_iter().map(|l| l.id).filter(|id| pattern.matches(id)).collect())
}

/// `kill`.
pub(crate) fn kill(context: &Context, parsed: &Parsed) -> Outcome {
    let (id, name) = match parsed.positional.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        _ => return Err("kill needs a container ID and at most a signal".to_owned().into()),
    };
    let number = match name {
        "0" => 0,
        name => signal::parse(name).ok_or_else(|| format!("unknown signal {name:?}"))?,
    };
    for id in chosen(context, parsed, id)? {
        Container::load(&context.root, &id)?.kill(number, parsed.has("all"))?;
    }
    Ok(0)
}

/// `pause`.
pub(crate) fn pause(context: &Context, parsed: &Parsed) -> Outcome {
    Container::load(&context.root, parsed.id("pause")?)?.pause()?;
    Ok(0)
}

/// `resume`.
pub(crate) fn resume(context: &Context, parsed: &Parsed) -> Outcome {
    Container::load(&context.root, parsed.id("resume")?)?.resume()?;
    Ok(0)
}

/// `delete`.
pub(crate) fn delete(context: &Context, parsed: &Parsed) -> Outcome {
    let force = parsed.has("force");
    for id in chosen(context, parsed, parsed.id("delete")?)? {
        match hako_runtime::delete(&context.root, &id, force) {
            // What is gone needs no force.
            Err(hako_runtime::Error::NotFound(_)) if force => {}
            other => removed(context, other)?,
        }
    }
    Ok(0)
}

/// A poststop hook that failed is warned of: the container is gone all the same.
fn removed(context: &Context, result: hako_runtime::Result<()>) -> Result<(), hako_runtime::Error> {
    match result {
        Err(error @ hako_runtime::Error::Hook { kind: "poststop", .. }) => {
            context.log.warn(&crate::log::chain(&error));
            Ok(())
        }
        other => other,
    }
}

/// `monitor`: its first client is standard input.
pub(crate) fn monitor(_: &Context, parsed: &Parsed) -> Outcome {
    sealed::ensure()?;
    let dir = parsed.get("dir").ok_or("--dir is missing".to_owned())?;
    let first = hako_sys::process::dup_above(std::io::stdin().as_fd(), 3)
        .map_err(|e| format!("standard input: {e}"))?;
    hako_monitor::run(Path::new(dir), first)
        .map_err(|e| Failure { message: crate::log::chain(&e), status: 1 })?;
    Ok(0)
}
