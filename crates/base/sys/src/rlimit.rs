//! Resource limits, priorities, scheduling, OOM score.
