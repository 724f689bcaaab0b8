//! Namespaces: setns, unshare, their files in /proc.
