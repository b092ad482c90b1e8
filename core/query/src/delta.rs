//! Delta tables, in their newest state or an older one.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use deltalake_core::{DeltaTable, DeltaTableError};
use jiff::Timestamp;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use ottla_api::error::ResultExt as _;
use ottla_api::{Error, ErrorKind, Result};
use url::Url;

use crate::error::{from_datafusion, from_delta, no_table};
use crate::location::{Place, Version};
use crate::store::shown;

/// Opens a table. Its state is fixed from here on: later commits don't change an answer.
pub(crate) async fn open(
    store: Arc<dyn ObjectStore>,
    root: &Url,
    place: &Place,
    folder: &Path,
    version: Option<Version>,
) -> Result<Arc<dyn TableProvider>> {
    let name = shown(place, folder);
    let address = root.join(&format!("/{folder}/")).or_error(ErrorKind::Config, format!("read the location {name}"))?;
    let prefixed = Arc::new(PrefixStore::new(Arc::clone(&store), folder.clone()));
    let mut table = DeltaTable::new(default_logstore(prefixed, store, &address, &StorageConfig::default()));
    match version {
        None => table.load().await.map_err(|error| from_delta(error, &name))?,
        Some(Version::Number(number)) => {
            let newest = match table.get_latest_version().await {
                // No version of it at all.
                Err(DeltaTableError::InvalidVersion(_)) => return Err(no_table(&name)),
                newest => newest.map_err(|error| from_delta(error, &name))?,
            };
            if number > newest {
                return Err(Error::config(format!("{name} has no version {number}; the newest is {newest}")));
            }
            // What cleaning has removed from the log can't be put together any more.
            let loaded = table.load_version(number).await;
            loaded.map_err(|error| from_delta(error, &name).during(format!("go back to version {number}")))?;
        }
        Some(Version::Time(time)) => {
            // Delta's type for a time is read from text rather than made here, because its crate is not ours to name.
            let text = time.to_string();
            let parsed = text.parse().or_error(ErrorKind::Config, format!("read the time {text}"))?;
            table.load_with_datetime(parsed).await.map_err(|error| from_delta(error, &name))?;
            // A time before the first state gives that state, which was not there then.
            let written = table.version().zip(table.snapshot().ok());
            let written = written.and_then(|(version, snapshot)| snapshot.version_timestamp(version));
            if let Some(written) = written.and_then(|millis| Timestamp::from_millisecond(millis).ok())
                && written > time
            {
                return Err(Error::config(format!("{name} was not there at {time}; its first state is of {written}")));
            }
        }
    }
    let provider = table.table_provider().build().await;
    let provider =
        provider.map_err(|error| from_datafusion(error, &[]).during(format!("open the Delta table {name}")))?;
    Ok(Arc::new(provider))
}
