//! Device access in cgroup v2: a policy compiled to an eBPF program of type CGROUP_DEVICE.
//!
//! The program gets the kind and access that are asked for, and the device's numbers, and returns
//! 1 to grant. It is a straight list of comparisons, one piece an exception.

use hako_sys::bpf::Insn;

use crate::devices::{Access, Exception, Kind, Policy};

// linux/bpf_common.h, linux/bpf.h.
const LDX_MEM_W: u8 = 0x61;
const ALU_AND_K: u8 = 0x54;
const ALU_RSH_K: u8 = 0x74;
const MOV_X: u8 = 0xbc;
const MOV64_K: u8 = 0xb7;
const JEQ_K: u8 = 0x15;
const JNE_K: u8 = 0x55;
const EXIT: u8 = 0x95;

const R0: u8 = 0;
/// Points at `struct bpf_cgroup_dev_ctx` { access and kind, major, minor }.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Insn {
    Insn::new(code, destination, source, offset, immediate)
}

/// The program for a policy.
pub fn compile(policy: &Policy) -> Vec<Insn> {
    let mut program = vec![
        op(LDX_MEM_W, KIND, CONTEXT, 0, 0),
        op(MOV_X, ACCESS, KIND, 0, 0),
        op(ALU_RSH_K, ACCESS, 0, 0, 16),
        op(ALU_AND_K, KIND, 0, 0, 0xffff),
        op(LDX_MEM_W, MAJOR, CONTEXT, 4, 0),
        op(LDX_MEM_W, MINOR, CONTEXT, 8, 0),
    ];
    for exception in &policy.exceptions {
        piece(&mut program, exception, policy.allow);
    }
    program.push(op(MOV64_K, R0, 0, 0, i32::from(policy.allow)));
    program.push(op(EXIT, 0, 0, 0, 0));
    program
}

/// Returns the opposite of the default when the exception applies.
fn piece(program: &mut Vec<Insn>, e: &Exception, allow: bool) {
    let mut piece = Vec::with_capacity(8);
    let kind = match e.kind {
        Kind::Block => 1,
        Kind::Char => 2,
    };
    piece.push(op(JNE_K, KIND, 0, 0, kind));
    for (register, number) in [(MAJOR, e.major), (MINOR, e.minor)] {
        if let Some(number) = number {
            // A 32-bit comparison would be JMP32; device numbers are far below the sign bit.
            piece.push(op(JNE_K, register, 0, 0, number as i32));
        }
    }
    let all: Access = 7;
    piece.push(op(MOV_X, R0, ACCESS, 0, 0));
    if allow {
        // Refused when any of it is asked for.
        piece.push(op(ALU_AND_K, R0, 0, 0, i32::from(e.access)));
        piece.push(op(JEQ_K, R0, 0, 0, 0));
    } else {
        // Granted when nothing else is asked for.
        piece.push(op(ALU_AND_K, R0, 0, 0, i32::from(all & !e.access)));
        piece.push(op(JNE_K, R0, 0, 0, 0));
    }
    piece.push(op(MOV64_K, R0, 0, 0, i32::from(!allow)));
    piece.push(op(EXIT, 0, 0, 0, 0));
    // Every conditional jump leads behind the piece.
    let len = piece.len();
    for (i, insn) in piece.iter_mut().enumerate() {
        if matches!(insn.code, JEQ_K | JNE_K) {
            insn.offset = (len - i - 1) as i16;
        }
    }
    program.extend(piece);
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
            let (d, s) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            pc += 1;
            let jump = |holds: bool| if holds { i.offset as usize } else { 0 };
            match i.code {
                LDX_MEM_W => r[d] = u64::from(context[i.offset as usize / 4]),
                ALU_AND_K => r[d] = u64::from(r[d] as u32 & i.immediate as u32),
                ALU_RSH_K => r[d] = u64::from(r[d] as u32 >> i.immediate),
                MOV_X => r[d] = u64::from(r[s] as u32),
                MOV64_K => r[d] = i.immediate as u64,
                JEQ_K => pc += jump(r[d] == i.immediate as u64),
                JNE_K => pc += jump(r[d] != i.immediate as u64),
                EXIT => return r[0] == 1,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn rule() -> impl Strategy<Value = DeviceCgroup> {
        let number = || prop_oneof![Just(None), Just(Some(-1i64)), (0i64..4).prop_map(Some)];
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
        fn program_does_what_the_policy_says(rules in prop::collection::vec(rule(), 0..8)) {
            let Ok(policy) = Policy::new(&rules) else { return Ok(()) };
            let program = compile(&policy);
            for kind in [Kind::Block, Kind::Char] {
                for (major, minor) in [(0, 0), (1, 3), (2, 1), (3, 3), (5, 2), (136, 9), (10, 200)] {
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

    #[test]
    fn default_devices() {
        let policy = Policy::new(&[]).unwrap();
        let program = compile(&policy);
        assert!(run(&program, Kind::Char, 1, 3, READ | WRITE));
        assert!(run(&program, Kind::Block, 8, 0, MKNOD));
        assert!(!run(&program, Kind::Block, 8, 0, READ));
        assert!(!run(&program, Kind::Char, 10, 229, READ));
    }
}
