//! Go templates over JSON values: what people type after `--format`.
//!
//! The language is that of Go's `text/template` with Docker's functions, minus what nobody writes
//! on a command line (`define`, `template`, `block`). A template is parsed once and rendered for
//! each row. Rendering is pure; the text of errors is Go's, because scripts show it to people.

mod eval;
mod func;
mod lex;
mod parse;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// Why a template cannot be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not follow the grammar.
    #[error("template: :{line}: {message}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It asks for something that is not there, or that cannot be done.
    #[error("template: :{line}:{column}: executing \"\" at <{at}>: {message}")]
    Execution {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 0, as Go counts.
        column: usize,
        /// The expression.
        at: String,
        /// What is wrong.
        message: String,
    },
}

/// A method of the row itself, as `.Label "name"`.
pub type Method<'a> = (&'a str, &'a dyn Fn(&[Value]) -> Result<Value, String>);

/// How a template meets its data.
#[derive(Clone, Copy, Default)]
pub struct Context<'a> {
    /// Names of fields that hold maps: an absent key of a map is `<no value>`, where an absent
    /// field of anything else is an error.
    pub maps: &'a [&'a str],
    /// Methods of the outermost value.
    pub methods: &'a [Method<'a>],
    /// Whether this renders the heading of a table: functions hand their argument through.
    pub heading: bool,
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Template, Error> {
        Ok(Template { nodes: parse::parse(text)? })
    }

    /// The text that the template makes of `data`.
    pub fn render(&self, data: &Value, context: &Context<'_>) -> Result<String, Error> {
        eval::render(&self.nodes, data, context)
    }
}

/// A place in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    line: usize,
    column: usize,
}
