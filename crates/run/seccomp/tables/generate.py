#!/usr/bin/env python3
"""Writes ../src/syscalls.rs, the table of system call numbers, from two kernel header trees.

    generate.py UAPI INTERNAL > ../src/syscalls.rs

UAPI      directory with <arch>/asm/unistd*.h (Debian's linux-libc-dev since 6.5: usr/lib/linux/uapi)
INTERNAL  include/linux/syscalls.h of the kernel (Debian's linux-headers-*-common): its prototypes
          say which arguments the kernel takes as 32 bits
"""

import re
import sys
from pathlib import Path

# Column, header, what its numbers are relative to.
COLUMNS = [
    ("x86_64", "x86/asm/unistd_64.h", 0),
    ("x86", "x86/asm/unistd_32.h", 0),
    ("x32", "x86/asm/unistd_x32.h", 0),
    ("aarch64", "arm64/asm/unistd_64.h", 0),
    ("arm", "arm/asm/unistd-eabi.h", 0),
    ("mips", "mips/asm/unistd_o32.h", 0),
    ("mips64", "mips/asm/unistd_n64.h", 0),
    ("mips64n32", "mips/asm/unistd_n32.h", 0),
    ("ppc", "powerpc/asm/unistd_32.h", 0),
    ("ppc64", "powerpc/asm/unistd_64.h", 0),
    ("s390", "s390/asm/unistd_32.h", 0),
    ("s390x", "s390/asm/unistd_64.h", 0),
    ("riscv64", "riscv/asm/unistd_64.h", 0),
    ("loongarch64", "loongarch/asm/unistd_64.h", 0),
    ("parisc", "parisc/asm/unistd_32.h", 0),
    ("parisc64", "parisc/asm/unistd_64.h", 0),
    ("m68k", "m68k/asm/unistd_32.h", 0),
    ("sh", "sh/asm/unistd_32.h", 0),
]

# Newer than the headers; numbers are the same everywhere since 424.
NEWER = {
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
    "rseq_slice_yield": 471,
}
NEWER_HERE = {"x86_64": {"uprobe": 336}}

# Arm's private calls (asm/unistd.h, __ARM_NR_BASE = 0x0f0000), stored as 0xf000 + n.
ARM_PRIVATE = {"breakpoint": 1, "cacheflush": 2, "usr26": 3, "usr32": 4, "set_tls": 5, "get_tls": 6}

# What a number may be written relative to, and definitions that are no system calls.
BASES = ("__X32_SYSCALL_BIT", "__NR_Linux", "__NR_SYSCALL_BASE")
NOT_CALLS = {"Linux", "Linux_syscalls", "O32_Linux", "64_Linux", "N32_Linux", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "syscalls"}

# Types that the kernel's entry cuts to 32 bits (or 16), so that higher bits of the register mean nothing.
NARROW = {
    "int", "unsigned int", "unsigned", "uid_t", "gid_t", "pid_t", "u32", "__u32", "__s32", "qid_t",
    "key_serial_t", "clockid_t", "timer_t", "mqd_t", "rwf_t", "umode_t", "enum landlock_rule_type",
}
# Entry points whose name is not the call's.
ENTRIES = {"umount": "umount2", "newuname": "uname", "sendfile64": "sendfile"}


def numbers(path):
    found = {}
    for line in path.read_text().splitlines():
        m = re.match(r"#define\s+__NR_(\w+)\s+\(?\s*(?:(\w+)\s*\+\s*)?(\d+)\s*\)?\s*$", line)
        if not m or m[1] in NOT_CALLS:
            continue
        if m[2] and m[2] not in BASES:
            raise SystemExit(f"{path}: unknown base in {line!r}")
        found[m[1]] = int(m[3])
    if len(found) < 200:
        raise SystemExit(f"{path}: only {len(found)} system calls")
    return found


def narrow_arguments(path):
    """Bit i of a call's mask: argument i is 32 bits wide on every architecture."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    masks = {}
    for name, params in re.findall(r"asmlinkage long sys_(\w+)\s*\(([^;]*?)\)\s*;", text, flags=re.S):
        mask = 0
        for i, p in enumerate(params.replace("\n", " ").split(",")):
            p = " ".join(p.replace("const ", " ").split())
            if "*" in p or "[" in p:
                continue
            words = p.split()
            # A parameter without a name ends with a word of its type.
            kind = p if words[-1] in ("int", "long", "unsigned") or len(words) == 1 else " ".join(words[:-1])
            if kind in NARROW:
                mask |= 1 << i
        name = ENTRIES.get(name, name)
        # A call with two prototypes (fallbacks for other configurations) keeps what both say.
        masks[name] = masks.get(name, mask) & mask
    if masks["socket"] != 0b111 or masks["clone"] != 0:
        raise SystemExit("prototypes: socket or clone is not as expected")
    return masks


def main():
    uapi, internal = Path(sys.argv[1]), Path(sys.argv[2])
    table = {}
    for column, header, _ in COLUMNS:
        calls = numbers(uapi / header)
        calls.update(NEWER)
        calls.update(NEWER_HERE.get(column, {}))
        if column == "arm":
            calls.update({n: 0xF000 + i for n, i in ARM_PRIVATE.items()})
        for name, number in calls.items():
            table.setdefault(name, {})[column] = number
    masks = narrow_arguments(internal)
    print("//! System call numbers. Written by `tables/generate.py` from kernel headers; not edited by hand.")
    print("//!")
    print("//! One row a call: its name, the arguments that the kernel takes as 32 bits (bit i for argument i),")
    print("//! and its number on each of")
    for i in range(0, len(COLUMNS), 6):
        print("//! " + " ".join(f"`{c[0]}`" for c in COLUMNS[i : i + 6]))
    print("//! (relative to the base of MIPS and x32; `NO` where it has none; from 0xf000 on Arm's private calls).")
    print()
    print("/// A number that means: not on this architecture.")
    print("pub(crate) const NO: u16 = u16::MAX;")
    print()
    print(f"pub(crate) const COLUMNS: usize = {len(COLUMNS)};")
    print(f"pub(crate) const CALLS: usize = {len(table)};")
    print()
    print("// A constant, not a static: what is linked in is made of it by `arch`, without its pointers.")
    print("#[allow(clippy::large_const_arrays)]")
    print("#[rustfmt::skip]")
    print("pub(crate) const TABLE: [(&str, u8, [u16; COLUMNS]); CALLS] = [")
    for name in sorted(table):
        row = ", ".join(str(table[name][c]) if c in table[name] else "NO" for c, _, _ in COLUMNS)
        print(f'    ("{name}", 0b{masks.get(name, 0):b}, [{row}]),')
    print("];")


main()
