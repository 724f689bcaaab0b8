//! The program inside the embedded image hako:tour.

#![forbid(unsafe_code)]

fn main() {}
