//! Tar: a reader for hostile archives and a reproducible writer.
//!
//! [`Reader`] takes v7, ustar, star, GNU and PAX archives in one pass. It believes nothing: memory
//! grows with bytes that were read, never with numbers that were claimed, and stays within
//! [`Limits`]; where two headers disagree it does what Go's `archive/tar` does, because that is
//! what made and what applies nearly every image, and where readers disagree among each other in a
//! way that hides content, it refuses.
//!
//! [`Writer`] writes ustar, with PAX records where ustar has no room. The same entries give the
//! same bytes.
//!
//! ```
//! use hako_tar::{Header, Kind, Reader, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! writer.append(&Header::new("etc/", Kind::Directory, 0o755), std::io::empty())?;
//! let mut hosts = Header::new("etc/hosts", Kind::File, 0o644);
//! hosts.size = 20;
//! writer.append(&hosts, &b"127.0.0.1 localhost\n"[..])?;
//! let archive = writer.finish()?;
//!
//! let mut reader = Reader::new(&archive[..]);
//! while let Some(mut entry) = reader.next_entry()? {
//!     let mut content = String::new();
//!     std::io::Read::read_to_string(&mut entry, &mut content)?;
//!     println!("{:?}: {content}", entry.header().path);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod block;
mod error;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use crate::{
    error::{Error, Result},
    header::{Header, Kind, Time},
    reader::{Entry, Limits, Reader},
    sparse::Extent,
    writer::Writer,
};
