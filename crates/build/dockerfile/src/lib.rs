//! The Dockerfile language of BuildKit's frontend 1.26: from bytes to instructions that know their
//! places, what they mean, and what is wrong with them. Nothing here does I/O.
//!
//! ```text
//! bytes ─ line ─▶ joined lines ─ node ─▶ words ─ instruction ─▶ Dockerfile (ast)
//!                                                                 │ scope, expand
//!                                       stages, checks, outline ◀─┘
//! ```
//!
//! ```
//! let text = "FROM alpine AS base\nRUN --mount=type=cache,target=/c make\n";
//! let file = hako_dockerfile::parse(text.as_bytes())?;
//! assert_eq!(file.stages[0].name().as_deref(), Some("base"));
//! # Ok::<(), hako_dockerfile::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod ast;
pub mod call;
pub mod check;
mod csv;
pub mod directive;
pub mod error;
pub mod expand;
mod flags;
pub mod glob;
mod go;
pub mod heredoc;
pub mod ignore;
pub mod instruction;
mod line;
pub mod mount;
pub mod node;
pub mod outline;
mod pattern;
mod print;
pub mod render;
pub mod rules;
pub mod scope;
pub mod source;
pub mod stages;
mod suggest;
pub mod values;

pub use ast::Dockerfile;
pub use error::{Error, Problem};
pub use instruction::parse;
