//! Loads the libraries that the worker's `plugin.path` names, before anything else is checked: they bring the plugins that the other keys
//! speak of.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ottla_api::config::{ConfigValue, split_list};

use super::diagnostics::Diagnostics;
use super::section::{Raw, Section};
use crate::plugins::Registry;
use crate::plugins::loaded::{Digest, Limits};

/// The registry with what the libraries bring. A library that can't be loaded is left out, which a warning says.
pub(super) fn with_libraries<'a>(
    raw: &Raw,
    registry: &'a Registry,
    diagnostics: &mut Diagnostics,
) -> Cow<'a, Registry> {
    let Some((worker, entries)) = raw.worker.as_ref().and_then(|worker| Some((worker, worker.text("plugin.path")?)))
    else {
        return Cow::Borrowed(registry);
    };
    let Ok(limits) = limits(worker) else { return Cow::Borrowed(registry) };
    let entries: Vec<PathBuf> = split_list(entries).into_iter().map(PathBuf::from).collect();
    let mut registry = registry.clone();
    let (place, written) = worker.place_of("plugin.path");
    for why in registry.add_path(&entries, &limits) {
        diagnostics.warning(&place, written.clone(), why);
    }
    Cow::Owned(registry)
}

/// What is wrong with one of these keys is said when all keys are checked.
fn limits(worker: &Section) -> Result<Limits, String> {
    fn read<T: ConfigValue>(worker: &Section, key: &str) -> Result<Option<T>, String> {
        worker.text(key).map(T::parse).transpose()
    }
    let default = Limits::default();
    let allowed: Option<Vec<Digest>> = read(worker, "plugin.sha256")?;
    Ok(Limits {
        call_timeout: read::<Duration>(worker, "plugin.call.timeout.ms")?.unwrap_or(default.call_timeout),
        threads: read::<usize>(worker, "plugin.threads")?.unwrap_or(default.threads),
        allowed: allowed.map(BTreeSet::from_iter),
    })
}
