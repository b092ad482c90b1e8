//! The registry: find, list and construct plugins by name.
