//! From an image's configuration and a user's wishes to config.json.

#![forbid(unsafe_code)]
