//! The list is left out.

ottla_api::export_plugins!();

fn main() {}
