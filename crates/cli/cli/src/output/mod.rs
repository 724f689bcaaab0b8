//! What commands print: rows by table, template or JSON.

pub mod clock;
mod rows;
mod table;
pub mod units;

pub use rows::{Column, Format, Row};
pub use table::align;
