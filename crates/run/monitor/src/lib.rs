//! What stays beside a container: terminal, pipes, logs, exit status.

#![forbid(unsafe_code)]
