//! Processes: clone3, execve, pidfds, waitid, prctl.
