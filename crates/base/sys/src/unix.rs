//! Unix sockets: pairs, listeners, descriptors passed along.
