//! What stays beside a container: terminal, pipes, logs, exit status.
//!
//! One process per container, without threads, waits in one poll loop. Clients (the engine) talk to
//! it over a socket by [`protocol`]; [`Client`] is their side, and [`log::Reader`] reads what the
//! container printed, with or without a monitor.
//!
//! ```
//! use hako_monitor::config::LogConfig;
//! use hako_monitor::log::{Follow, Reader, Stream, Window, Writer};
//! use hako_monitor::time::Timestamp;
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("json.log");
//! let mut log = Writer::open(LogConfig { path: path.clone(), ..LogConfig::default() })?;
//! log.log(Stream::Stdout, b"one\ntwo\n", Timestamp::now());
//!
//! let last = Window { tail: Some(1), ..Window::default() };
//! let mut reader = Reader::open(&path, last, Follow::default())?;
//! let entry = reader.next_entry()?.expect("something was logged");
//! assert_eq!(entry.text, "two\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod client;
mod clients;
pub mod config;
pub mod exit;
pub mod init;
pub mod log;
mod monitor;
pub mod protocol;
mod pump;
pub mod time;

pub use client::{Client, ClientError};
pub use config::{Config, LogConfig};
pub use exit::{Exit, ExitRecord};
pub use log::LogError;
pub use monitor::{MonitorError, run};
pub use protocol::{Event, Failure, Request, Streams};
