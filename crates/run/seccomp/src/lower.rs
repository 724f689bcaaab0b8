//! Rules of a profile, as one architecture sees them: which numbers lead to what.
//!
//! How several rules of one call combine (as libseccomp, which runc and crun use):
//! - a rule without conditions outranks all rules with conditions;
//! - of rules without conditions the first one counts;
//! - rules with conditions are tried in order, the first that holds counts.
//!
//! Where the kernel takes an argument as 32 bits, only those are compared: a caller that sets
//! higher bits of the register, which the kernel drops, must not get past a condition. A value that
//! is a negative number in 64 bits means the same number in 32 bits.

use hako_sys::seccomp::action;

use crate::{
    arch::{Arch, Call, X32_BIT},
    profile::{Condition, Op, Profile, Rule},
};

/// A comparison as the program makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Test {
    pub(crate) compare: Compare,
    pub(crate) negate: bool,
    /// Offset of the high word in `seccomp_data`; `None` where only the low word counts.
    pub(crate) high: Option<u32>,
    /// Offset of the low word.
    pub(crate) low: u32,
    /// Applied to the argument; all ones unless the comparison is `Eq`.
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Compare {
    Eq,
    Gt,
    Ge,
}

/// Rules with conditions, tried in order; what no rule matches gets the default.
pub(crate) type Block = Vec<(Vec<Test>, u32)>;

/// What a system call number leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The filter returns this.
    Return(u32),
    /// Arguments decide: index into the blocks.
    Block(usize),
}

/// All that one value of `seccomp_data.arch` leads to: each range from its first number to before
/// the next one's; the first starts at 0, and neighbours differ.
pub(crate) struct Group {
    pub(crate) audit: u32,
    pub(crate) ranges: Vec<(u32, Target)>,
}

/// Where `seccomp_data.args` starts.
const ARGS: u32 = 16;
/// Arm's private calls; numbers between its ordinary ones and these are free.
const ARM_PRIVATE: std::ops::Range<u32> = 0x000f_0000..0x000f_0100;

/// One rule at one number.
struct Entry {
    number: u32,
    /// Index of the rule.
    rule: u32,
    /// Whether the number is that of the call which the rule's call is made through.
    through: bool,
}

/// Lowers a profile for all of its architectures.
pub(crate) fn lower(profile: &Profile<'_>) -> (Vec<Group>, Vec<Block>) {
    let mut lowering = Lowering {
        profile,
        blocks: Vec::new(),
        entries: Vec::with_capacity(profile.rules.len() + 32),
    };
    let mut groups: Vec<Group> = Vec::new();
    for &arch in &profile.arches {
        if arch == Arch::X32 && profile.arches.contains(&Arch::X86_64) {
            continue; // One value of `seccomp_data.arch`: done with x86_64.
        }
        let mut ranges = Vec::with_capacity(256);
        if arch.audit() == Arch::X86_64.audit() {
            let not_asked_for = Target::Return(action::KILL_PROCESS);
            for (arch, start) in [(Arch::X86_64, 0), (Arch::X32, X32_BIT)] {
                if profile.arches.contains(&arch) {
                    lowering.ranges(arch, &mut ranges);
                } else {
                    push(&mut ranges, start, not_asked_for);
                }
            }
            // -1 is not an x32 call: it is what a tracer sets to skip a call.
            push(&mut ranges, u32::MAX, Target::Return(profile.newer()));
        } else {
            lowering.ranges(arch, &mut ranges);
        }
        groups.push(Group { audit: arch.audit(), ranges });
    }
    (groups, lowering.blocks)
}

struct Lowering<'a> {
    profile: &'a Profile<'a>,
    blocks: Vec<Block>,
    /// Of the architecture at hand.
    entries: Vec<Entry>,
}

/// Appends a range; equal neighbours become one.
fn push(ranges: &mut Vec<(u32, Target)>, start: u32, target: Target) {
    if ranges.last().is_some_and(|l| l.0 == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|l| l.1 != target) {
        ranges.push((start, target));
    }
}

impl Lowering<'_> {
    fn ranges(&mut self, arch: Arch, ranges: &mut Vec<(u32, Target)>) {
        let profile = self.profile;
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        for (i, rule) in profile.rules.iter().enumerate() {
            let entry = |number, through| Entry { number, rule: i as u32, through };
            if let Some(number) = rule.call.number(arch) {
                entries.push(entry(number, false));
            }
            // The arguments of a call made through another are behind a pointer, where no filter
            // can look: a rule that forbids covers them all, one that allows covers none.
            let covers = || rule.conditions.is_empty() || is_stricter(rule.action, profile.default);
            if let Some((by, _)) = rule.call.through()
                && let Some(number) = by.number(arch)
                && covers()
            {
                entries.push(entry(number, true));
            }
        }
        entries.sort_unstable_by_key(|e| (u64::from(e.number) << 32) | u64::from(e.rule));

        // What numbers get that no rule names; it changes at `edges` only.
        let known = |c: &Call| [c.number(arch), c.through().and_then(|(by, _)| by.number(arch))];
        let named = profile.named.iter().flat_map(known).flatten();
        let private = |n: u32| arch == Arch::Arm && ARM_PRIVATE.contains(&n);
        let last = named.filter(|&n| !private(n)).max();
        let background = |n: u32| match last {
            Some(last) if n > last && !private(n) => Target::Return(profile.newer()),
            _ => Target::Return(profile.default),
        };
        let edges = [last.map_or(0, |l| l + 1), ARM_PRIVATE.start, ARM_PRIVATE.end];
        let fill = |ranges: &mut Vec<_>, from: u32, to: u32| {
            push(ranges, from, background(from));
            for edge in edges.into_iter().filter(|&e| from < e && e < to) {
                push(ranges, edge, background(edge));
            }
        };

        // Numbers below the base are no calls.
        let mut at = if ranges.is_empty() { 0 } else { arch.base() };
        for same in entries.chunk_by(|a, b| a.number == b.number) {
            let number = same[0].number;
            if at < number {
                fill(ranges, at, number);
            }
            push(ranges, number, self.target(arch, same));
            at = number + 1;
        }
        fill(ranges, at, u32::MAX);
        self.entries = entries;
    }

    /// What all rules of one number come to.
    fn target(&mut self, arch: Arch, entries: &[Entry]) -> Target {
        let rule = |e: &Entry| &self.profile.rules[e.rule as usize];
        let unconditional = |e: &&Entry| !e.through && rule(e).conditions.is_empty();
        if let Some(e) = entries.iter().find(unconditional) {
            return Target::Return(rule(e).action);
        }
        let mut block = Block::new();
        'rules: for e in entries {
            let Rule { call, action, ref conditions } = *rule(e);
            let mut tests = Vec::with_capacity(conditions.len() + 1);
            let own = &self.profile.conditions[conditions.clone()];
            let selected = call.through().map(|(by, k)| {
                (by, Condition { argument: 0, op: Op::Eq, value: u64::from(k), masked: 0 })
            });
            let (selected, own) = if e.through { (selected, &[][..]) } else { (None, own) };
            for (call, condition) in selected.into_iter().chain(own.iter().map(|&c| (call, c))) {
                match test(arch, call, condition) {
                    Folded::Always => {}
                    Folded::Never => continue 'rules,
                    Folded::Test(t) => tests.push(t),
                }
            }
            let always = tests.is_empty();
            block.push((tests, action));
            if always {
                break; // What follows is never reached.
            }
        }
        match block.first() {
            // No rule can ever hold.
            None => return Target::Return(self.profile.default),
            Some((tests, action)) if tests.is_empty() => return Target::Return(*action),
            Some(_) => {}
        }
        let index = self.blocks.iter().position(|b| *b == block).unwrap_or_else(|| {
            self.blocks.push(block);
            self.blocks.len() - 1
        });
        Target::Block(index)
    }
}

enum Folded {
    Always,
    Never,
    Test(Test),
}

fn test(arch: Arch, call: Call, c: Condition) -> Folded {
    let (compare, negate) = match c.op {
        Op::Eq | Op::MaskedEq => (Compare::Eq, false),
        Op::Ne => (Compare::Eq, true),
        Op::Gt => (Compare::Gt, false),
        Op::Le => (Compare::Gt, true),
        Op::Ge => (Compare::Ge, false),
        Op::Lt => (Compare::Ge, true),
    };
    let (mut mask, mut value) = match c.op {
        Op::MaskedEq => (c.value, c.masked),
        _ => (u64::MAX, c.value),
    };
    let constant = |holds: bool| if holds { Folded::Always } else { Folded::Never };
    if value & !mask != 0 {
        return constant(negate);
    }
    let first = ARGS + 8 * c.argument;
    let (high, low) = if arch.big_endian() { (first, first + 4) } else { (first + 4, first) };
    let narrow = arch.word32() || call.is_narrow(c.argument);
    if narrow {
        let negative = value & 0x8000_0000 != 0 && value >> 32 == mask >> 32;
        if value >> 32 != 0 && !negative {
            // No 32-bit argument is that, or that large.
            return constant(negate);
        }
        (mask, value) = (mask & 0xffff_ffff, value & 0xffff_ffff);
    }
    match compare {
        Compare::Eq if mask == 0 => return constant(!negate),
        Compare::Ge if value == 0 => return constant(!negate),
        _ => {}
    }
    Folded::Test(Test { compare, negate, high: (!narrow).then_some(high), low, mask, value })
}

/// Whether the kernel would prefer the first of two results, were they of two filters.
fn is_stricter(a: u32, b: u32) -> bool {
    // It compares them as signed numbers: KILL_PROCESS is the least.
    let class = |v: u32| (v & 0xffff_0000) as i32;
    class(a) < class(b)
}
