//! What stays beside a container: terminal, pipes, logs, exit status.
//!
//! One process per container, without threads, waits in one poll loop. Clients (the
//! engine) talk to it over a socket by [`protocol`]; [`Client`] is their side.

#![forbid(unsafe_code)]

pub mod client;
mod clients;
pub mod config;
pub mod exit;
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
