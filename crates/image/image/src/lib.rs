//! Images: views of manifests and configs, archives in and out.

#![forbid(unsafe_code)]
