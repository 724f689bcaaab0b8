//! eBPF programs of type CGROUP_DEVICE: load, attach, query, detach.
