//! Signals: numbers and names, masks, signalfd, sending by pidfd.
