//! A page of sections with aligned rows; colours only for a person at a terminal.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

const LABEL_WIDTH: usize = 14;
const WIDTH: usize = 100;

/// Collects a page, which is then written at once.
pub(crate) struct Page {
    text: String,
    colours: bool,
}

impl Page {
    /// A page for standard output.
    pub(crate) fn new() -> Page {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Page { text: String::new(), colours }
    }

    /// Begins a section.
    pub(crate) fn section(&mut self, title: &str) {
        let (on, off) = self.style("\x1b[1;36m");
        self.push(format_args!("\n{on}{title}{off}\n"));
    }

    /// One line of a section. A long value is wrapped at blanks, under itself.
    pub(crate) fn row(&mut self, label: &str, value: &str) {
        let (on, off) = self.style("\x1b[2m");
        let mut label = format!("{on}{label:LABEL_WIDTH$}{off}");
        for line in wrap(value, WIDTH - LABEL_WIDTH - 3) {
            self.push(format_args!("  {label} {}\n", line.trim_end()));
            label = " ".repeat(LABEL_WIDTH);
        }
    }

    /// One line of free text.
    pub(crate) fn line(&mut self, text: &str) {
        self.push(format_args!("  {text}\n"));
    }

    /// `text`, marked as good news or as a warning.
    pub(crate) fn mark(&self, good: bool, text: &str) -> String {
        let (on, off) = self.style(if good { "\x1b[32m" } else { "\x1b[33m" });
        format!("{on}{text}{off}")
    }

    /// Writes the page to standard output.
    pub(crate) fn write(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.text.as_bytes())?;
        out.flush()
    }

    fn style(&self, code: &'static str) -> (&'static str, &'static str) {
        if self.colours { (code, "\x1b[0m") } else { ("", "") }
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _infallible: std::fmt::Result = self.text.write_fmt(text);
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_values_wrap_at_blanks() {
        assert_eq!(super::wrap("", 5), [""]);
        assert_eq!(super::wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(super::wrap("abcdefgh i", 5), ["abcdefgh", "i"]);
    }
}
