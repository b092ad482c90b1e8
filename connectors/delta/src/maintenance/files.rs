//! Data files: small ones into large ones, and those that nobody needs away.

use std::num::NonZeroU64;
use std::time::Duration;

use deltalake_core::kernel::transaction::CommitProperties;
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::vacuum::VacuumMode;
use deltalake_core::table::config::TablePropertiesExt;
use deltalake_core::{DeltaTable, DeltaTableError};

/// Puts the rows of small files into files of `target` bytes, without changing the table's rows: appends that go on
/// meanwhile do not conflict with that. Returns how many files went.
pub(super) async fn compact(log_store: &LogStoreRef, target: u64) -> Result<u64, DeltaTableError> {
    let table = load(log_store).await?;
    let target = NonZeroU64::new(target).unwrap_or(NonZeroU64::MIN);
    // One after the other: this is work for quiet hours of a processor that others need.
    let job = table.optimize().with_target_size(target).with_max_concurrent_tasks(1);
    let (_, metrics) = job.with_commit_properties(without_hooks()).await?;
    Ok(metrics.num_files_removed)
}

/// Deletes the files that no version of the last `retention` needs, also those that were written and never committed. The
/// table's own `delta.deletedFileRetentionDuration` holds where it is longer. Returns how many went.
pub(super) async fn vacuum(log_store: &LogStoreRef, retention: Duration) -> Result<u64, DeltaTableError> {
    let table = load(log_store).await?;
    let kept = table.snapshot()?.table_config().deleted_file_retention_duration();
    let retention = chrono::Duration::from_std(retention.max(kept))
        .map_err(|_| DeltaTableError::Generic(format!("files can't be kept for {:?}", retention.max(kept))))?;
    let job = table.vacuum().with_mode(VacuumMode::Full).with_retention_period(retention);
    let (_, metrics) = job.with_commit_properties(without_hooks()).await?;
    Ok(metrics.files_deleted.len() as u64)
}

async fn load(log_store: &LogStoreRef) -> Result<DeltaTable, DeltaTableError> {
    let mut table = DeltaTable::new(log_store.clone());
    table.load().await?;
    Ok(table)
}

/// Checkpoints have their own schedule.
fn without_hooks() -> CommitProperties {
    CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
}
