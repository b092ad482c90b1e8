//! Which rules a plugin is held to, and with what: the suites of the testkit over what the file gives.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use ottla_api::data::json;
use ottla_api::prelude::*;
use ottla_runtime::trial::Shown;
use ottla_testkit::config_provider_suite::ConfigProviderSuite;
use ottla_testkit::converter_suite::ConverterSuite;
use ottla_testkit::harness::SourceHarness;
use ottla_testkit::plugin_suite::PluginSuite;
use ottla_testkit::predicate_suite::PredicateSuite;
use ottla_testkit::rule::{Rule, kept};
use ottla_testkit::sink_suite::SinkSuite;
use ottla_testkit::source_suite::SourceSuite;
use ottla_testkit::transformation_suite::TransformationSuite;

use super::expected::Expectation;
use super::kill::{self, Killing};
use super::report::Report;
use super::setup::{Case, Expected, Place, Setup};

/// What the file says a source yields.
const EXPECTED: Rule =
    Rule { name: "yields_the_records_of_the_file", promise: "the records are those that `expect` lists, as JSON" };

/// What a fault would need.
const FAULTS: &str =
    "calls are made to fail by code in the same process: call `.faulty(..)` of the suite in a test of the crate";

/// One plugin in one setup.
pub(super) struct Examination<'a> {
    pub(super) plugin: Plugin,
    pub(super) setup: Option<&'a Setup>,
    /// How a section for it begins, for what is said about what is left out.
    pub(super) section: String,
    /// An empty folder for all destinations.
    pub(super) dir: PathBuf,
    /// Where the file's commands run.
    pub(super) home: PathBuf,
    pub(super) killing: Killing,
}

impl Examination<'_> {
    /// Runs every rule that can be run.
    pub(super) async fn run(&self, report: &mut Report) {
        self.as_a_plugin(report).await;
        match self.plugin.constructor {
            Constructor::Source(make) => self.source(&*make(), report).await,
            Constructor::Sink(make) => self.sink(&*make(), report).await,
            Constructor::Transformation(make) => {
                self.transformation(&|properties| make(properties), report).await;
            }
            Constructor::Predicate(make) => self.predicate(&|properties| make(properties), report).await,
            Constructor::Converter(make) => self.converter(&|properties| make(properties, false), report).await,
            Constructor::ConfigProvider(make) => self.config_provider(&|properties| make(properties), report).await,
        }
    }

    /// What every kind is held to.
    async fn as_a_plugin(&self, report: &mut Report) {
        let mut suite = PluginSuite::new(&self.plugin);
        let known = self.setup.is_some() || (self.plugin.definition)().keys.is_empty();
        if known {
            suite = suite.with_example(self.setup().properties(&self.place("example")));
        }
        for rule in PluginSuite::RULES {
            if rule.name == "the_example_is_valid" && !known {
                report.leave_out(rule, &format!("write {} with options = {{ .. }}", self.section));
            } else {
                report.check(rule, async { suite.check(rule.name) }).await;
            }
        }
    }

    async fn source(&self, connector: &dyn SourceConnector, report: &mut Report) {
        let rules = SourceSuite::RULES.iter().chain([&EXPECTED, &kill::RULE]);
        // Nothing is reached for that nobody has named.
        if self.setup.is_none() {
            let why = format!("write {} with options = {{ .. }} over data that has some records", self.section);
            return rules.for_each(|rule| report.leave_out(rule, &why));
        }
        let (setup, place) = (self.setup(), self.place("data"));
        let properties = setup.properties(&place);
        let expected = match &setup.expect {
            None => None,
            Some(path) => match Expectation::read(path) {
                Ok(expected) => Some(expected),
                Err(error) => {
                    return report.check(&EXPECTED, async { panic!("{error}") }).await;
                }
            },
        };
        let tasks = |tasks_max: usize| {
            connector.tasks(&properties, tasks_max).unwrap_or_else(|error| panic!("make tasks: {error}"))
        };
        // The whole of it once, so that the suite knows how much there is.
        let whole = RefCell::new((Vec::new(), false));
        let read = kept(async {
            place.prepare(setup.prepare.as_deref()).unwrap_or_else(|error| panic!("{error}"));
            let read = read_all(tasks(1).remove(0)).await;
            *whole.borrow_mut() = read;
        });
        if let Err(words) = read.await {
            report.check(&SourceSuite::RULES[0], async { panic!("{words}") }).await;
            let why = "the source could not be read from its beginning to its end";
            return rules.skip(1).for_each(|rule| report.leave_out(rule, why));
        }
        let (output, ended) = whole.take();
        let mut suite = SourceSuite::new(output.len(), || tasks(1).remove(0)).tasks(tasks);
        if ended || setup.bounded {
            suite = suite.bounded();
        }
        if setup.at_least_once {
            suite = suite.may_repeat();
        }
        for rule in SourceSuite::RULES {
            match rule.name {
                "survives_faults" => report.leave_out(rule, FAULTS),
                "an_idle_source_says_so" if ended => report.leave_out(rule, "the source ends"),
                _ if output.is_empty() => {
                    report
                        .leave_out(rule, "the source yields nothing with these options; give it a few records to read");
                }
                _ => report.check(rule, suite.check(rule.name)).await,
            }
        }
        match expected {
            Some(expected) => report.check(&EXPECTED, async { expected.compare(&output) }).await,
            None => report
                .leave_out(&EXPECTED, "write expect = \"records.jsonl\", a file with the value of each record a line"),
        }
        if output.is_empty() {
            report
                .leave_out(&kill::RULE, "the source yields nothing with these options; give it a few records to read");
        } else {
            report.check_telling(&kill::RULE, self.killing.source(&self.plugin, setup, &self.place("kill"))).await;
        }
    }

    async fn sink(&self, connector: &dyn SinkConnector, report: &mut Report) {
        let (setup, read) = match (self.setup, self.setup.and_then(|setup| setup.read.as_ref())) {
            (Some(setup), Some(read)) => (setup, read),
            (setup, _) => {
                let what = if setup.is_none() { "options = { .. } and " } else { "" };
                let why = format!(
                    "write {} with {what}read = \"cat {{dir}}/*.jsonl\", a command that prints the value of each record a line",
                    self.section
                );
                return SinkSuite::RULES.iter().chain([&kill::RULE]).for_each(|rule| report.leave_out(rule, &why));
            }
        };
        let troubles = RefCell::new(Vec::new());
        let make = |name: &str| {
            let place = self.place(name);
            // Once for each destination: tasks come and go over it.
            if !place.dir.exists() {
                place.prepare(setup.prepare.as_deref()).unwrap_or_else(|error| panic!("{error}"));
            }
            let task = connector.task(&setup.properties(&place));
            task.unwrap_or_else(|error| panic!("make a task: {error}"))
        };
        let mut suite = SinkSuite::new(make, |name: String| {
            let (place, troubles) = (self.place(&name), &troubles);
            async move {
                let (values, trouble) = place.read(read).await;
                troubles.borrow_mut().extend(trouble);
                values
            }
        });
        if setup.at_least_once {
            suite = suite.at_least_once();
        }
        for rule in SinkSuite::RULES {
            if rule.name == "survives_faults" {
                report.leave_out(rule, FAULTS);
                continue;
            }
            troubles.borrow_mut().clear();
            let add = || match troubles.borrow().last() {
                Some(trouble) => format!("\nwhen it was read for the last time: {trouble}"),
                None => String::new(),
            };
            report.check_with(rule, suite.check(rule.name), add).await;
        }
        report.check_telling(&kill::RULE, self.killing.sink(&self.plugin, setup, read, &self.place("kill"))).await;
    }

    async fn transformation(&self, make: &Make<'_, dyn Transformation>, report: &mut Report) {
        let Some(made) = self.made(make, TransformationSuite::RULES, report) else { return };
        let (records, cases) = self.records();
        let expects =
            cases.iter().all(|case| matches!(case.expected, Some(Expected::Dropped | Expected::Record { .. })));
        let suite = TransformationSuite::new(records.clone(), &made);
        for rule in TransformationSuite::RULES {
            match self.why_without_cases(rule, expects, "expected.value = '..' (or expected.dropped = true)") {
                Some(why) => report.leave_out(rule, &why),
                // What is expected is JSON, so that is what is compared.
                None if rule.name == "yields_what_is_expected" => {
                    let check = async {
                        let mut transformation = made();
                        cases
                            .iter()
                            .zip(records.clone())
                            .for_each(|(case, record)| compare(case, record, &mut *transformation));
                    };
                    report.check(rule, check).await;
                }
                None => report.check(rule, async { suite.check(rule.name) }).await,
            }
        }
    }

    async fn predicate(&self, make: &Make<'_, dyn Predicate>, report: &mut Report) {
        let Some(made) = self.made(make, PredicateSuite::RULES, report) else { return };
        let (records, cases) = self.records();
        let mut suite = PredicateSuite::new(records, made);
        let answer = |case: &Case| match case.expected {
            Some(Expected::Answer(answer)) => Some(answer),
            _ => None,
        };
        let expected: Option<Vec<bool>> = cases.iter().map(answer).collect();
        let expects = expected.is_some();
        if let Some(expected) = expected {
            suite = suite.expecting(expected);
        }
        for rule in PredicateSuite::RULES {
            match self.why_without_cases(rule, expects, "expected = true (or false)") {
                Some(why) => report.leave_out(rule, &why),
                None => report.check(rule, async { suite.check(rule.name) }).await,
            }
        }
    }

    async fn converter(&self, make: &Make<'_, dyn Converter>, report: &mut Report) {
        let Some(made) = self.made(make, ConverterSuite::RULES, report) else { return };
        let setup = self.setup();
        let mut suite = ConverterSuite::new(made());
        let knows = setup.types.is_some() || !setup.values.is_empty();
        if !setup.values.is_empty() {
            let parse = |text: &String| json::parse(text.as_bytes()).expect("checked when it was read");
            suite = suite.schemaless(setup.values.iter().map(parse).collect());
        } else if let Some(types) = &setup.types {
            // A format of one type says nothing about being required: what comes back may be missing.
            suite = suite.supporting(|schema| {
                let one = types.contains(&schema.schema_type()) && schema.is_optional() && !schema.is_logical();
                types.is_empty() || one
            });
        } else {
            suite = suite.supporting(|_| false);
        }
        for rule in ConverterSuite::RULES {
            let needs_data = matches!(rule.name, "round_trips" | "bytes_are_stable" | "bytes_before_change_nothing");
            if needs_data && !knows {
                let why = format!(
                    "write {} with types = [\"string\"] (the types that it takes; [] for every schema), or \
                     values = ['{{\"a\":1}}'] (values without schemas)",
                    self.section
                );
                report.leave_out(rule, &why);
            } else {
                report.check(rule, async { suite.check(rule.name) }).await;
            }
        }
    }

    async fn config_provider(
        &self,
        make: &Make<'_, dyn ottla_api::config_provider::ConfigProvider>,
        report: &mut Report,
    ) {
        let Some(made) = self.made(make, ConfigProviderSuite::RULES, report) else { return };
        let (setup, place) = (self.setup(), self.place("data"));
        if let Err(error) = place.prepare(setup.prepare.as_deref()) {
            return report.check(&ConfigProviderSuite::RULES[0], async { panic!("{error}") }).await;
        }
        let known = setup.known.iter().map(|(path, key, value)| (place.fill(path), place.fill(key), value.clone()));
        let suite = ConfigProviderSuite::new(known, made);
        for rule in ConfigProviderSuite::RULES {
            let needs_known = rule.name != "odd_references_never_panic" || self.setup.is_none();
            if setup.known.is_empty() && needs_known {
                let known = "known = [{ path = \"..\", key = \"..\", value = \"..\" }]";
                report.leave_out(rule, &format!("write {} with {known}", self.section));
            } else {
                report.check(rule, async { suite.check(rule.name) }).await;
            }
        }
    }

    /// What makes the plugin. Nothing where that fails, which is said for every rule.
    fn made<'m, T: ?Sized>(
        &self,
        make: &'m Make<'_, T>,
        rules: &[Rule],
        report: &mut Report,
    ) -> Option<impl Fn() -> Box<T> + use<'m, T>> {
        let properties = self.setup().properties(&self.place("data"));
        if let Err(error) = make(&properties) {
            let why = format!(
                "it can't be made with the options there are: {error}; write {} with options = {{ .. }}",
                self.section
            );
            rules.iter().for_each(|rule| report.leave_out(rule, &why));
            return None;
        }
        Some(move || make(&properties).unwrap_or_else(|error| panic!("made before, but now: {error}")))
    }

    /// The records of the cases.
    fn records(&self) -> (Vec<Record>, &[Case]) {
        let cases = self.setup.map_or(&[][..], |setup| &setup.cases);
        (cases.iter().map(record).collect(), cases)
    }

    /// Why a rule over records can't be checked.
    fn why_without_cases(&self, rule: &Rule, expects: bool, expected: &str) -> Option<String> {
        let needs_none = rule.name == "errors_are_about_the_record";
        let compares = matches!(rule.name, "yields_what_is_expected" | "answers_as_expected");
        match (self.setup.is_some_and(|setup| !setup.cases.is_empty()), compares) {
            (false, _) if !needs_none => {
                Some(format!("write {} with cases = [{{ value = '{{\"a\":1}}', {expected} }}]", self.section))
            }
            (true, true) if !expects => Some(format!("write {expected} in every case")),
            _ => None,
        }
    }

    fn setup(&self) -> &Setup {
        static NONE: std::sync::LazyLock<Setup> = std::sync::LazyLock::new(Setup::default);
        self.setup.unwrap_or(&NONE)
    }

    fn place(&self, name: &str) -> Place {
        Place { dir: self.dir.join(name), name: name.to_owned(), home: self.home.clone() }
    }
}

type Make<'a, T> = dyn Fn(&Properties) -> Result<Box<T>> + 'a;

/// Everything that a source has, and whether it has ended with it.
async fn read_all(task: Box<dyn SourceTask>) -> (Vec<SourceRecord>, bool) {
    let harness = SourceHarness::start(task, &SourceOffsets::new()).await;
    let mut harness = harness.unwrap_or_else(|error| panic!("start failed: {error}"));
    let mut output = Vec::new();
    loop {
        match harness.poll().await {
            Ok(SourcePoll::Records(records)) => output.extend(records),
            Ok(SourcePoll::Offsets(_)) => {}
            Ok(SourcePoll::CaughtUp) => return (output, false),
            Ok(SourcePoll::Finished) => return (output, true),
            Err(error) => panic!("poll failed: {error}"),
        }
    }
}

fn payload(text: &str) -> Payload {
    Payload::schemaless(json::parse(text.as_bytes()).expect("checked when it was read"))
}

fn record(case: &Case) -> Record {
    let mut record = Record::new(case.topic.as_str(), Value::Null);
    record.key = case.key.as_deref().map_or_else(Payload::null, payload);
    record.value = case.value.as_deref().map_or_else(Payload::null, payload);
    record.timestamp = case.timestamp;
    for (name, value) in &case.headers {
        record.headers.add(name.as_str(), value.as_str());
    }
    record
}

/// Sends the record of a case through, and compares what comes out with what the case says; what it does not name stays.
///
/// # Panics
///
/// Where something differs.
fn compare(case: &Case, record: Record, transformation: &mut dyn Transformation) {
    let before = Shown::from(&record);
    let about = format!("of value {}", before.value);
    let outcome = transformation.apply(record).unwrap_or_else(|error| panic!("{about}: it was refused: {error}"));
    let (topic, key, value, headers) = match (&case.expected, &outcome) {
        (Some(Expected::Dropped), None) => return,
        (Some(Expected::Dropped), Some(after)) => {
            panic!("{about}: it was to be dropped, but came out with value {}", Shown::from(after).value)
        }
        (_, None) => panic!("{about}: it was dropped"),
        (Some(Expected::Record { topic, key, value, headers }), Some(_)) => (topic, key, value, headers),
        (_, Some(_)) => return,
    };
    let after = outcome.as_ref().map_or_else(|| before.clone(), Shown::from);
    let parsed = |text: &str| json::parse(text.as_bytes()).unwrap_or(Value::Null);
    let part = |name: &str, due: &str, found: &str, same: bool| {
        assert!(same, "{about}: its {name} came out as {found}, where {due} was expected");
    };
    let due = topic.as_ref().unwrap_or(&before.topic);
    part("topic", due, &after.topic, *due == after.topic);
    for (name, due, found) in [
        ("key", key.as_ref().unwrap_or(&before.key), &after.key),
        ("value", value.as_ref().unwrap_or(&before.value), &after.value),
    ] {
        part(name, due, found, parsed(due) == parsed(found));
    }
    // As text: a header that was given as one is shown as JSON.
    let plain = |headers: &[(String, String)]| {
        let text = |(name, value): &(String, String)| format!("{name}={}", value.trim_matches('"'));
        headers.iter().map(text).collect::<Vec<_>>().join(", ")
    };
    let (due, found) = (plain(headers.as_ref().unwrap_or(&before.headers)), plain(&after.headers));
    part("headers", &due, &found, due == found);
}

/// What a path means as a library: a file, and no name of a plugin.
pub(super) fn is_library(name: &str) -> bool {
    name.contains('/') || Path::new(name).extension().is_some_and(|end| end == "so")
}
