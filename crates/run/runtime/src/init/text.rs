//! Short texts on the stack: paths, numbers, notes.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A C string of at most `SIZE` bytes, with its NUL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<const SIZE: usize = 40> {
    bytes: [u8; SIZE],
    used: usize,
}

impl<const SIZE: usize> Text<SIZE> {
    pub(crate) fn new() -> Text<SIZE> {
        Text { bytes: [0; SIZE], used: 0 }
    }

    /// Whether nothing more fits, and something may have been cut.
    pub(crate) fn is_full(&self) -> bool {
        self.used + 1 == SIZE
    }

    /// Appends; what does not fit is cut.
    pub(crate) fn push(&mut self, more: &[u8]) {
        // One byte stays for the NUL.
        for byte in more.iter().take(self.bytes.len() - 1 - self.used) {
            self.bytes[self.used] = *byte;
            self.used += 1;
        }
    }

    pub(crate) fn push_number(&mut self, number: u32) {
        let mut digits = [0u8; 10];
        let (mut rest, mut first) = (number, digits.len());
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

impl Text {
    /// A number in decimal digits.
    pub(crate) fn number(number: u32) -> Text {
        let mut text = Text::new();
        text.push_number(number);
        text
    }

    /// A file mode's permissions in octal digits.
    pub(crate) fn octal(mode: u32) -> Text {
        let mut text = Text::new();
        for shift in [9, 6, 3, 0] {
            text.push(&[b'0' + (mode >> shift & 7) as u8]);
        }
        text
    }

    /// The path of a descriptor in /proc.
    pub(crate) fn fd_path(fd: BorrowedFd<'_>) -> Text {
        let mut text = Text::new();
        text.push(b"/proc/self/fd/");
        text.push_number(fd.as_raw_fd().unsigned_abs());
        text
    }
}

/// `HOME=` and a path.
#[derive(Debug)]
pub(crate) struct PathBuffer {
    bytes: [u8; Self::SIZE],
}

impl Default for PathBuffer {
    fn default() -> PathBuffer {
        PathBuffer { bytes: [0; Self::SIZE] }
    }
}

impl PathBuffer {
    const SIZE: usize = 1024;

    /// Sets it to these parts; false, and nothing changed, when they are too long or hold a NUL.
    pub(crate) fn set(&mut self, parts: &[&[u8]]) -> bool {
        let length: usize = parts.iter().map(|p| p.len()).sum();
        if length >= Self::SIZE || parts.iter().any(|p| p.contains(&0)) {
            return false;
        }
        let mut at = 0;
        for part in parts {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.bytes[at] = 0;
        true
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}

/// Words that go along with a failure.
#[derive(Debug)]
pub(crate) struct Note {
    bytes: [u8; Self::MAX],
    used: usize,
}

impl Default for Note {
    fn default() -> Note {
        Note { bytes: [0; Self::MAX], used: 0 }
    }
}

impl Note {
    pub(crate) const MAX: usize = 200;

    pub(crate) fn set(&mut self, words: &[u8]) {
        self.used = words.len().min(Self::MAX);
        self.bytes[..self.used].copy_from_slice(&words[..self.used]);
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_modes_and_cuts() {
        assert_eq!(Text::number(0).as_bytes(), b"0");
        assert_eq!(Text::number(u32::MAX).as_c_str(), c"4294967295");
        assert_eq!(Text::octal(0o41777).as_c_str(), c"1777");
        assert_eq!(Text::octal(0o755).as_c_str(), c"0755");
        let mut text: Text = Text::new();
        text.push(&[b'x'; 100]);
        assert_eq!(text.as_c_str().to_bytes().len(), 39);
    }

    #[test]
    fn paths_fit_or_stay_as_they_were() {
        let mut home = PathBuffer::default();
        assert!(home.set(&[b"HOME=", b"/root"]));
        assert!(!home.set(&[b"HOME=", &[b'x'; 1024]]));
        assert!(!home.set(&[b"a\0b"]));
        assert_eq!(home.as_c_str(), c"HOME=/root");
    }
}
