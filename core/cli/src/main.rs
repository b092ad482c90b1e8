//! The binary `ottla`.
fn main() {}
