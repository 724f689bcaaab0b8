//! Files beneath directory descriptors: openat2, mkdirat, mknodat, renameat2, utimensat and kin.
