//! The public suites, over tables in a folder.

mod table;

use std::path::Path;

use ottla_api::prelude::*;
use ottla_connector_delta::DeltaSinkConnector;
use ottla_testkit::sink_suite::SinkSuite;

fn properties(root: &Path, tables: &str, extra: &[(&str, &str)]) -> Properties {
    let url = format!("file:{}", root.display());
    let mut properties = Properties::from_iter([
        ("store.url", url.as_str()),
        ("tables.dir", tables),
        ("table.name.format", "rows"),
        ("flush.size", "4"),
    ]);
    for (key, value) in extra {
        properties.set(*key, *value);
    }
    properties
}

#[tokio::test]
async fn the_sink_passes_the_suite() {
    let root = tempfile::tempdir().unwrap();
    SinkSuite::new(
        |tables| DeltaSinkConnector.task(&properties(root.path(), tables, &[])).unwrap(),
        |tables| {
            let rows = table::rows(&root.path().join(tables).join("rows"));
            async move { rows }
        },
    )
    .run()
    .await;
}
