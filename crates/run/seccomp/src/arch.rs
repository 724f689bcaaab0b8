//! Architectures: their names in a profile, what the kernel calls them, and their system calls.

use crate::syscalls::{CALLS, COLUMNS, NO, TABLE};

/// One architecture, or one calling convention of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // Their names say it all.
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Ppc,
    Ppc64,
    Ppc64le,
    S390,
    S390x,
    Riscv64,
    Loongarch64,
    Parisc,
    Parisc64,
    M68k,
    Sh,
    Sheb,
}

struct Facts {
    arch: Arch,
    /// As in a profile, after `SCMP_ARCH_`.
    name: &'static str,
    /// `AUDIT_ARCH_*` of linux/audit.h.
    audit: u32,
    /// Column of the table of system calls.
    column: usize,
    /// What its numbers are relative to.
    base: u32,
    /// Whether arguments are 32 bits wide.
    word32: bool,
    big_endian: bool,
}

/// Set in the number of every x32 call; the kernel reports x32 as x86_64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

#[rustfmt::skip]
const FACTS: [Facts; 23] = {
    use Arch::*;
    const fn f(arch: Arch, name: &'static str, audit: u32, column: usize, base: u32, word32: bool, big_endian: bool) -> Facts {
        Facts { arch, name, audit, column, base, word32, big_endian }
    }
    [
        f(X86_64,      "X86_64",      0xc000_003e, 0,  0,       false, false),
        f(X86,         "X86",         0x4000_0003, 1,  0,       true,  false),
        // Its registers are whole, and calls that it shares with x86_64 read all of them.
        f(X32,         "X32",         0xc000_003e, 2,  X32_BIT, false, false),
        f(Aarch64,     "AARCH64",     0xc000_00b7, 3,  0,       false, false),
        f(Arm,         "ARM",         0x4000_0028, 4,  0,       true,  false),
        f(Mips,        "MIPS",        0x0000_0008, 5,  4000,    true,  true),
        f(Mips64,      "MIPS64",      0x8000_0008, 6,  5000,    false, true),
        // Its registers hold 32-bit values with their sign extended.
        f(Mips64n32,   "MIPS64N32",   0xa000_0008, 7,  6000,    true,  true),
        f(Mipsel,      "MIPSEL",      0x4000_0008, 5,  4000,    true,  false),
        f(Mipsel64,    "MIPSEL64",    0xc000_0008, 6,  5000,    false, false),
        f(Mipsel64n32, "MIPSEL64N32", 0xe000_0008, 7,  6000,    true,  false),
        f(Ppc,         "PPC",         0x0000_0014, 8,  0,       true,  true),
        f(Ppc64,       "PPC64",       0x8000_0015, 9,  0,       false, true),
        f(Ppc64le,     "PPC64LE",     0xc000_0015, 9,  0,       false, false),
        f(S390,        "S390",        0x0000_0016, 10, 0,       true,  true),
        f(S390x,       "S390X",       0x8000_0016, 11, 0,       false, true),
        f(Riscv64,     "RISCV64",     0xc000_00f3, 12, 0,       false, false),
        f(Loongarch64, "LOONGARCH64", 0xc000_0102, 13, 0,       false, false),
        f(Parisc,      "PARISC",      0x0000_000f, 14, 0,       true,  true),
        f(Parisc64,    "PARISC64",    0x8000_000f, 15, 0,       false, true),
        f(M68k,        "M68K",        0x0000_0004, 16, 0,       true,  true),
        f(Sh,          "SH",          0x4000_002a, 17, 0,       true,  false),
        f(Sheb,        "SHEB",        0x0000_002a, 17, 0,       true,  true),
    ]
};

// `facts()` indexes by discriminant.
const _: () = {
    let mut i = 0;
    while i < FACTS.len() {
        assert!(FACTS[i].arch as usize == i && FACTS[i].column < COLUMNS);
        i += 1;
    }
};

impl Arch {
    /// Every architecture.
    pub fn all() -> impl Iterator<Item = Arch> {
        FACTS.iter().map(|f| f.arch)
    }

    /// The one this program was compiled for; `None` where seccomp knows it not.
    pub const fn native() -> Option<Arch> {
        let big = cfg!(target_endian = "big");
        Some(if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
            Arch::X86_64
        } else if cfg!(target_arch = "x86_64") {
            Arch::X32
        } else if cfg!(target_arch = "x86") {
            Arch::X86
        } else if cfg!(target_arch = "aarch64") && !big {
            Arch::Aarch64
        } else if cfg!(target_arch = "arm") && !big {
            Arch::Arm
        } else if cfg!(target_arch = "powerpc64") {
            if big { Arch::Ppc64 } else { Arch::Ppc64le }
        } else if cfg!(target_arch = "powerpc") {
            Arch::Ppc
        } else if cfg!(target_arch = "s390x") {
            Arch::S390x
        } else if cfg!(target_arch = "riscv64") {
            Arch::Riscv64
        } else if cfg!(target_arch = "loongarch64") {
            Arch::Loongarch64
        } else if cfg!(target_arch = "mips64") {
            if big { Arch::Mips64 } else { Arch::Mipsel64 }
        } else if cfg!(target_arch = "mips") {
            if big { Arch::Mips } else { Arch::Mipsel }
        } else if cfg!(target_arch = "m68k") {
            Arch::M68k
        } else {
            return None;
        })
    }

    /// The one with this name, as `SCMP_ARCH_X86_64`.
    pub fn parse(name: &str) -> Option<Arch> {
        let name = name.strip_prefix("SCMP_ARCH_")?;
        FACTS.iter().find(|f| f.name == name).map(|f| f.arch)
    }

    /// Its name, as `SCMP_ARCH_X86_64`.
    pub fn name(self) -> String {
        format!("SCMP_ARCH_{}", self.facts().name)
    }

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// What the kernel puts into `seccomp_data.arch`.
    pub fn audit(self) -> u32 {
        self.facts().audit
    }

    /// Whether its arguments are 32 bits wide.
    pub(crate) fn word32(self) -> bool {
        self.facts().word32
    }

    /// Whether the high word of an argument comes first in memory.
    pub(crate) fn big_endian(self) -> bool {
        self.facts().big_endian
    }

    /// What its system call numbers start from.
    pub(crate) fn base(self) -> u32 {
        self.facts().base
    }
}

/// A system call that some architecture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call(u16);

// What is linked in: no pointers, so that a static-PIE program relocates nothing at its start.
const NAMES_LEN: usize = {
    let (mut i, mut sum) = (0, 0);
    while i < CALLS {
        sum += TABLE[i].0.len();
        i += 1;
    }
    sum
};
static NAMES: [u8; NAMES_LEN] = {
    let mut names = [0; NAMES_LEN];
    let (mut i, mut at) = (0, 0);
    while i < CALLS {
        let name = TABLE[i].0.as_bytes();
        let mut j = 0;
        while j < name.len() {
            names[at] = name[j];
            (at, j) = (at + 1, j + 1);
        }
        i += 1;
    }
    names
};
static STARTS: [u16; CALLS + 1] = {
    let mut starts = [0; CALLS + 1];
    let mut i = 0;
    while i < CALLS {
        starts[i + 1] = starts[i] + TABLE[i].0.len() as u16;
        i += 1;
    }
    starts
};
static NARROW: [u8; CALLS] = {
    let mut narrow = [0; CALLS];
    let mut i = 0;
    while i < CALLS {
        narrow[i] = TABLE[i].1;
        i += 1;
    }
    narrow
};
static NUMBERS: [[u16; COLUMNS]; CALLS] = {
    let mut numbers = [[0; COLUMNS]; CALLS];
    let mut i = 0;
    while i < CALLS {
        numbers[i] = TABLE[i].2;
        i += 1;
    }
    numbers
};

/// Calls that some 32-bit architectures make through `socketcall` or `ipc`, the first argument
/// being their number there.
const MULTIPLEXED: [(&str, &[(u8, &str)]); 2] = [
    (
        "socketcall",
        &[
            (1, "socket"),
            (2, "bind"),
            (3, "connect"),
            (4, "listen"),
            (5, "accept"),
            (6, "getsockname"),
            (7, "getpeername"),
            (8, "socketpair"),
            (9, "send"),
            (10, "recv"),
            (11, "sendto"),
            (12, "recvfrom"),
            (13, "shutdown"),
            (14, "setsockopt"),
            (15, "getsockopt"),
            (16, "sendmsg"),
            (17, "recvmsg"),
            (18, "accept4"),
            (19, "recvmmsg"),
            (20, "sendmmsg"),
        ],
    ),
    (
        "ipc",
        &[
            (1, "semop"),
            (2, "semget"),
            (3, "semctl"),
            (4, "semtimedop"),
            (11, "msgsnd"),
            (12, "msgrcv"),
            (13, "msgget"),
            (14, "msgctl"),
            (21, "shmat"),
            (22, "shmdt"),
            (23, "shmget"),
            (24, "shmctl"),
        ],
    ),
];

/// For each call: the row of [`MULTIPLEXED`] and its number there, the number 0 meaning none.
static THROUGH: [(u8, u8); CALLS] = {
    let mut through = [(0, 0); CALLS];
    let mut row = 0;
    while row < MULTIPLEXED.len() {
        let calls = MULTIPLEXED[row].1;
        let mut i = 0;
        while i < calls.len() {
            through[position(calls[i].1)] = (row as u8, calls[i].0);
            i += 1;
        }
        row += 1;
    }
    through
};

const MULTIPLEXERS: [Call; 2] =
    [Call(position(MULTIPLEXED[0].0) as u16), Call(position(MULTIPLEXED[1].0) as u16)];

/// Where a call stands in the table, at compile time.
const fn position(name: &str) -> usize {
    let mut i = 0;
    while i < CALLS {
        let (have, want) = (TABLE[i].0.as_bytes(), name.as_bytes());
        let mut j = 0;
        while j < have.len() && j < want.len() && have[j] == want[j] {
            j += 1;
        }
        if j == have.len() && j == want.len() {
            return i;
        }
        i += 1;
    }
    panic!("not in the table");
}

impl Call {
    /// Every call.
    pub fn all() -> impl Iterator<Item = Call> {
        (0..CALLS as u16).map(Call)
    }

    /// The call with this name.
    pub fn find(name: &str) -> Option<Call> {
        let (mut low, mut high) = (0, CALLS);
        while low < high {
            let mid = (low + high) / 2;
            match name.as_bytes().cmp(Call(mid as u16).bytes()) {
                std::cmp::Ordering::Less => high = mid,
                std::cmp::Ordering::Greater => low = mid + 1,
                std::cmp::Ordering::Equal => return Some(Call(mid as u16)),
            }
        }
        None
    }

    /// The call with this name; fast where it comes soon after `previous`, as in sorted lists.
    pub(crate) fn find_after(name: &str, previous: Call) -> Option<Call> {
        let start = usize::from(previous.0) + 1;
        let end = (start + 4).min(CALLS);
        (start..end)
            .map(|i| Call(i as u16))
            .find(|c| c.bytes() == name.as_bytes())
            .or_else(|| Call::find(name))
    }

    fn bytes(self) -> &'static [u8] {
        let i = usize::from(self.0);
        &NAMES[usize::from(STARTS[i])..usize::from(STARTS[i + 1])]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// Its number on `arch`, as the kernel reports it; `None` where it is not there.
    pub fn number(self, arch: Arch) -> Option<u32> {
        match NUMBERS[usize::from(self.0)][arch.facts().column] {
            NO => None,
            private @ 0xf000.. => Some(0x000f_0000 + u32::from(private - 0xf000)),
            number => Some(arch.base() + u32::from(number)),
        }
    }

    /// The call that it is made through on some 32-bit architectures, and its number there.
    pub(crate) fn through(self) -> Option<(Call, u32)> {
        let (row, number) = THROUGH[usize::from(self.0)];
        (number != 0).then(|| (MULTIPLEXERS[usize::from(row)], u32::from(number)))
    }

    /// Whether the kernel cuts this argument to 32 bits before anything looks at it.
    pub fn is_narrow(self, argument: u32) -> bool {
        argument < 8 && NARROW[usize::from(self.0)] >> argument & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_found() {
        let all: Vec<_> = Call::all().collect();
        assert!(all.windows(2).all(|w| w[0].bytes() < w[1].bytes()));
        for call in all {
            assert_eq!(Call::find(call.name()), Some(call));
        }
        assert_eq!(Call::find("no_such_call"), None);
        assert_eq!(Call::find(""), None);
        for arch in Arch::all() {
            assert_eq!(Arch::parse(&arch.name()), Some(arch));
        }
    }

    #[test]
    fn numbers_of_a_few_calls() {
        use Arch::*;
        let cases = [
            ("read", X86_64, Some(0)),
            ("execve", X86_64, Some(59)),
            ("execve", X32, Some(X32_BIT + 520)),
            ("read", X32, Some(X32_BIT)),
            ("socket", X86, Some(359)),
            ("openat", Aarch64, Some(56)),
            ("open", Aarch64, None),
            ("read", Mips, Some(4003)),
            ("read", Mipsel64, Some(5000)),
            ("read", Mips64n32, Some(6000)),
            ("set_tls", Arm, Some(0x000f_0005)),
            ("set_tls", Aarch64, None),
            ("clone3", Riscv64, Some(435)),
            ("clone3", Mips, Some(4435)),
        ];
        for (name, arch, number) in cases {
            assert_eq!(Call::find(name).and_then(|c| c.number(arch)), number, "{name} {arch:?}");
        }
        if Arch::native() == Some(X86_64) {
            assert_eq!(Call::find("getpid").and_then(|c| c.number(X86_64)), Some(39));
        }
    }

    #[test]
    fn narrow_arguments_are_those_the_kernel_takes_as_int() {
        let call = |name| Call::find(name).unwrap();
        assert!(call("socket").is_narrow(0) && call("socket").is_narrow(2));
        assert!(call("personality").is_narrow(0));
        assert!(!call("clone").is_narrow(0));
        assert!(call("ioctl").is_narrow(1) && !call("ioctl").is_narrow(2));
        assert!(!call("socket").is_narrow(6) && !call("socket").is_narrow(u32::MAX));
    }
}
