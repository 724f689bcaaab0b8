//! Pages of this process that it can do without while it waits.
//!
//! A process that has made a container and now stays beside it has touched nearly all of its
//! program. Those pages are memory of its own (the program is a sealed memory file), and the kernel
//! does not take them back by itself.

use crate::{Errno, Result};

/// Most mappings that are looked after; a static program has three.
const MAPPINGS_MAX: usize = 16;

/// The mappings of files that cannot be written to and have no page of their own.
#[derive(Debug, Clone, Copy)]
pub struct FilePages {
    ranges: [(usize, usize); MAPPINGS_MAX],
    count: usize,
}

impl FilePages {
    /// Those that this process has now. They stay what they are while it maps and unmaps nothing.
    pub fn find() -> Result<FilePages> {
        let smaps = std::fs::read_to_string("/proc/self/smaps").map_err(|e| Errno::of(&e))?;
        let mut pages = FilePages { ranges: [(0, 0); MAPPINGS_MAX], count: 0 };
        let mut mapping = None;
        for line in smaps.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("Anonymous:"), Some("0")) => {
                    if let (Some(range), Some(place)) =
                        (mapping.take(), pages.ranges.get_mut(pages.count))
                    {
                        *place = range;
                        pages.count += 1;
                    }
                }
                (Some(range), Some(permissions)) if !range.ends_with(':') => {
                    let of_file = words.nth(2).is_some_and(|inode| inode != "0");
                    let read_only = permissions.starts_with('r') && !permissions.contains('w');
                    let bounds = range.split_once('-').and_then(|(start, end)| {
                        let number = |hex| usize::from_str_radix(hex, 16).ok();
                        Some((number(start)?, number(end)?))
                    });
                    mapping = bounds.filter(|_| of_file && read_only);
                }
                _ => {}
            }
        }
        Ok(pages)
    }

    /// Unmaps the pages; who looks at them again gets them again. Calls nothing that is not
    /// compiled into the caller, because each function comes back with 64 KiB around it.
    #[inline(always)]
    pub(crate) fn forget(&self) {
        for &(start, end) in self.ranges.iter().take(self.count) {
            let start = start as *mut std::ffi::c_void;
            // SAFETY: the pages come from a file, cannot be written to, and none was ever changed:
            // whoever looks at them again sees the same bytes. If that fails they merely stay.
            let _stays = unsafe {
                rustix::mm::madvise(start, end - start as usize, rustix::mm::Advice::LinuxDontNeed)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let pages = FilePages::find().unwrap();
        let here = FilePages::find as fn() -> _ as usize;
        let ranges = &pages.ranges[..pages.count];
        assert!(ranges.iter().any(|(start, end)| (*start..*end).contains(&here)));
        pages.forget();
        assert!(FilePages::find().unwrap().count > 0);
    }
}
