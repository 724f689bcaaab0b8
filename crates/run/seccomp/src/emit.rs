//! Writes the program: a check of the architecture, a balanced tree over system call numbers, and
//! blocks that look at arguments.
//!
//! Classic BPF jumps forward only, and conditional jumps reach 255 instructions. So the program is
//! written from its end to its beginning: what is jumped to is already there, its distance is
//! known, and where it is too far a stepping stone is laid first (a copy of the `ret`, or a `ja`,
//! which reaches everything). Every piece ends in a jump with two targets or a `ret`; nothing
//! falls through into what was written before, and stepping stones can be laid between pieces.

use hako_sys::seccomp::{INSNS_MAX, Insn, action};

use crate::{
    Error,
    lower::{Block, Compare, Group, Target, Test},
};

// linux/bpf_common.h.
const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// Offset of `seccomp_data.nr`.
const NR: u32 = 0;
/// Offset of `seccomp_data.arch`.
const ARCH: u32 = 4;

/// How far a conditional jump reaches, less room for two stepping stones.
const NEAR: usize = 250;

/// Where an instruction is, counted from the program's end.
type Place = usize;

struct Writer<'a> {
    /// The program, last instruction first.
    reversed: Vec<Insn>,
    blocks: &'a [Block],
    default: u32,
    /// The nearest `ret` of each value.
    returns: Vec<(u32, Place)>,
    /// The nearest way to each block.
    block_places: Vec<Option<Place>>,
}

/// Writes the program for `groups`, the first of which is checked first.
pub(crate) fn emit(groups: &[Group], blocks: &[Block], default: u32) -> Result<Vec<Insn>, Error> {
    let mut w = Writer {
        reversed: Vec::with_capacity(1024),
        blocks,
        default,
        returns: Vec::with_capacity(8),
        block_places: vec![None; blocks.len()],
    };
    let places: Vec<_> = groups.iter().map(|g| w.group(g)).collect();
    let mut next = w.place(Target::Return(action::KILL_PROCESS));
    for (group, place) in groups.iter().zip(places).rev() {
        next = w.jump(JMP_JEQ_K, group.audit, place, next);
    }
    w.push(LD_W_ABS, ARCH);
    let mut program = w.reversed;
    if program.len() > INSNS_MAX {
        return Err(Error::TooLong { instructions: program.len(), max: INSNS_MAX });
    }
    program.reverse();
    Ok(program)
}

impl Writer<'_> {
    fn push(&mut self, code: u16, k: u32) -> Place {
        self.reversed.push(Insn { code, jump_true: 0, jump_false: 0, k });
        self.reversed.len() - 1
    }

    /// How many instructions the next one would have to skip to get to `place`.
    fn distance(&self, place: Place) -> usize {
        self.reversed.len() - place - 1
    }

    /// `place`, or a stepping stone to it.
    fn near(&mut self, place: Place) -> Place {
        match self.distance(place) {
            d if d <= NEAR => place,
            _ if self.reversed[place].code == RET_K => self.push(RET_K, self.reversed[place].k),
            d => self.push(JMP_JA, d as u32),
        }
    }

    fn jump(&mut self, code: u16, k: u32, yes: Place, no: Place) -> Place {
        let yes = self.near(yes);
        let no = self.near(no);
        let insn = Insn {
            code,
            jump_true: self.distance(yes) as u8,
            jump_false: self.distance(no) as u8,
            k,
        };
        self.reversed.push(insn);
        self.reversed.len() - 1
    }

    /// A place near here that leads to `target`.
    fn place(&mut self, target: Target) -> Place {
        match target {
            Target::Return(value) => {
                let known = self.returns.iter().position(|r| r.0 == value);
                if let Some(i) = known
                    && self.distance(self.returns[i].1) <= NEAR
                {
                    return self.returns[i].1;
                }
                let place = self.push(RET_K, value);
                match known {
                    Some(i) => self.returns[i].1 = place,
                    None => self.returns.push((value, place)),
                }
                place
            }
            Target::Block(i) => {
                let place = match self.block_places[i] {
                    Some(place) => self.near(place),
                    None => self.block(i),
                };
                self.block_places[i] = Some(place);
                place
            }
        }
    }

    fn group(&mut self, group: &Group) -> Place {
        self.tree(&group.ranges);
        self.push(LD_W_ABS, NR)
    }

    /// A decision over sorted ranges. The instruction written last is where it starts, even when
    /// nothing is to be decided.
    fn tree(&mut self, ranges: &[(u32, Target)]) -> Place {
        match *ranges {
            [] => self.push(RET_K, self.default),
            [(_, Target::Return(value))] => self.push(RET_K, value),
            [(_, target @ Target::Block(_))] => {
                let place = self.place(target);
                let distance = self.distance(place) as u32;
                self.push(JMP_JA, distance)
            }
            _ => self.subtree(ranges),
        }
    }

    fn subtree(&mut self, ranges: &[(u32, Target)]) -> Place {
        match *ranges {
            [] => self.place(Target::Return(self.default)),
            [(_, target)] => self.place(target),
            // One number among others.
            [(_, around), (number, target), (after, same)]
                if around == same && after == number + 1 =>
            {
                let no = self.place(around);
                let yes = self.place(target);
                self.jump(JMP_JEQ_K, number, yes, no)
            }
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let yes = self.subtree(above);
                let no = self.subtree(below);
                self.jump(JMP_JGE_K, above[0].0, yes, no)
            }
        }
    }

    fn block(&mut self, index: usize) -> Place {
        let blocks = self.blocks;
        let mut next = self.place(Target::Return(self.default));
        for (tests, action) in blocks[index].iter().rev() {
            let mut yes = self.place(Target::Return(*action));
            for test in tests.iter().rev() {
                yes = self.test(test, yes, next);
            }
            next = yes;
        }
        next
    }

    fn test(&mut self, t: &Test, yes: Place, no: Place) -> Place {
        let (yes, no) = if t.negate { (no, yes) } else { (yes, no) };
        let (high, low) = ((t.value >> 32) as u32, t.value as u32);
        let (high_mask, low_mask) = ((t.mask >> 32) as u32, t.mask as u32);
        // A word of which no bit counts is not looked at (then the value has none there either).
        let low_place = if t.compare == Compare::Eq && low_mask == 0 {
            yes
        } else {
            let code = match t.compare {
                Compare::Eq => JMP_JEQ_K,
                Compare::Gt => JMP_JGT_K,
                Compare::Ge => JMP_JGE_K,
            };
            self.jump(code, low, yes, no);
            self.load(t.low, low_mask)
        };
        let Some(offset) = t.high.filter(|_| high_mask != 0) else { return low_place };
        let equal = self.jump(JMP_JEQ_K, high, low_place, no);
        if t.compare != Compare::Eq {
            self.jump(JMP_JGT_K, high, yes, equal);
        }
        self.load(offset, high_mask)
    }

    /// Loads a word and masks it; falls through to the jump written just before.
    fn load(&mut self, offset: u32, mask: u32) -> Place {
        if mask != u32::MAX {
            self.push(ALU_AND_K, mask);
        }
        self.push(LD_W_ABS, offset)
    }
}
