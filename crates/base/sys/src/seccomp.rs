//! Loading seccomp filters and asking what the kernel knows of them.
