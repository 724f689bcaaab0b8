//! Names of the tools, each a link in the image's `/bin`. In a file of its own because the script
//! that assembles the image includes it.

/// Sorted.
pub(crate) const NAMES: &[&str] = &[
    "burn", "cat", "echo", "env", "exec", "exit", "false", "hostname", "id", "kill", "ls", "mem",
    "mounts", "ps", "pwd", "sleep", "spawn", "true", "try", "tty", "write",
];
