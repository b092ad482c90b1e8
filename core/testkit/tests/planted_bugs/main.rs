//! Who checks the suites? For every rule there is a small plugin that is right except for one bug, and the rule must find it, in
//! words that tell what is wrong; the right one passes. A rule without a planted bug fails here.

mod config_provider;
mod converter;
mod options;
mod plugin;
mod predicate;
mod sink;
mod source;
mod transformation;

use std::fmt::Debug;

use ottla_testkit::rule::{Rule, kept};

/// One bug: the rule that finds it, what it is, and part of what the rule then says.
type Planted<B> = (&'static str, B, &'static str);

/// Checks every rule with the right plugin, and with each bug that is planted for it.
async fn every_bug_is_found<B: Copy + Debug>(
    rules: &[Rule],
    bugs: &[Planted<B>],
    right: B,
    check: impl AsyncFn(B, &'static str),
) {
    for (rule, ..) in bugs {
        assert!(rules.iter().any(|known| known.name == *rule), "a bug is planted for '{rule}', which is no rule");
    }
    for rule in rules {
        assert_eq!(kept(check(right, rule.name)).await, Ok(()), "{}: the right one must pass", rule.name);
        let mut planted = bugs.iter().filter(|(name, ..)| *name == rule.name).peekable();
        assert!(planted.peek().is_some(), "no bug is planted for the rule '{}'", rule.name);
        for (_, bug, words) in planted {
            let said = kept(check(*bug, rule.name)).await;
            let said = said.err().unwrap_or_else(|| panic!("{} does not find {bug:?}", rule.name));
            assert!(said.contains(words), "{} says about {bug:?}: {said:?}, without {words:?}", rule.name);
        }
    }
}

/// The table at the head of a suite's file holds its rules, and nothing else.
fn the_table_shows(rules: &[Rule], suite: &str, text: &str) {
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("//! | [`")).collect();
    let due: Vec<String> =
        rules.iter().map(|rule| format!("//! | [`{0}`]({suite}::{0}) | {1} |", rule.name, rule.promise)).collect();
    assert_eq!(rows, due, "the table at the head of {suite}");
}

#[test]
fn the_tables_show_the_rules() {
    use ottla_testkit::{
        config_provider_suite::ConfigProviderSuite, config_suite::OptionsSuite, converter_suite::ConverterSuite,
        plugin_suite::PluginSuite, predicate_suite::PredicateSuite, sink_suite::SinkSuite, source_suite::SourceSuite,
        transformation_suite::TransformationSuite,
    };
    type Options = OptionsSuite<options::Right>;
    the_table_shows(SourceSuite::RULES, "SourceSuite", include_str!("../../src/source_suite.rs"));
    the_table_shows(SinkSuite::RULES, "SinkSuite", include_str!("../../src/sink_suite.rs"));
    let transformations = include_str!("../../src/transformation_suite.rs");
    the_table_shows(TransformationSuite::RULES, "TransformationSuite", transformations);
    the_table_shows(PredicateSuite::RULES, "PredicateSuite", include_str!("../../src/predicate_suite.rs"));
    the_table_shows(ConverterSuite::RULES, "ConverterSuite", include_str!("../../src/converter_suite.rs"));
    let config_providers = include_str!("../../src/config_provider_suite.rs");
    the_table_shows(ConfigProviderSuite::RULES, "ConfigProviderSuite", config_providers);
    the_table_shows(Options::RULES, "OptionsSuite", include_str!("../../src/config_suite.rs"));
    the_table_shows(PluginSuite::RULES, "PluginSuite", include_str!("../../src/plugin_suite.rs"));
}
