//! Device access in cgroup v2: a policy compiled to an eBPF program of type CGROUP_DEVICE.
//!
//! The program gets the kind and access that are asked for, and the device's numbers, and returns
//! 1 to grant. What loading costs is the kernel's check of every instruction on every path (3 µs
//! each), so the program is kept small: devices of one major number and access are one piece, their
//! minor numbers a bit map where they are small, and all pieces share two endings.

use hako_sys::bpf::Insn;

use crate::devices::{Access, Exception, Kind, Policy};

// linux/bpf_common.h, linux/bpf.h.
const LDX_MEM_W: u8 = 0x61;
const ALU_AND_K: u8 = 0x54;
const ALU_RSH_K: u8 = 0x74;
const ALU_RSH_X: u8 = 0x7c;
const ALU_MOV_K: u8 = 0xb4;
const ALU_MOV_X: u8 = 0xbc;
const JA: u8 = 0x05;
const JEQ_K: u8 = 0x15;
const JGT_K: u8 = 0x25;
const JNE_K: u8 = 0x55;
const EXIT: u8 = 0x95;

const R0: u8 = 0;
/// Points at `struct bpf_cgroup_dev_ctx` { access and kind, major, minor }.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Where a jump goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next piece.
    Next,
    /// The next kind of devices.
    NextKind,
    /// The ending for devices with an exception.
    Exception,
    /// The ending that grants, of ordered rules.
    Granted,
    /// The ending that refuses, of ordered rules.
    Refused,
}

impl To {
    fn opposite(self) -> To {
        if self == To::Granted { To::Refused } else { To::Granted }
    }
}

#[derive(Default)]
struct Writer {
    program: Vec<Insn>,
    /// Jumps whose target is not written yet.
    open: Vec<(usize, To)>,
}

impl Writer {
    fn op(&mut self, code: u8, destination: u8, source: u8, offset: i16, immediate: i32) {
        self.program.push(Insn::new(code, destination, source, offset, immediate));
    }

    fn jump(&mut self, code: u8, register: u8, value: u32, to: To) {
        self.open.push((self.program.len(), to));
        // Compared as 64 bits; device numbers are far below the sign bit.
        self.op(code, register, 0, 0, value as i32);
    }

    /// Lets the open jumps of this kind lead here.
    fn here(&mut self, to: To) {
        let end = self.program.len();
        let program = &mut self.program;
        self.open.retain(|&(at, jump)| {
            if jump == to {
                program[at].offset = (end - at - 1) as i16;
            }
            jump != to
        });
    }
}

/// The program for a policy.
pub fn compile(policy: &Policy) -> Vec<Insn> {
    let mut w = Writer::default();
    w.op(LDX_MEM_W, KIND, CONTEXT, 0, 0);
    w.op(ALU_MOV_X, ACCESS, KIND, 0, 0);
    w.op(ALU_RSH_K, ACCESS, 0, 0, 16);
    w.op(ALU_AND_K, KIND, 0, 0, 0xffff);
    w.op(LDX_MEM_W, MAJOR, CONTEXT, 4, 0);
    w.op(LDX_MEM_W, MINOR, CONTEXT, 8, 0);
    if policy.needs_order() {
        return ordered(w, policy);
    }
    for (kind, number) in [(Kind::Char, 2), (Kind::Block, 1)] {
        let exceptions: Vec<_> =
            policy.exceptions.iter().copied().filter(|e| e.kind == kind).collect();
        if exceptions.is_empty() {
            continue;
        }
        w.jump(JNE_K, KIND, number, To::NextKind);
        for piece in pieces(&exceptions) {
            write_piece(&mut w, &piece, policy.allow);
        }
        // No other kind can match.
        w.op(ALU_MOV_K, R0, 0, 0, i32::from(policy.allow));
        w.op(EXIT, 0, 0, 0, 0);
        w.here(To::NextKind);
    }
    w.op(ALU_MOV_K, R0, 0, 0, i32::from(policy.allow));
    w.op(EXIT, 0, 0, 0, 0);
    if w.open.iter().any(|o| o.1 == To::Exception) {
        w.here(To::Exception);
        w.op(ALU_MOV_K, R0, 0, 0, i32::from(!policy.allow));
        w.op(EXIT, 0, 0, 0, 0);
    }
    w.program
}

/// Rules in order: from the last to the first, each decides about the access that it names and that
/// none after it named.
fn ordered(mut w: Writer, policy: &Policy) -> Vec<Insn> {
    for (allow, rule) in policy.ordered.iter().rev() {
        let kind = match rule.kind {
            Kind::Block => 1,
            Kind::Char => 2,
        };
        w.jump(JNE_K, KIND, kind, To::Next);
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                w.jump(JNE_K, register, number, To::Next);
            }
        }
        if *allow {
            w.op(ALU_AND_K, ACCESS, 0, 0, !i32::from(rule.access));
            w.jump(JEQ_K, ACCESS, 0, To::Granted);
        } else {
            w.op(ALU_MOV_X, R0, ACCESS, 0, 0);
            w.op(ALU_AND_K, R0, 0, 0, i32::from(rule.access));
            w.jump(JNE_K, R0, 0, To::Refused);
        }
        w.here(To::Next);
    }
    for (to, grants) in [(To::Granted, true), (To::Refused, false)] {
        // What no rule decided falls into the ending of the default.
        let (to, grants) = if policy.allow { (to, grants) } else { (to.opposite(), !grants) };
        w.here(to);
        w.op(ALU_MOV_K, R0, 0, 0, i32::from(grants));
        w.op(EXIT, 0, 0, 0, 0);
    }
    w.program
}

/// Exceptions that differ in their minor numbers only.
struct Piece {
    major: Option<u32>,
    access: Access,
    minors: Vec<Option<u32>>,
}

fn pieces(exceptions: &[Exception]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for e in exceptions {
        match pieces.iter_mut().find(|p| (p.major, p.access) == (e.major, e.access)) {
            Some(piece) => piece.minors.push(e.minor),
            None => {
                let (major, access) = (e.major, e.access);
                pieces.push(Piece { major, access, minors: vec![e.minor] });
            }
        }
    }
    pieces
}

fn write_piece(w: &mut Writer, piece: &Piece, allow: bool) {
    const ALL: Access = 7;
    // How many bits a map in a 32-bit immediate has.
    const MAP: u32 = 32;
    let any = piece.minors.contains(&None);
    let tests_access = allow || piece.access != ALL;
    if let Some(major) = piece.major {
        if any && !tests_access {
            return w.jump(JEQ_K, MAJOR, major, To::Exception);
        }
        w.jump(JNE_K, MAJOR, major, To::Next);
    }
    if tests_access {
        w.op(ALU_MOV_X, R0, ACCESS, 0, 0);
        let (bits, applies, not) = if allow {
            // Refused when any of it is asked for.
            (piece.access, JNE_K, JEQ_K)
        } else {
            // Granted when nothing else is asked for.
            (ALL & !piece.access, JEQ_K, JNE_K)
        };
        w.op(ALU_AND_K, R0, 0, 0, i32::from(bits));
        if any {
            w.jump(applies, R0, 0, To::Exception);
            return w.here(To::Next);
        }
        w.jump(not, R0, 0, To::Next);
    } else if any {
        w.jump(JA, 0, 0, To::Exception);
        return w.here(To::Next);
    }
    let (small, large): (Vec<u32>, Vec<u32>) =
        piece.minors.iter().flatten().partition(|&&m| m < MAP);
    for minor in large {
        w.jump(JEQ_K, MINOR, minor, To::Exception);
    }
    match small[..] {
        [] => {}
        [one] => w.jump(JEQ_K, MINOR, one, To::Exception),
        _ => {
            let map = small.iter().fold(0u32, |map, m| map | 1 << m);
            w.jump(JGT_K, MINOR, MAP - 1, To::Next);
            w.op(ALU_MOV_K, R0, 0, 0, map as i32);
            w.op(ALU_RSH_X, R0, MINOR, 0, 0);
            w.op(ALU_AND_K, R0, 0, 0, 1);
            w.jump(JNE_K, R0, 0, To::Exception);
        }
    }
    w.here(To::Next);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{MKNOD, READ, WRITE};
    use hako_oci::runtime::DeviceCgroup;
    use proptest::prelude::*;

    /// Runs a program as the kernel does.
    fn run(program: &[Insn], kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let kind = if kind == Kind::Block { 1 } else { 2 };
        let context = [u32::from(access) << 16 | kind, major, minor];
        let (mut r, mut pc) = ([0u64; 6], 0);
        loop {
            let i = program[pc];
            let (low, high) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let (d, s) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
            pc += 1;
            let jump = |holds: bool| if holds { i.offset as usize } else { 0 };
            match i.code {
                LDX_MEM_W => r[d] = u64::from(context[i.offset as usize / 4]),
                ALU_AND_K => r[d] = u64::from(r[d] as u32 & i.immediate as u32),
                ALU_RSH_K => r[d] = u64::from(r[d] as u32 >> i.immediate),
                ALU_MOV_X => r[d] = u64::from(r[s] as u32),
                ALU_MOV_K => r[d] = u64::from(i.immediate as u32),
                ALU_RSH_X => r[d] = u64::from(r[d] as u32 >> r[s]),
                JA => pc += i.offset as usize,
                JGT_K => pc += jump(r[d] > i.immediate as u64),
                JEQ_K => pc += jump(r[d] == i.immediate as u64),
                JNE_K => pc += jump(r[d] != i.immediate as u64),
                EXIT => return r[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn rule() -> impl Strategy<Value = DeviceCgroup> {
        let number = || {
            prop_oneof![
                Just(None),
                Just(Some(-1i64)),
                (0i64..4).prop_map(Some),
                prop::sample::select(vec![31i64, 32, 63, 200]).prop_map(Some)
            ]
        };
        (any::<bool>(), prop::sample::select(vec!["a", "b", "c"]), number(), number(), "[rwm]{0,3}")
            .prop_map(|(allow, kind, major, minor, access)| {
                let (major, minor) = if kind == "a" { (None, None) } else { (major, minor) };
                DeviceCgroup {
                    allow,
                    kind: Some(kind.to_owned()),
                    major,
                    minor,
                    access: Some(access),
                }
            })
    }

    proptest! {
        #[test]
        fn program_does_what_the_policy_says(rules in prop::collection::vec(rule(), 0..12)) {
            let policy = Policy::new(&rules).unwrap();
            let program = compile(&policy);
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in [(0, 0), (1, 3), (2, 1), (3, 3), (3, 31), (3, 32), (1, 64), (2, 63), (31, 2), (5, 2), (136, 9), (10, 200)] {
                    for access in 1..8 {
                        prop_assert_eq!(
                            run(&program, kind, major, minor, access),
                            policy.permits(kind, major, minor, access),
                            "{:?} {}:{} {} {:?}", kind, major, minor, access, policy
                        );
                    }
                }
            }
        }
    }

    /// What the rules say about one access, read one by one.
    fn last_word(rules: &[DeviceCgroup], kind: Kind, major: u32, minor: u32, bit: Access) -> bool {
        let letter = match bit {
            MKNOD => 'm',
            READ => 'r',
            _ => 'w',
        };
        let mut granted = false;
        for rule in rules {
            let text = rule.access.as_deref().unwrap_or("");
            let number =
                |n: Option<i64>, have: u32| n.is_none_or(|n| n == -1 || n == i64::from(have));
            let about = match rule.kind.as_deref() {
                Some("b") => kind == Kind::Block,
                Some("c") => kind == Kind::Char,
                _ => {
                    granted = rule.allow;
                    continue;
                }
            };
            let named = text.contains(letter) || text.is_empty() && !rule.allow;
            if about && number(rule.major, major) && number(rule.minor, minor) && named {
                granted = rule.allow;
            }
        }
        let default = Policy::new(&[]).unwrap();
        let allows = rules.iter().rev().find(|r| r.kind.as_deref() == Some("a"));
        granted || !allows.is_some_and(|a| a.allow) && default.permits(kind, major, minor, bit)
    }

    proptest! {
        #[test]
        fn policy_is_the_last_word_of_the_rules(rules in prop::collection::vec(rule(), 0..12)) {
            let policy = Policy::new(&rules).unwrap();
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in [(0, 0), (1, 3), (2, 1), (3, 31), (31, 2), (10, 200)] {
                    for bit in [MKNOD, READ, WRITE] {
                        prop_assert_eq!(
                            policy.permits(kind, major, minor, bit),
                            last_word(&rules, kind, major, minor, bit),
                            "{:?} {}:{} {} {:?}", kind, major, minor, bit, policy
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_is_taken_back_in_v2_only() {
        let rule = |allow, minor| DeviceCgroup {
            allow,
            kind: Some("c".into()),
            major: Some(1),
            minor,
            access: Some("w".into()),
        };
        let policy = Policy::new(&[rule(true, None), rule(false, Some(11))]).unwrap();
        let program = compile(&policy);
        assert!(run(&program, Kind::Char, 1, 12, WRITE));
        assert!(!run(&program, Kind::Char, 1, 11, WRITE));
        assert!(run(&program, Kind::Char, 1, 3, READ | WRITE));
        assert_eq!(
            policy.v1_lines().unwrap_err().to_string(),
            "linux.resources.devices[1]: takes back a part of what a wider rule gave, which only cgroup v2 can"
        );
    }

    #[test]
    fn default_devices() {
        let policy = Policy::new(&[]).unwrap();
        let program = compile(&policy);
        assert!(program.len() <= 40, "{}", program.len());
        assert!(run(&program, Kind::Char, 1, 3, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!run(&program, Kind::Block, 8, 0, READ));
        assert!(!run(&program, Kind::Char, 10, 229, READ));
    }
}
