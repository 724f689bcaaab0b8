//! Credentials: user and group IDs, capabilities, no_new_privs, keyrings, dumpable.
