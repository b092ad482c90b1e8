//! The plugins of the bench as a shared library.

mod plugin;

ottla_api::export_plugins!(plugin::PLUGINS);
