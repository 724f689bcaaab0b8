//! The compiled program against a direct reading of the profile.

use hako_oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use hako_sys::seccomp::action;
use proptest::prelude::*;

use crate::{Arch, Call, Insn, compile_for, words};

/// What a filter looks at.
#[derive(Debug, Clone, Copy)]
struct Data {
    arch: Arch,
    nr: u32,
    args: [u64; 6],
}

impl Data {
    /// The word at an offset of `struct seccomp_data`, as a machine of that architecture has it.
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch.audit(),
            16..64 if offset.is_multiple_of(4) => {
                let arg = self.args[(offset as usize - 16) / 8];
                let second = offset % 8 == 4;
                if second == self.arch.big_endian() { arg as u32 } else { (arg >> 32) as u32 }
            }
            _ => panic!("load from {offset}"),
        }
    }
}

/// Runs a program as the kernel does, refusing what the kernel's checker refuses. Returns the
/// result and how many instructions were executed.
fn run(program: &[Insn], data: &Data) -> (u32, usize) {
    assert!(!program.is_empty() && program.len() <= 4096);
    let (mut pc, mut a, mut steps) = (0, 0u32, 0);
    loop {
        let insn = program[pc];
        steps += 1;
        let jump = |holds: bool| usize::from(if holds { insn.jump_true } else { insn.jump_false });
        pc += 1;
        match insn.code {
            0x20 => a = data.word(insn.k),
            0x54 => a &= insn.k,
            0x05 => pc += insn.k as usize,
            0x15 => pc += jump(a == insn.k),
            0x25 => pc += jump(a > insn.k),
            0x35 => pc += jump(a >= insn.k),
            0x06 => return (insn.k, steps),
            code => panic!("instruction {code:#x}"),
        }
    }
}

fn action_value(word: &str, errno: Option<u32>) -> u32 {
    match word {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => action::KILL_PROCESS,
        "SCMP_ACT_TRAP" => action::TRAP,
        "SCMP_ACT_ERRNO" => action::ERRNO | errno.unwrap_or(1),
        "SCMP_ACT_TRACE" => action::TRACE | errno.unwrap_or(1),
        "SCMP_ACT_ALLOW" => action::ALLOW,
        "SCMP_ACT_LOG" => action::LOG,
        "SCMP_ACT_NOTIFY" => action::USER_NOTIF,
        _ => panic!("{word}"),
    }
}

/// Whether a comparison holds, on full 64-bit numbers or, where the kernel takes the argument as
/// 32 bits, on sign-extended ones when the profile's value is written as a negative 64-bit number.
fn holds(arch: Arch, call: Call, arg: &SeccompArg, args: &[u64; 6]) -> bool {
    let mut have = args[arg.index as usize];
    let want = if arg.op == "SCMP_CMP_MASKED_EQ" { arg.value_two } else { arg.value };
    let mask = if arg.op == "SCMP_CMP_MASKED_EQ" { arg.value } else { u64::MAX };
    if arch.word32() || call.is_narrow(arg.index) {
        have = u64::from(have as u32);
        let negative = want >> 32 != 0 && want >> 32 == mask >> 32 && want as u32 >> 31 == 1;
        if negative {
            // Compare in 32 bits.
            let (have, want) = (have as u32 & mask as u32, want as u32);
            return match arg.op.as_str() {
                "SCMP_CMP_EQ" => have == want,
                "SCMP_CMP_MASKED_EQ" => have == want & mask as u32 && arg.value_two & !mask == 0,
                "SCMP_CMP_NE" => have != want,
                "SCMP_CMP_LT" => have < want,
                "SCMP_CMP_LE" => have <= want,
                "SCMP_CMP_GT" => have > want,
                "SCMP_CMP_GE" => have >= want,
                op => panic!("{op}"),
            };
        }
    }
    match arg.op.as_str() {
        "SCMP_CMP_EQ" => have == want,
        "SCMP_CMP_MASKED_EQ" => have & mask == want,
        "SCMP_CMP_NE" => have != want,
        "SCMP_CMP_LT" => have < want,
        "SCMP_CMP_LE" => have <= want,
        "SCMP_CMP_GT" => have > want,
        "SCMP_CMP_GE" => have >= want,
        op => panic!("{op}"),
    }
}

const SOCKETCALL: &[&str] = &[
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

const IPC: &[(u32, &str)] = &[
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
];

/// What the profile says of a call, read rule by rule.
fn evaluate(native: Arch, profile: &Seccomp, data: &Data) -> u32 {
    let default = action_value(&profile.default_action, profile.default_errno_ret);
    let listed = |a: Arch| a == native || profile.architectures.contains(&a.name());
    let x86 = data.arch.audit() == Arch::X86_64.audit();
    let minus_one = x86 && data.nr == u32::MAX;
    let arch = match data.nr {
        u32::MAX if x86 => {
            if listed(Arch::X86_64) {
                Arch::X86_64
            } else {
                Arch::X32
            }
        }
        0x4000_0000.. if x86 => Arch::X32,
        _ if x86 => Arch::X86_64,
        _ => data.arch,
    };
    if !listed(arch) {
        return action::KILL_PROCESS;
    }
    // Rules that say the default again are not there.
    let rules: Vec<_> = profile
        .syscalls
        .iter()
        .map(|r| (action_value(&r.action, r.errno_ret), r))
        .filter(|(action, _)| *action != default)
        .collect();
    let here: Vec<Call> =
        Call::all().filter(|c| !minus_one && c.number(arch) == Some(data.nr)).collect();
    let names = |r: &SeccompRule, c: &Call| r.names.iter().any(|n| n == c.name());
    for (action, rule) in &rules {
        if rule.args.is_empty() && here.iter().any(|c| names(rule, c)) {
            return *action;
        }
    }
    let through = here.iter().find_map(|c| match c.name() {
        "socketcall" => SOCKETCALL.get((data.args[0] as u32).wrapping_sub(1) as usize).copied(),
        "ipc" => IPC.iter().find(|i| i.0 == data.args[0] as u32).map(|i| i.1),
        _ => None,
    });
    for (action, rule) in &rules {
        let either = {
            let mut seen = [0; 6];
            rule.args.iter().for_each(|a| seen[a.index as usize] += 1);
            seen.into_iter().any(|n| n > 1)
        };
        for call in here.iter().filter(|c| names(rule, c)) {
            let mut all = rule.args.iter().map(|a| holds(arch, *call, a, &data.args));
            if if either { all.any(|h| h) } else { all.all(|h| h) } {
                return *action;
            }
        }
        if let Some(name) = through
            && rule.names.iter().any(|n| n == name)
            && (rule.args.is_empty()
                || ((action & 0xffff_0000) as i32) < ((default & 0xffff_0000) as i32))
        {
            return *action;
        }
    }
    // ENOSYS for what is newer than all that the profile names.
    let permissive = [action::ALLOW, action::LOG, action::TRACE].contains(&(default & 0xffff_0000));
    let private = |n: u32| arch == Arch::Arm && (0xf0000..0xf0100).contains(&n);
    let newest = profile
        .syscalls
        .iter()
        .flat_map(|r| &r.names)
        .flat_map(|n| {
            // Who names a call knows what it is made through.
            let through = if SOCKETCALL.contains(&n.as_str()) {
                "socketcall"
            } else if IPC.iter().any(|i| i.1 == n) {
                "ipc"
            } else {
                ""
            };
            [n, through].map(|n| Call::find(n)?.number(arch))
        })
        .flatten()
        .filter(|&n| !private(n))
        .max();
    match newest {
        _ if permissive => default,
        _ if minus_one => action::ERRNO | 38,
        Some(newest) if data.nr > newest && !private(data.nr) => action::ERRNO | 38,
        _ => default,
    }
}

#[track_caller]
fn check(native: Arch, profile: &Seccomp, program: &[Insn], data: Data) -> usize {
    let (got, steps) = run(program, &data);
    let want = evaluate(native, profile, &data);
    assert_eq!(
        got, want,
        "{native:?} {data:x?}: program {got:#x}, profile {want:#x}\n{profile:#?}"
    );
    steps
}

fn arch() -> impl Strategy<Value = Arch> {
    prop::sample::select(Arch::all().collect::<Vec<_>>())
}

fn call_name() -> impl Strategy<Value = String> {
    let all: Vec<_> = Call::all().map(|c| c.name().to_owned()).collect();
    prop_oneof![
        // Few names, so that rules meet; among them the multiplexed ones.
        8 => prop::sample::select(vec![
            "read", "write", "socket", "socketcall", "ipc", "semop", "clone", "personality",
            "set_tls", "shmctl", "execve", "bind", "ioctl", "no_such_call",
        ]).prop_map(str::to_owned),
        4 => prop::sample::select(all),
    ]
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..30,
        2 => prop::sample::select(vec![
            u64::MAX, u64::MAX - 1, u64::from(u32::MAX), 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63,
            0xffff_ffff_0000_0000, 0xffff_ffff_8000_0000, 0xffff_ffff_7fff_ffff, 0x7e02_0000,
        ]),
        1 => any::<u64>(),
    ]
}

fn action_word() -> impl Strategy<Value = String> {
    prop::sample::select(words::actions().filter(|a| *a != "SCMP_ACT_NOTIFY").collect::<Vec<_>>())
        .prop_map(str::to_owned)
}

prop_compose! {
    fn condition()(index in 0u32..6, value in value(), value_two in value(),
        op in prop::sample::select(words::operators().collect::<Vec<_>>()), sensible: bool)
    -> SeccompArg {
        let value_two = if sensible { value_two & value } else { value_two };
        SeccompArg { index, value, value_two, op: op.to_owned() }
    }
}

prop_compose! {
    fn rule()(names in prop::collection::vec(call_name(), 1..4), action in action_word(),
        errno_ret in prop::option::of(0u32..4096),
        args in prop_oneof![Just(vec![]), prop::collection::vec(condition(), 1..3)])
    -> SeccompRule {
        SeccompRule { names, action, errno_ret, args }
    }
}

prop_compose! {
    fn any_profile()(default_action in action_word(), default_errno_ret in prop::option::of(0u32..4096),
        arches in prop::collection::vec(arch(), 0..5), syscalls in prop::collection::vec(rule(), 0..14))
    -> Seccomp {
        Seccomp {
            default_action, default_errno_ret, syscalls,
            architectures: arches.into_iter().map(Arch::name).collect(),
            ..Seccomp::default()
        }
    }
}

/// Values around those that the profile compares with.
fn args_near(profile: &Seccomp, picks: &[(u16, u8); 6], noise: [u64; 6]) -> [u64; 6] {
    let values: Vec<u64> = profile
        .syscalls
        .iter()
        .flat_map(|r| &r.args)
        .flat_map(|a| [a.value, a.value_two])
        .collect();
    std::array::from_fn(|i| {
        let (pick, how) = picks[i];
        if values.is_empty() {
            return noise[i];
        }
        let value = values[usize::from(pick) % values.len()];
        match how % 9 {
            0 | 1 => value,
            2 => value.wrapping_add(1),
            3 => value.wrapping_sub(1),
            4 => value & 0xffff_ffff,
            5 => value ^ (1 << 32),
            6 => value | noise[i],
            7 => noise[i] % 30,
            _ => noise[i],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn program_does_what_the_profile_says(
        native in arch(),
        profile in any_profile(),
        probes in prop::collection::vec(
            (any::<u16>(), any::<u16>(), any::<[(u16, u8); 6]>(), any::<[u64; 6]>(), any::<u8>()), 40),
    ) {
        let program = compile_for(native, &profile).unwrap().filter;
        let arches: Vec<Arch> = std::iter::once(native)
            .chain(profile.architectures.iter().filter_map(|a| Arch::parse(a))).collect();
        let names: Vec<Call> = profile.syscalls.iter().flat_map(|r| &r.names)
            .filter_map(|n| Call::find(n))
            .chain(["socketcall", "ipc", "read"].iter().filter_map(|n| Call::find(n))).collect();
        let all: Vec<Arch> = Arch::all().collect();
        for (which, name, picks, noise, how) in probes {
            let arch = match how % 8 {
                0 => all[usize::from(which) % all.len()],
                _ => arches[usize::from(which) % arches.len()],
            };
            let number = names[usize::from(name) % names.len()].number(arch);
            let nr = match (how / 8) % 8 {
                0 => noise[0] as u32 % 600 + arch.base(),
                1 => noise[0] as u32,
                2 => number.unwrap_or(0).wrapping_add(1),
                3 => number.unwrap_or(0).wrapping_sub(1),
                _ => number.unwrap_or(u32::MAX),
            };
            let mut args = args_near(&profile, &picks, noise);
            if arch.word32() {
                // The kernel reports 32-bit arguments so.
                args = args.map(|a| a & 0xffff_ffff);
            }
            check(native, &profile, &program, Data { arch, nr, args });
        }
    }
}

/// A profile with rules for every call of every architecture.
fn everything() -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        architectures: Arch::all().map(Arch::name).collect(),
        syscalls: vec![SeccompRule {
            // Every other one, so that no two are one range.
            names: Call::all().step_by(2).map(|c| c.name().to_owned()).collect(),
            action: "SCMP_ACT_ALLOW".into(),
            ..SeccompRule::default()
        }],
        ..Seccomp::default()
    }
}

#[test]
fn every_number_of_every_architecture() {
    let mut profile = everything();
    for chunk in [&[][..], &["X86_64", "X86", "X32", "ARM", "AARCH64", "MIPS", "MIPS64N32"]] {
        profile.architectures = chunk.iter().map(|a| format!("SCMP_ARCH_{a}")).collect();
        for native in [Arch::X86_64, Arch::X32, Arch::Arm, Arch::Mips64, Arch::S390x] {
            let program = compile_for(native, &profile).unwrap().filter;
            for arch in Arch::all() {
                let extra = [0, 0x3fff_ffff, u32::MAX - 1, u32::MAX, 0xf0000, 0xf0005, 0xf0100];
                for nr in (arch.base()..arch.base() + 600).chain(extra) {
                    check(native, &profile, &program, Data { arch, nr, args: [0; 6] });
                }
            }
        }
    }
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    match compile_for(Arch::X86_64, &everything()) {
        Err(crate::Error::TooLong { instructions, max }) => assert!(instructions > max),
        other => panic!("{other:?}"),
    }
}

#[test]
fn decides_in_few_steps() {
    let mut profile = everything();
    profile.architectures.clear();
    let program = compile_for(Arch::X86_64, &profile).unwrap().filter;
    for nr in 0..600 {
        let steps =
            check(Arch::X86_64, &profile, &program, Data { arch: Arch::X86_64, nr, args: [0; 6] });
        // Load, architecture, load, log2 of about 250 ranges, return.
        assert!(steps <= 3 + 9 + 1, "{nr}: {steps}");
    }
}

fn lecture(json: &str) -> (Seccomp, Vec<Insn>) {
    let profile: Seccomp = serde_json::from_str(json).unwrap();
    let program = compile_for(Arch::X86_64, &profile).unwrap().filter;
    (profile, program)
}

#[test]
fn kill_is_forbidden_and_all_else_allowed() {
    let (_, program) = lecture(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO"}]}"#,
    );
    let result = |arch, nr| run(&program, &Data { arch, nr, args: [0; 6] }).0;
    assert_eq!(result(Arch::X86_64, 62), action::ERRNO | 1);
    assert_eq!(result(Arch::X86_64, 61), action::ALLOW);
    assert_eq!(result(Arch::X86_64, 500), action::ALLOW);
    // Neither of these architectures was asked for; the x32 number of kill is no way around.
    assert_eq!(result(Arch::X86, 37), action::KILL_PROCESS);
    assert_eq!(result(Arch::X86_64, 0x4000_0000 + 62), action::KILL_PROCESS);
}

#[test]
fn high_bits_that_the_kernel_drops_do_not_help() {
    // Docker's way to forbid AF_ALG (38) and AF_VSOCK (40).
    let rule = |op: &str, value| {
        format!(
            r#"{{"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_{op}"}}]}}"#
        )
    };
    let (_, program) = lecture(&format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}, {}, {}]}}"#,
        rule("LT", 38),
        rule("EQ", 39),
        rule("GT", 40)
    ));
    let socket = |family: u64| {
        run(&program, &Data { arch: Arch::X86_64, nr: 41, args: [family, 0, 0, 0, 0, 0] }).0
    };
    for high in [0, 1 << 32, 0xffff_ffff_0000_0000] {
        assert_eq!(socket(high | 2), action::ALLOW);
        assert_eq!(socket(high | 38), action::ERRNO | 1);
        assert_eq!(socket(high | 39), action::ALLOW);
        assert_eq!(socket(high | 40), action::ERRNO | 1);
        assert_eq!(socket(high | 41), action::ALLOW);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    let cases = [
        (r#"{"defaultAction": "ALLOW"}"#, r#"linux.seccomp.defaultAction: unknown action "ALLOW""#),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}"#,
            r#"linux.seccomp.architectures[0]: unknown architecture "SCMP_ARCH_Z80""#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#,
            r#"linux.seccomp.flags[0]: unknown flag "X""#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}"#,
            "linux.seccomp.syscalls[0].names: is empty",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}]}"#,
            "linux.seccomp.syscalls[0].action: errnoRet 4096 is more than 4095",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "linux.seccomp.syscalls[0].args[0].index: 6 is not 0 to 5",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{"index": 0, "value": 0, "op": "EQ"}]}]}"#,
            r#"linux.seccomp.syscalls[0].args[0].op: unknown operator "EQ""#,
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "linux.seccomp.listenerPath: is needed, because a rule has SCMP_ACT_NOTIFY",
        ),
    ];
    for (json, message) in cases {
        let profile: Seccomp = serde_json::from_str(json).unwrap();
        assert_eq!(compile_for(Arch::X86_64, &profile).unwrap_err().to_string(), message);
    }
}

#[test]
fn names_of_nothing_are_left_out_and_told() {
    let profile: Seccomp = serde_json::from_str(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["nope", "kill", "nope"], "action": "SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    assert_eq!(compile_for(Arch::X86_64, &profile).unwrap().unknown, ["nope"]);
}

#[test]
fn flags_and_listener_are_carried() {
    use hako_sys::seccomp::{FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC};
    let compile = |json: &str| {
        compile_for(Arch::X86_64, &serde_json::from_str::<Seccomp>(json).unwrap()).unwrap()
    };
    assert_eq!(compile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).flags, FLAG_SPEC_ALLOW);
    let program = compile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW",
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]}"#,
    );
    assert_eq!(program.flags, FLAG_TSYNC | FLAG_LOG);
    assert!(!program.notifies());
    let program = compile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x", "listenerMetadata": "m",
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    assert_eq!(program.flags, FLAG_LOG | FLAG_NEW_LISTENER);
    assert!(program.notifies());
    assert_eq!(program.listener_path.as_deref(), Some("/run/x"));
    assert_eq!(program.listener_metadata.as_deref(), Some("m"));
}
