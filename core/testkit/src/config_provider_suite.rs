//! Conformance of a config provider: what it knows is found, what it does not know is nothing, and a secret stays one.
//!
//! | Check | Promise |
//! |---|---|
//! | [`finds_what_is_there`](ConfigProviderSuite::finds_what_is_there) | each known place gives its value, byte for byte |
//! | [`answers_stay_the_same`](ConfigProviderSuite::answers_stay_the_same) | a second time, from another instance and from several threads at once |
//! | [`what_is_missing_is_nothing`](ConfigProviderSuite::what_is_missing_is_nothing) | an unknown key is no value, never an empty or a neighbour's one |
//! | [`odd_references_never_panic`](ConfigProviderSuite::odd_references_never_panic) | any path and key give a value, nothing, or an error that says `Config` or may be tried again |
//! | [`errors_hide_the_values`](ConfigProviderSuite::errors_hide_the_values) | no error quotes what the provider has read (G8) |

use std::fmt;

use ottla_api::config_provider::ConfigProvider;
use ottla_api::prelude::*;

use crate::rule::rules;

/// A key that nobody has.
const NOBODY: &str = "ottla-conformance-nobody-has-this-key";

/// A value of fewer characters may stand in a message by chance.
const TELLING: usize = 4;

rules! {
    sync ConfigProviderSuite<'_>,
    finds_what_is_there: "each known place gives its value, byte for byte",
    answers_stay_the_same: "a second time, from another instance and from several threads at once",
    what_is_missing_is_nothing: "an unknown key is no value, never an empty or a neighbour's one",
    odd_references_never_panic: "any path and key give a value, nothing, or an error that says `Config` or may be tried again",
    errors_hide_the_values: "no error quotes what the provider has read (G8)",
}

/// The suite for one config provider in one configuration.
pub struct ConfigProviderSuite<'a> {
    make: Box<dyn Fn() -> Box<dyn ConfigProvider> + 'a>,
    known: Vec<(String, String, String)>,
}

impl<'a> ConfigProviderSuite<'a> {
    /// A suite over places that the provider knows: path, key and value of each. At least one, with a value of a few letters.
    pub fn new<T: Into<String>>(
        known: impl IntoIterator<Item = (T, T, T)>,
        make: impl Fn() -> Box<dyn ConfigProvider> + 'a,
    ) -> Self {
        let known = known.into_iter().map(|(path, key, value)| (path.into(), key.into(), value.into()));
        Self { make: Box::new(make), known: known.collect() }
    }

    /// Each known place gives its value.
    pub fn finds_what_is_there(&self) {
        let provider = (self.make)();
        for (path, key, value) in &self.known {
            let found = get(&*provider, path, key);
            assert!(found.as_ref() == Some(value), "{}", differs(path, key, found.as_deref()));
        }
    }

    /// The same place gives the same value, whoever asks and when.
    pub fn answers_stay_the_same(&self) {
        let (one, other) = ((self.make)(), (self.make)());
        for (path, key, _) in &self.known {
            let first = get(&*one, path, key);
            assert!(get(&*one, path, key) == first, "the second time '{key}' at '{path}' had another value");
            assert!(get(&*other, path, key) == first, "another instance has another value for '{key}' at '{path}'");
            let answers: Vec<Option<String>> = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&*one, path, key))).collect();
                asking.into_iter().map(|thread| thread.join().expect("get does not panic")).collect()
            });
            assert!(
                answers.iter().all(|answer| *answer == first),
                "asked from several threads at once, '{key}' at '{path}' had other values"
            );
        }
    }

    /// A key that is not there is nothing, at every known path.
    pub fn what_is_missing_is_nothing(&self) {
        let provider = (self.make)();
        for (path, key, _) in &self.known {
            for missing in [NOBODY.to_owned(), format!("{key}-{NOBODY}")] {
                let found = get(&*provider, path, &missing);
                assert!(found.is_none(), "'{missing}' at '{path}' is not there, but has a value; it must be nothing");
            }
        }
    }

    /// Paths and keys that nobody would write.
    pub fn odd_references_never_panic(&self) {
        let provider = (self.make)();
        for (path, key) in self.odd() {
            if let Err(error) = provider.get(&path, &key) {
                let of_the_reference = error.kind() == ErrorKind::Config || error.is_retriable();
                assert!(
                    of_the_reference,
                    "an error about a reference is Config, or may be tried again; {key:?} at {path:?} gave {:?}: {error}",
                    error.kind()
                );
            }
        }
    }

    /// Errors, for people to read, hold none of the known values.
    pub fn errors_hide_the_values(&self) {
        let provider = (self.make)();
        for (path, key) in self.odd() {
            let Err(error) = provider.get(&path, &key) else { continue };
            let shown = format!("{error} {error:?}");
            for (_, known, value) in self.known.iter().filter(|(_, _, value)| value.len() >= TELLING) {
                assert!(!shown.contains(value), "an error about {key:?} at {path:?} shows the value of '{known}'");
            }
        }
    }

    /// References with a mistake in them.
    fn odd(&self) -> Vec<(String, String)> {
        let long = "x".repeat(10_000);
        let parts = ["", " ", ".", "..", "../..", "/", "//", "\0", "a\nb", "é😀", "${x}", ":", "=", NOBODY, &long];
        let mut odd = Vec::new();
        for a in parts {
            odd.extend(parts.map(|b| (a.to_owned(), b.to_owned())));
            for (path, key, _) in &self.known {
                odd.push((path.clone(), a.to_owned()));
                odd.push((a.to_owned(), key.clone()));
                odd.push((format!("{path}{a}"), key.clone()));
                odd.push((path.clone(), format!("{key}{a}")));
                odd.push((format!("{path}/{key}"), a.to_owned()));
            }
        }
        odd
    }
}

/// The answer about a place that must not fail.
fn get(provider: &dyn ConfigProvider, path: &str, key: &str) -> Option<String> {
    provider.get(path, key).unwrap_or_else(|error| panic!("'{key}' at '{path}' can't be looked up: {error}"))
}

/// Says that a value is another one, and shows neither.
fn differs(path: &str, key: &str, found: Option<&str>) -> String {
    match found {
        None => format!("'{key}' at '{path}' is there, but was not found"),
        Some(found) => format!("'{key}' at '{path}' has another value than it should ({} bytes)", found.len()),
    }
}

impl fmt::Debug for ConfigProviderSuite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigProviderSuite({} known places)", self.known.len())
    }
}
