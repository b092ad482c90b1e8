//! Secrets in memory, found rightly or with one bug.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use ottla_api::config_provider::ConfigProvider;
use ottla_api::prelude::*;
use ottla_testkit::config_provider_suite::ConfigProviderSuite;

use crate::{Planted, every_bug_is_found};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    None,
    Trims,
    /// The second answer is another one.
    Rotates,
    EmptyForMissing,
    CutsTheKey,
    FailsTheTask,
    ShowsTheRest,
}

const BUGS: &[Planted<Bug>] = &[
    ("finds_what_is_there", Bug::Trims, "'password' at 'db' has another value than it should (7 bytes)"),
    ("answers_stay_the_same", Bug::Rotates, "the second time 'password' at 'db' had another value"),
    ("what_is_missing_is_nothing", Bug::EmptyForMissing, "is not there, but has a value; it must be nothing"),
    ("odd_references_never_panic", Bug::CutsTheKey, "byte index 1 is not a char boundary"),
    ("odd_references_never_panic", Bug::FailsTheTask, "an error about a reference is Config"),
    ("errors_hide_the_values", Bug::ShowsTheRest, "shows the value of 'password'"),
];

struct Secrets(Bug, AtomicU64);

impl ConfigProvider for Secrets {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        let Self(bug, asked) = self;
        if *bug == Bug::CutsTheKey {
            let _ = key.get(..1).unwrap_or_else(|| if key.is_empty() { "" } else { &key[..1] });
        }
        match (path, key) {
            ("db", "password") if *bug == Bug::Trims => Ok(Some("hunter2".to_owned())),
            ("db", "password") if *bug == Bug::Rotates => Ok(Some(format!("hunter{}", asked.fetch_add(1, SeqCst)))),
            ("db", "password") => Ok(Some("hunter2 ".to_owned())),
            ("db", _) if *bug == Bug::EmptyForMissing => Ok(Some(String::new())),
            ("db", _) => Ok(None),
            _ if *bug == Bug::FailsTheTask => Err(Error::fatal("no such path")),
            _ if *bug == Bug::ShowsTheRest => Err(Error::config("no such path; there is db: {password=hunter2 }")),
            _ => Err(Error::config("no such path; there is db")),
        }
    }
}

fn suite(bug: Bug) -> ConfigProviderSuite<'static> {
    ConfigProviderSuite::new([("db", "password", "hunter2 ")], move || Box::new(Secrets(bug, AtomicU64::new(0))))
}

#[tokio::test]
async fn every_rule_for_config_providers_finds_its_bug() {
    every_bug_is_found(ConfigProviderSuite::RULES, BUGS, Bug::None, async |bug, rule| suite(bug).check(rule)).await;
    suite(Bug::None).run();
}
