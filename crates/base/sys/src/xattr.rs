//! Extended attributes, by descriptor.
