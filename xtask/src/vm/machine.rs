//! QEMU: one microvm without KVM, its console in a file, its report as lines.
//!
//! The processor is emulated (TCG), so that the same guest runs where there is no usable /dev/kvm.
//! `microvm` has no PCI and no BIOS to wait for; its timers must be named (`pit`, `pic`, `rtc`), and its clock's
//! rate given (`tsc_early_khz`, `lpj`), or the kernel waits for a reference that is not there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::error::{At, Error, Result, output};
use super::packages::Packages;
use super::report::{Progress, Report};

/// The version before which TCG's CMPXCHG16B without LOCK loses its flags: the guest kernel's allocator, which
/// relies on it where the processor says that it has one, then walks into nowhere, about once in ten boots.
const QEMU_CX16_SAFE: u32 = 8;

/// A QEMU that can be run.
pub(crate) struct Qemu {
    program: PathBuf,
    /// Set where QEMU is unpacked, not installed.
    unpacked: Option<PathBuf>,
    version: String,
}

impl Qemu {
    /// Takes `HAKO_QEMU`, else an installed one that is not old, else Debian's, unpacked into the cache, else
    /// whatever is installed.
    pub(crate) fn find(packages: &Packages) -> Result<Self> {
        if let Some(program) = std::env::var_os("HAKO_QEMU") {
            return Self::probe(program.into(), None);
        }
        let installed = Self::probe("qemu-system-x86_64".into(), None);
        match installed {
            Ok(found) if !found.is_old() => return Ok(found),
            _ => {}
        }
        // Half the processor time of the old one.
        let unpacked = packages
            .package_and_needed("qemu-system-x86", "bookworm-backports")
            .and_then(|root| Self::probe(root.join("usr/bin/qemu-system-x86_64"), Some(root)));
        unpacked.or_else(|error| installed.map_err(|_| error))
    }

    fn is_old(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_none_or(|major| major < QEMU_CX16_SAFE)
    }

    fn probe(program: PathBuf, unpacked: Option<PathBuf>) -> Result<Self> {
        let mut qemu = Self { program, unpacked, version: String::new() };
        let what = qemu.program.display().to_string();
        let unavailable = |why: String| Error::Unavailable { what: what.clone(), why };
        let done = qemu
            .command()
            .arg("--version")
            .output()
            .map_err(|error| unavailable(error.to_string()))?;
        if !done.status.success() {
            return Err(unavailable(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
        qemu.version = version
            .ok_or_else(|| unavailable(format!("does not tell its version: {}", text.trim())))?
            .to_owned();
        Ok(qemu)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    fn command(&self) -> Command {
        // An orphaned machine would burn a processor for as long as its guest likes.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program);
        if let Some(root) = &self.unpacked {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
                .map(|dir| root.join(dir).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(data));
            }
        }
        command
    }

    fn cpu(&self) -> &'static str {
        if self.is_old() { "Nehalem,-cx16" } else { "max" }
    }
}

/// One boot.
pub(crate) struct Machine<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    /// An ext4 image, for what the guest's memory is no stand-in for: upper directories, user xattrs, O_DIRECT.
    pub(crate) disk: &'a Path,
    pub(crate) memory_mib: u32,
    /// Where the console's and QEMU's words go.
    pub(crate) logs: &'a Path,
    pub(crate) seconds_max: u64,
    /// systemd is PID 1, not our own init.
    pub(crate) systemd: bool,
    /// SELinux is the security module with labels; init loads `/vm/selinux`.
    pub(crate) selinux: bool,
}

/// Kernel parameters: v2 only, a panic ends the machine, a few huge pages, the clock as said above. Nobody attacks
/// this processor, and what guards against that costs a tenth of the time.
const KERNEL_PARAMETERS: &str = "console=ttyS0 quiet panic=-1 mitigations=off cgroup_no_v1=all hugepagesz=2M hugepages=16 \
     tsc_early_khz=2600000 lpj=10400000";
const SYSTEMD_PARAMETERS: &str = "hako.systemd systemd.unified_cgroup_hierarchy=1 systemd.unit=jobs.service systemd.show_status=no";

const SELINUX_PARAMETERS: &str = "lsm=lockdown,yama,landlock,selinux,bpf";

impl Machine<'_> {
    fn command(&self, words: &str) -> Command {
        let mut parameters = vec![KERNEL_PARAMETERS, words];
        if self.systemd {
            parameters.push(SYSTEMD_PARAMETERS);
        }
        if self.selinux {
            parameters.push(SELINUX_PARAMETERS);
        }
        let mut command = self.qemu.command();
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-M", "microvm,pit=on,pic=on,rtc=on", "-accel", "tcg,thread=multi"])
            // Two processors: one alone has nothing for cpuset to choose from.
            .args(["-cpu", self.qemu.cpu(), "-smp", "2"])
            .args(["-m", &self.memory_mib.to_string()])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initrd)
            .args(["-append", &parameters.join(" ")])
            // What the guest writes is gone with it.
            .arg("-drive")
            .arg(format!(
                "if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file={}",
                self.disk.display()
            ))
            .args(["-device", "virtio-blk-device,drive=disk"]);
        command
    }

    /// Boots, feeds the report until the guest is done, and ends the machine.
    pub(crate) fn run(&self, report: &mut Report<'_>) -> Result<Times> {
        let console = self.logs.join("console.log");
        let words = self.logs.join("qemu.log");
        fs::create_dir_all(self.logs).at("mkdir", self.logs)?;
        let mut command = self.command("");
        command
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-device", "virtio-serial-device"])
            // Not "stdio": an input at its end counts as a closed line, and QEMU drops what the guest writes.
            .args(["-chardev", "file,id=report,path=/dev/stdout"])
            .args(["-device", "virtserialport,chardev=report,name=hako"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&words).at("create", &words)?);
        let mut child = command.spawn().at("run", &self.qemu.program)?;
        let lines = read_lines(&mut child);
        let outcome = self.follow(&lines, report);
        report.lost();
        // Dead or alive, the machine has nothing more to say.
        let ended = child.kill().and_then(|()| child.wait());
        match outcome {
            Ok(times) => ended.at("end", &self.qemu.program).map(|_| times),
            Err(what) => Err(Error::Guest { what, console: tails(&[&words, &console]) }),
        }
    }

    fn follow(
        &self,
        lines: &Receiver<String>,
        report: &mut Report<'_>,
    ) -> std::result::Result<Times, String> {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(self.seconds_max);
        let mut times = Times::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => match report.line(&line) {
                    Progress::Booted { release } => {
                        times.boot = start.elapsed();
                        println!("vm: Linux {release} booted in {:.1} s", times.boot.as_secs_f64());
                    }
                    Progress::Done => {
                        times.whole = start.elapsed();
                        return Ok(times);
                    }
                    Progress::Began | Progress::Ended | Progress::Output => {}
                },
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("was not done within {} s", self.seconds_max));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("ended before it was done".to_owned());
                }
            }
        }
    }

    /// Boots with a shell on this terminal.
    pub(crate) fn shell(&self) -> Result<()> {
        let mut command = self.command("hako.shell");
        command.args(["-device", "virtio-serial-device", "-serial", "mon:stdio"]);
        let status = command.status().at("run", &self.qemu.program)?;
        println!("vm: QEMU ended: {status}");
        Ok(())
    }
}

/// Makes the guest's disk, once per cache.
pub(crate) fn ensure_disk(cache: &Path) -> Result<PathBuf> {
    let disk = cache.join("disk.ext4");
    if !disk.exists() {
        let staged = cache.join("disk.new");
        let file = File::create(&staged).at("create", &staged)?;
        file.set_len(DISK_BYTES).at("ftruncate", &staged)?;
        output(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&staged))
            .map_err(|error| Error::Unavailable {
                what: "the guest's disk".to_owned(),
                why: error.to_string(),
            })?;
        fs::rename(&staged, &disk).at("rename", &disk)?;
    }
    Ok(disk)
}

/// Sparse: only what is written takes space.
const DISK_BYTES: u64 = 4 << 30;

/// How long the guest took.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) boot: Duration,
    pub(crate) whole: Duration,
}

/// Lines of the child's output as they come; a closed channel means that it ended.
fn read_lines(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    if let Some(out) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = Vec::new();
            while out.read_until(b'\n', &mut line).is_ok_and(|size| size > 0) {
                let text = String::from_utf8_lossy(&line);
                if sender.send(text.trim_end_matches(['\n', '\r']).to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
    }
    lines
}

fn tails(logs: &[&Path]) -> String {
    let mut text = String::new();
    for log in logs {
        let content = fs::read(log).unwrap_or_default();
        let content = String::from_utf8_lossy(&content);
        let lines: Vec<&str> = content.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(40)..] {
            text.push_str(&format!("    {}\n", line.trim_end()));
        }
    }
    text
}
