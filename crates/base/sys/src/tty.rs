//! Terminals: ptys, window size, raw mode.
