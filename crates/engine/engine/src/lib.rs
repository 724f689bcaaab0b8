//! Containers and images as one API.

#![forbid(unsafe_code)]
