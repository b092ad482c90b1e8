//! Tests of transformations as data: a TOML file of records, and of what a connector's chain makes of each.
//!
//! ```toml
//! config = "batch.toml"            # files and folders as `ottla run` takes them, from this file's folder
//! connector = "s3-sink"            # whose chain; not needed where only one has transformations
//!
//! [[cases]]
//! name = "10k is ten thousand"
//! topic = "posts.pin"
//! value = '{"index":1,"follower_count":"10k"}'
//! expected.value = '{"ind":1,"follower_count":10000}'
//!
//! [[cases]]
//! name = "a row of another table"
//! topic = "posts.pin"
//! value = '{"country":"Aruba"}'
//! expected.dropped = true
//! ```
//!
//! `key` and `value` are the text in the topic, as the converters get it; one that is left out is null. What `expected` does not
//! name has to stay as it was. The cases go through one chain, in their order, so a stage that remembers can be tested too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_api::data::json;
use ottla_api::record::RawRecord;
use ottla_api::{Error, Result, error::ResultExt};
use toml_edit::{DocumentMut, Item, Table, value};

use super::{Shown, Trial};
use crate::config::nearest::did_you_mean;
use crate::config::tree::{Member, Node};
use crate::config::{Configuration, load, toml};
use crate::plugins::Registry;
use crate::task::transformation_chain::Step;

/// A file of cases.
#[derive(Debug)]
pub struct CaseFile {
    path: PathBuf,
    text: String,
    /// The configuration's files and folders.
    pub config: Vec<PathBuf>,
    /// The connector whose chain it is, where the file says.
    pub connector: Option<String>,
    /// The cases in order.
    pub cases: Vec<Case>,
}

/// A record, and what is expected of it.
#[derive(Debug, Default)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The line where it begins.
    pub line: usize,
    topic: String,
    key: Option<String>,
    value: Option<String>,
    timestamp: Option<i64>,
    headers: Vec<(String, String)>,
    expected: Option<Expected>,
}

/// What is expected of a record; what is not named stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// A stage drops it.
    pub dropped: bool,
    /// Its failure's text contains this.
    pub error: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    value: Option<String>,
    timestamp: Option<i64>,
    headers: Option<Vec<(String, String)>>,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It came through.
    Out(Shown),
    /// This stage dropped it.
    Dropped(String),
    /// It failed there, for that reason.
    Failed(String),
}

/// A case that was run.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// The case.
    pub case: &'a Case,
    /// What came out.
    pub outcome: Outcome,
    /// What differs from what was expected, a line each; nothing where all is well.
    pub differences: Vec<String>,
    /// What [`CaseFile::bless`] would write.
    blessed: Expected,
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Every mistake at once, a line each, with its place.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).or_error(ottla_api::ErrorKind::Config, format!("read {}", path.display()))?;
        let mut reader = Reader { path, mistakes: Vec::new() };
        let mut file =
            Self { path: path.to_owned(), text: String::new(), config: Vec::new(), connector: None, cases: Vec::new() };
        match toml::parse(&text) {
            Ok(members) => reader.file(&members, &mut file),
            Err((line, message)) => reader.mistake(line, message),
        }
        if !reader.mistakes.is_empty() {
            return Err(Error::config(reader.mistakes.join("\n")));
        }
        Ok(Self { text, ..file })
    }

    /// Loads the configuration that the file names.
    ///
    /// # Errors
    ///
    /// The mistakes in it.
    pub fn configuration(&self, overrides: &[(String, String)], registry: &Registry) -> Result<Configuration> {
        load(&self.config, overrides, registry)
            .map_err(|diagnostics| Error::config(diagnostics.to_string().trim_end().to_owned()))
    }

    /// Runs all cases.
    pub fn run<'a>(&'a self, trial: &mut Trial) -> Vec<Verdict<'a>> {
        self.cases.iter().map(|case| case.run(trial)).collect()
    }

    /// Writes what came out into the file, in place of what was expected; everything else stays as it is written. True where
    /// something has changed.
    ///
    /// # Errors
    ///
    /// Where the file can't be written.
    pub fn bless(&self, verdicts: &[Verdict<'_>]) -> Result<bool> {
        let mut document: DocumentMut =
            self.text.parse().or_error(ottla_api::ErrorKind::Fatal, format!("read {}", self.path.display()))?;
        let Some(cases) = document.get_mut("cases").and_then(Item::as_array_of_tables_mut) else {
            return Err(Error::config(format!("{}: write each case as [[cases]]", self.path.display())));
        };
        for (table, verdict) in cases.iter_mut().zip(verdicts) {
            if verdict.case.expected.as_ref() == Some(&verdict.blessed) || verdict.differences.is_empty() {
                continue;
            }
            table.insert("expected", Item::Table(verdict.blessed.to_table()));
        }
        let text = document.to_string();
        if text == self.text {
            return Ok(false);
        }
        let doing = || format!("write {}", self.path.display());
        // A file that is cut short by a full disk would be the loss of somebody's work.
        let beside = self.path.with_extension("toml.new");
        std::fs::write(&beside, text).or_error(ottla_api::ErrorKind::Fatal, doing())?;
        std::fs::rename(&beside, &self.path).or_error(ottla_api::ErrorKind::Fatal, doing())?;
        Ok(true)
    }
}

impl Case {
    fn raw(&self) -> RawRecord {
        let bytes = |text: &String| Bytes::from(text.clone());
        RawRecord {
            offset: 0,
            timestamp: self.timestamp,
            key: self.key.as_ref().map(bytes),
            value: self.value.as_ref().map(bytes),
            headers: self.headers.iter().map(|(name, value)| (name.clone(), Some(bytes(value)))).collect(),
        }
    }

    fn run(&self, trial: &mut Trial) -> Verdict<'_> {
        let topic: Arc<str> = self.topic.as_str().into();
        let stages: Vec<String> = trial.stages().map(str::to_owned).collect();
        let (mut before, mut dropped_by) = (None, None);
        let result = trial.convert(&topic, &self.raw()).and_then(|record| {
            before = Some(Shown::from(&record));
            trial.apply(record, |stage, step| {
                if matches!(step, Step::Dropped) {
                    dropped_by = Some(stages[stage].clone());
                }
            })
        });
        let outcome = match result {
            Ok(Some(record)) => Outcome::Out(Shown::from(&record)),
            Ok(None) => Outcome::Dropped(dropped_by.unwrap_or_default()),
            Err(failure) => Outcome::Failed(format!("{}: {}", failure.class, failure.error)),
        };
        let blessed = Expected::of(&outcome, before.as_ref());
        let differences = match &self.expected {
            None => vec!["nothing is expected; --bless writes what came out".to_owned()],
            Some(expected) => expected.differences(&outcome, before.as_ref()),
        };
        Verdict { case: self, outcome, differences, blessed }
    }
}

impl Expected {
    /// What came out, said with no more than is needed.
    fn of(outcome: &Outcome, before: Option<&Shown>) -> Self {
        let shown = match outcome {
            Outcome::Dropped(_) => return Self { dropped: true, ..Self::default() },
            Outcome::Failed(text) => return Self { error: Some(text.clone()), ..Self::default() },
            Outcome::Out(shown) => shown,
        };
        let changed = |part: fn(&Shown) -> &String| {
            (before.is_none_or(|before| part(before) != part(shown))).then(|| part(shown).clone())
        };
        Self {
            topic: changed(|shown| &shown.topic),
            key: changed(|shown| &shown.key),
            value: Some(shown.value.clone()),
            timestamp: shown.timestamp.filter(|_| before.is_none_or(|before| before.timestamp != shown.timestamp)),
            headers: before.is_none_or(|before| before.headers != shown.headers).then(|| shown.headers.clone()),
            ..Self::default()
        }
    }

    fn differences(&self, outcome: &Outcome, before: Option<&Shown>) -> Vec<String> {
        let mut found = Vec::new();
        let is = match outcome {
            Outcome::Out(_) => "it came through".to_owned(),
            Outcome::Dropped(stage) => format!("{stage} dropped it"),
            Outcome::Failed(text) => format!("it failed: {text}"),
        };
        match (outcome, &self.error) {
            (Outcome::Failed(text), Some(error)) if text.contains(error.as_str()) => return found,
            (_, Some(error)) => return vec![format!("expected a failure that says '{error}'; {is}")],
            (Outcome::Dropped(_), None) if self.dropped => return found,
            (_, None) if self.dropped => return vec![format!("expected that it is dropped; {is}")],
            (Outcome::Out(_), None) => {}
            _ => return vec![format!("expected that it comes through; {is}")],
        }
        let (Outcome::Out(shown), Some(before)) = (outcome, before) else { return found };
        let mut compare = |part: &str, expected: &str, found_text: &str| {
            if expected != found_text {
                found.push(format!("{part} expected  {expected}"));
                found.push(format!("{part} found     {found_text}"));
            }
        };
        compare("topic    ", self.topic.as_ref().unwrap_or(&before.topic), &shown.topic);
        compare("key      ", self.key.as_ref().unwrap_or(&before.key), &shown.key);
        compare("value    ", self.value.as_ref().unwrap_or(&before.value), &shown.value);
        let time = |time: Option<i64>| time.map_or_else(|| "none".to_owned(), |time| time.to_string());
        compare("timestamp", &time(self.timestamp.or(before.timestamp)), &time(shown.timestamp));
        let headers = |headers: &[(String, String)]| {
            headers.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
        };
        compare("headers  ", &headers(self.headers.as_ref().unwrap_or(&before.headers)), &headers(&shown.headers));
        found
    }

    fn to_table(&self) -> Table {
        let mut table = Table::new();
        table.set_dotted(true);
        if self.dropped {
            table.insert("dropped", value(true));
        }
        for (name, text) in [("error", &self.error), ("topic", &self.topic), ("key", &self.key), ("value", &self.value)]
        {
            if let Some(text) = text {
                table.insert(name, value(text.as_str()));
            }
        }
        if let Some(timestamp) = self.timestamp {
            table.insert("timestamp", value(timestamp));
        }
        if let Some(headers) = &self.headers {
            let mut of_headers = Table::new();
            of_headers.set_dotted(true);
            for (name, text) in headers {
                of_headers.insert(name, value(text.as_str()));
            }
            table.insert("headers", Item::Table(of_headers));
        }
        table
    }
}

/// Reads the file's tree, and gathers what is wrong with it.
struct Reader<'a> {
    path: &'a Path,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn mistake(&mut self, line: usize, message: impl std::fmt::Display) {
        self.mistakes.push(format!("{}:{line}: {message}", self.path.display()));
    }

    fn unknown(&mut self, member: &Member, known: &[&str]) {
        let near = did_you_mean(&member.key, known.iter().copied());
        self.mistake(member.line, format!("{}: unknown key{near}", member.key));
    }

    fn file(&mut self, members: &[Member], file: &mut CaseFile) {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        for member in members {
            match member.key.as_str() {
                "config" => file.config = self.texts(member).iter().map(|path| folder.join(path)).collect(),
                "connector" => file.connector = self.text(member),
                "cases" => match &member.node {
                    Node::List(cases) => file.cases = cases.iter().filter_map(|case| self.case(case)).collect(),
                    _ => self.mistake(member.line, "cases: write each as [[cases]]"),
                },
                _ => self.unknown(member, &["config", "connector", "cases"]),
            }
        }
        if file.config.is_empty() {
            self.mistake(1, "config: is missing: name the configuration whose transformations are tested");
        }
        if file.cases.is_empty() && self.mistakes.is_empty() {
            self.mistake(1, "cases: there is none");
        }
    }

    fn case(&mut self, node: &Node) -> Option<Case> {
        let Node::Table(members) = node else {
            self.mistake(1, "cases: each is a table");
            return None;
        };
        let mut case = Case { line: members.first().map_or(1, |member| member.line), ..Case::default() };
        for member in members {
            match member.key.as_str() {
                "name" => case.name = self.text(member).unwrap_or_default(),
                "topic" => case.topic = self.text(member).unwrap_or_default(),
                "key" => case.key = self.text(member),
                "value" => case.value = self.text(member),
                "timestamp" => case.timestamp = self.number(member),
                "headers" => case.headers = self.pairs(member),
                "expected" => case.expected = self.expected(member),
                _ => self.unknown(member, &["name", "topic", "key", "value", "timestamp", "headers", "expected"]),
            }
        }
        if case.topic.is_empty() {
            self.mistake(case.line, "topic: is missing");
        }
        if case.name.is_empty() {
            case.name = format!("line {}", case.line);
        }
        Some(case)
    }

    fn expected(&mut self, member: &Member) -> Option<Expected> {
        let Node::Table(members) = &member.node else {
            self.mistake(member.line, "expected: is a table, such as expected.value = '..'");
            return None;
        };
        let mut expected = Expected::default();
        for member in members {
            match member.key.as_str() {
                "dropped" => match self.text(member).as_deref() {
                    Some("true") => expected.dropped = true,
                    Some("false") => {}
                    _ => self.mistake(member.line, "expected.dropped: must be true or false"),
                },
                "error" => expected.error = self.text(member),
                "topic" => expected.topic = self.text(member),
                "key" => expected.key = self.json(member),
                "value" => expected.value = self.json(member),
                "timestamp" => expected.timestamp = self.number(member),
                "headers" => expected.headers = Some(self.pairs(member)),
                _ => self.unknown(member, &["dropped", "error", "topic", "key", "value", "timestamp", "headers"]),
            }
        }
        Some(expected)
    }

    fn text(&mut self, member: &Member) -> Option<String> {
        match &member.node {
            Node::Scalar(text) => Some(text.clone()),
            _ => {
                self.mistake(member.line, format!("{}: must be text", member.key));
                None
            }
        }
    }

    fn texts(&mut self, member: &Member) -> Vec<String> {
        match &member.node {
            Node::List(items) if items.iter().all(|item| matches!(item, Node::Scalar(_))) => {
                let texts = items.iter().filter_map(|item| match item {
                    Node::Scalar(text) => Some(text.clone()),
                    _ => None,
                });
                texts.collect()
            }
            _ => self.text(member).into_iter().collect(),
        }
    }

    fn number(&mut self, member: &Member) -> Option<i64> {
        let number = self.text(member)?.parse().ok();
        if number.is_none() {
            self.mistake(member.line, format!("{}: must be a whole number of milliseconds", member.key));
        }
        number
    }

    fn pairs(&mut self, member: &Member) -> Vec<(String, String)> {
        match &member.node {
            Node::Table(members) => {
                members.iter().filter_map(|member| Some((member.key.clone(), self.text(member)?))).collect()
            }
            _ => {
                self.mistake(member.line, format!("{}: must be a table of texts", member.key));
                Vec::new()
            }
        }
    }

    /// JSON, made compact: so it can be written over several lines.
    fn json(&mut self, member: &Member) -> Option<String> {
        let text = self.text(member)?;
        match json::compact(&Bytes::from(text)) {
            Ok(compact) => Some(String::from_utf8_lossy(&compact).into_owned()),
            Err(error) => {
                self.mistake(member.line, format!("expected.{}: is not JSON: {}", member.key, error.message()));
                None
            }
        }
    }
}
