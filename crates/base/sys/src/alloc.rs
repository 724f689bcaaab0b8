//! A small allocator for a small program that lives for milliseconds, or beside a container.
//!
//! Blocks have sizes of powers of two; freed ones are kept in a list per size and used again. They
//! are cut from a first piece of memory in `.bss`, which costs no system call, then from mapped
//! ones. What is larger than the largest size is mapped and unmapped by itself.
//!
//! musl's allocator maps and unmaps a page for nearly every size it meets: in a program that runs
//! a container that was one system call of nine.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

const SMALLEST: usize = 16;
const LARGEST: usize = 32 * 1024;
const CLASSES: usize = LARGEST.ilog2() as usize - SMALLEST.ilog2() as usize + 1;
const PAGE: usize = 4096;
const FIRST: usize = 96 * 1024;
const PIECE: usize = 128 * 1024;

/// The allocator: `#[global_allocator] static A: Arena = Arena::new();`
pub struct Arena {
    locked: AtomicBool,
    state: UnsafeCell<State>,
    first: UnsafeCell<First>,
}

#[repr(align(4096))]
struct First([u8; FIRST]);

struct State {
    free: [*mut Block; CLASSES],
    next: usize,
    end: usize,
}

/// A freed block: its memory holds the link to the next one.
struct Block {
    next: *mut Block,
}

// SAFETY: `state` and `first` are touched only by who holds `locked`; pointers in them lead to
// memory that this allocator owns.
unsafe impl Sync for Arena {}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

impl Arena {
    /// An empty one.
    pub const fn new() -> Arena {
        Arena {
            locked: AtomicBool::new(false),
            state: UnsafeCell::new(State { free: [null_mut(); CLASSES], next: 0, end: 0 }),
            first: UnsafeCell::new(First([0; FIRST])),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held, so this is the only reference; `f` does not allocate.
        let result = f(unsafe { &mut *self.state.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn cut(&self, state: &mut State, size: usize) -> *mut u8 {
        let align = size.min(PAGE);
        if state.end == 0 {
            // SAFETY: only the address is taken, of memory that lives as long as `self`.
            state.next = unsafe { (&raw mut (*self.first.get()).0) as usize };
            state.end = state.next + FIRST;
        }
        let start = state.next.next_multiple_of(align);
        if start + size <= state.end {
            state.next = start + size;
            return start as *mut u8;
        }
        let piece = map(PIECE);
        if piece.is_null() {
            return piece;
        }
        state.next = piece as usize + size;
        state.end = piece as usize + PIECE;
        piece
    }
}

/// The size class of a layout; `None` for what is mapped by itself.
fn class(layout: &Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(SMALLEST);
    if size > LARGEST || layout.align() > PAGE {
        return None;
    }
    Some((size.next_power_of_two().ilog2() - SMALLEST.ilog2()) as usize)
}

fn map(size: usize) -> *mut u8 {
    // SAFETY: new anonymous memory, at an address the kernel chooses.
    let memory = unsafe {
        libc::mmap(
            null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if memory == libc::MAP_FAILED { null_mut() } else { memory.cast() }
}

// SAFETY: every block is at least as large and aligned as its class, which is at least what the
// layout asks for; a block is in a free list or in use, never both.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class(&layout) else {
            // Alignments beyond a page do not occur in this workspace.
            return if layout.align() > PAGE { null_mut() } else { map(layout.size()) };
        };
        self.with(|state| {
            let head = state.free[class];
            if head.is_null() {
                return self.cut(state, SMALLEST << class);
            }
            // SAFETY: it is in the free list, so it is ours and holds a link.
            state.free[class] = unsafe { (*head).next };
            head.cast()
        })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some(class) = class(&layout) else {
            // SAFETY: it was mapped by `alloc` with this size, and the caller gives it up.
            unsafe { libc::munmap(memory.cast(), layout.size()) };
            return;
        };
        self.with(|state| {
            let block = memory.cast::<Block>();
            // SAFETY: the caller gives up the block, which is at least 16 bytes, aligned to 16.
            unsafe { (*block).next = state.free[class] };
            state.free[class] = block;
        });
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller guarantees that the new size, rounded up, does not overflow.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(&layout), class(&new)) {
            (Some(a), Some(b)) if a == b => return memory,
            _ => {}
        }
        // SAFETY: both layouts are valid, and the copy is as long as the smaller of them.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(memory, moved, layout.size().min(size));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_used_again() {
        let arena = Box::new(Arena::new());
        let mut seen: Vec<(usize, usize)> = Vec::new();
        for size in [1, 16, 17, 100, 4096, 5000, 32 * 1024, 40_000, 200_000] {
            for align in [1, 8, 64, 4096] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout has a size, and the memory is written within it only.
                let start = unsafe {
                    let memory = arena.alloc(layout);
                    assert!(!memory.is_null());
                    memory.write_bytes(0xa5, size);
                    memory as usize
                };
                assert_eq!(start % align, 0);
                assert!(seen.iter().all(|(a, n)| start >= a + n || *a >= start + size));
                seen.push((start, size));
            }
        }
        let layout = Layout::from_size_align(50, 8).unwrap();
        // SAFETY: freed with the layout it was made with, and not used afterwards.
        unsafe {
            let a = arena.alloc(layout);
            a.write_bytes(7, 50);
            let grown = arena.realloc(a, layout, 5000);
            assert_eq!(*grown.add(49), 7);
            let grown_layout = Layout::from_size_align(5000, 8).unwrap();
            arena.dealloc(grown, grown_layout);
            assert_eq!(arena.alloc(grown_layout), grown);
        }
    }
}
