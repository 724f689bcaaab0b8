//! Waiting on descriptors: poll, timerfd, eventfd.
