//! `conformance.toml`: what a test of a plugin can't know by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ottla_api::config::{Properties, join_list};
use ottla_api::data::SchemaType;
use ottla_api::plugin::PluginKind;
use ottla_api::{Error, ErrorKind, Result, error::ResultExt as _};
use serde_json::{Map, Value};
use toml_edit::{Document, Item, TableLike};

/// The name that is looked for.
pub(super) const FILE_NAME: &str = "conformance.toml";

/// How long a command that reads a destination may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// A file, read.
#[derive(Debug)]
pub(super) struct SetupFile {
    /// Where it lies; commands run in its folder.
    pub(super) path: PathBuf,
    /// Per plugin, by the name that the file uses, what it says. A plugin may stand there several times.
    pub(super) plugins: Vec<(String, Setup)>,
}

/// What the file says about one plugin.
#[derive(Debug, Clone, Default)]
pub(super) struct Setup {
    /// What tells it from another one of the same plugin.
    pub(super) name: Option<String>,
    /// The plugin's options, with placeholders.
    pub(super) options: Vec<(String, String)>,
    /// A command that makes what the plugin needs, once in each folder.
    pub(super) prepare: Option<String>,
    /// How a destination is read back.
    pub(super) read: Option<Read>,
    /// A file with the records that a source yields.
    pub(super) expect: Option<PathBuf>,
    /// True where a source ends; nothing where the file does not say.
    pub(super) bounded: bool,
    /// True where records may come twice after a crash.
    pub(super) at_least_once: bool,
    /// Records for a transformation or predicate.
    pub(super) cases: Vec<Case>,
    /// The only types that a converter takes.
    pub(super) types: Option<Vec<SchemaType>>,
    /// Values without schemas that a converter takes.
    pub(super) values: Vec<String>,
    /// Places that a config provider knows: path, key, value.
    pub(super) known: Vec<(String, String, String)>,
    /// What is different where the plugin is killed.
    pub(super) kill: Kill,
}

/// How the destination of a sink is read.
#[derive(Debug, Clone)]
pub(super) enum Read {
    /// By a command, whose standard output is the value of one record a line.
    Command(String),
    /// From the files that this pattern finds, by name; the value of one record a line.
    Files(String),
}

/// A record to try, and what comes of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) topic: String,
    /// JSON text.
    pub(super) key: Option<String>,
    /// JSON text.
    pub(super) value: Option<String>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) expected: Option<Expected>,
}

/// What comes of a case.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// A predicate's answer.
    Answer(bool),
    /// A transformation drops it.
    Dropped,
    /// A transformation changes it into this; what is not named stays.
    Record {
        topic: Option<String>,
        /// JSON text.
        key: Option<String>,
        /// JSON text.
        value: Option<String>,
        headers: Option<Vec<(String, String)>>,
    },
}

/// What is different where the plugin is killed: there is more to do, so that there is something to interrupt.
#[derive(Debug, Clone, Default)]
pub(super) struct Kill {
    pub(super) options: Vec<(String, String)>,
    pub(super) prepare: Option<String>,
    /// Records for a sink, in all.
    pub(super) records: Option<usize>,
}

impl SetupFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Every mistake at once, a line each.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).or_error(ErrorKind::Config, format!("read {}", path.display()))?;
        let document = Document::parse(text.as_str()).map_err(|error| {
            Error::config(format!("{}: {}", path.display(), error.to_string().trim_end().replace('\n', "\n  ")))
        })?;
        let mut reader = Reader { folder: folder_of(path), mistakes: Vec::new() };
        let mut plugins = Vec::new();
        for (name, value) in json_of(document.as_table()) {
            match value {
                Value::Object(section) => plugins.push((name.clone(), reader.setup(&name, &section))),
                Value::Array(sections) => {
                    for section in &sections {
                        match section {
                            Value::Object(section) => plugins.push((name.clone(), reader.setup(&name, section))),
                            _ => reader.mistake(&name, "write [[NAME]] for each setup of the plugin"),
                        }
                    }
                }
                _ => reader.mistake(&name, "write a section, [NAME], for each plugin"),
            }
        }
        if !reader.mistakes.is_empty() {
            let mistakes = reader.mistakes.iter().map(|mistake| format!("{}: {mistake}", path.display()));
            return Err(Error::config(mistakes.collect::<Vec<_>>().join("\n")));
        }
        Ok(Self { path: path.to_owned(), plugins })
    }

    /// The folder in which its commands run.
    pub(super) fn folder(&self) -> &Path {
        folder_of(&self.path)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The keys of a section, with the kinds of plugins that each is for.
const KEYS: &[(&str, &[PluginKind])] = {
    use PluginKind::*;
    &[
        ("name", &[Source, Sink, Transformation, Predicate, Converter, ConfigProvider]),
        ("options", &[Source, Sink, Transformation, Predicate, Converter, ConfigProvider]),
        ("prepare", &[Source, Sink, ConfigProvider]),
        ("read", &[Sink]),
        ("guarantee", &[Source, Sink]),
        ("expect", &[Source]),
        ("bounded", &[Source]),
        ("kill", &[Source, Sink]),
        ("cases", &[Transformation, Predicate]),
        ("types", &[Converter]),
        ("values", &[Converter]),
        ("known", &[ConfigProvider]),
    ]
};

impl Setup {
    /// The options with their placeholders replaced.
    pub(super) fn properties(&self, place: &Place) -> Properties {
        self.options.iter().map(|(name, value)| (name.clone(), place.fill(value))).collect()
    }

    /// As it is for a run that is killed.
    pub(super) fn for_kills(&self) -> Self {
        let mut setup = self.clone();
        for (name, value) in &self.kill.options {
            setup.options.retain(|(known, _)| known != name);
            setup.options.push((name.clone(), value.clone()));
        }
        setup.prepare = self.kill.prepare.clone().or(setup.prepare);
        setup
    }
}

/// One destination, or one source's data: a folder of its own and a name of its own.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) name: String,
    /// Where commands run.
    pub(super) home: PathBuf,
}

impl Place {
    /// `{dir}` and `{name}` replaced.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{dir}", &self.dir.display().to_string()).replace("{name}", &self.name)
    }

    /// Makes the folder, and what the plugin needs in it.
    pub(super) fn prepare(&self, prepare: Option<&str>) -> Result<()> {
        std::fs::create_dir_all(&self.dir).or_error(ErrorKind::Fatal, format!("make {}", self.dir.display()))?;
        let Some(command) = prepare else { return Ok(()) };
        let output = self.shell(command).output().or_error(ErrorKind::Config, format!("prepare: run `{command}`"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::config(format!("prepare: `{command}` ended with {}: {said}", output.status)));
        }
        Ok(())
    }

    /// The value of each record at a destination; and why it could not be read, where that is so.
    pub(super) async fn read(&self, read: &Read) -> (Vec<String>, Option<String>) {
        let lines = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        match read {
            Read::Command(command) => match self.run(command).await {
                Ok(output) if output.status.success() => (lines(&output.stdout), None),
                // `cat` of files that are not there yet.
                Ok(output) => {
                    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    (lines(&output.stdout), Some(format!("`{command}` ended with {}: {said}", output.status)))
                }
                Err(error) => (Vec::new(), Some(error.to_string())),
            },
            Read::Files(pattern) => {
                let mut all = Vec::new();
                let found = match glob::glob(&self.fill(pattern)) {
                    Ok(found) => found,
                    Err(error) => return (all, Some(format!("read.files: {pattern}: {error}"))),
                };
                // In the order of their names.
                for path in found.flatten().filter(|path| path.is_file()) {
                    match std::fs::read(&path) {
                        Ok(text) => all.extend(lines(&text)),
                        Err(error) => return (all, Some(format!("read {}: {error}", path.display()))),
                    }
                }
                (all, None)
            }
        }
    }

    async fn run(&self, command: &str) -> Result<std::process::Output> {
        let mut shell = tokio::process::Command::from(self.shell(command));
        let output = tokio::time::timeout(COMMAND_PATIENCE, shell.kill_on_drop(true).output()).await;
        let output = output.map_err(|_| Error::config(format!("`{command}` took longer than {COMMAND_PATIENCE:?}")))?;
        output.or_error(ErrorKind::Config, format!("run `{command}`"))
    }

    fn shell(&self, command: &str) -> std::process::Command {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(self.fill(command)).current_dir(&self.home).stdin(std::process::Stdio::null());
        shell
    }
}

/// Which keys a section of this kind of plugin may have that it does not use.
pub(super) fn keys_of_others(kind: PluginKind, setup: &Setup) -> Vec<&'static str> {
    let set = |key: &str| match key {
        "read" => setup.read.is_some(),
        "expect" => setup.expect.is_some(),
        "cases" => !setup.cases.is_empty(),
        "types" => setup.types.is_some(),
        "values" => !setup.values.is_empty(),
        "known" => !setup.known.is_empty(),
        _ => false,
    };
    KEYS.iter().filter(|(key, kinds)| !kinds.contains(&kind) && set(key)).map(|(key, _)| *key).collect()
}

/// Reads sections, and gathers what is wrong with them.
struct Reader<'a> {
    folder: &'a Path,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn mistake(&mut self, place: &str, message: &str) {
        self.mistakes.push(format!("{place}: {message}"));
    }

    fn setup(&mut self, plugin: &str, section: &Map<String, Value>) -> Setup {
        let mut setup = Setup::default();
        for (key, value) in section {
            let place = format!("{plugin}.{key}");
            match key.as_str() {
                "name" => setup.name = self.text(&place, value),
                "options" => setup.options = self.options(&place, value),
                "prepare" => setup.prepare = self.text(&place, value),
                "read" => setup.read = self.how_to_read(&place, value),
                "expect" => setup.expect = self.text(&place, value).map(|path| self.folder.join(path)),
                "bounded" => setup.bounded = self.boolean(&place, value),
                "guarantee" => match value.as_str() {
                    Some("exactly-once") => setup.at_least_once = false,
                    Some("at-least-once") => setup.at_least_once = true,
                    _ => self.mistake(&place, "must be \"exactly-once\" or \"at-least-once\""),
                },
                "kill" => setup.kill = self.kill(&place, value),
                "cases" => setup.cases = self.each(&place, value, Self::case),
                "types" => {
                    let types = self.each(&place, value, |reader, place, value| {
                        let found = value.as_str().and_then(type_of);
                        if found.is_none() {
                            reader.mistake(place, "must be a type such as \"string\", \"bytes\", \"int32\"");
                        }
                        found
                    });
                    setup.types = Some(types);
                }
                "values" => setup.values = self.each(&place, value, Self::json),
                "known" => setup.known = self.each(&place, value, Self::place),
                _ => {
                    let known = KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
                    self.mistake(&place, &format!("unknown key; there are {known}"));
                }
            }
        }
        setup
    }

    fn kill(&mut self, place: &str, value: &Value) -> Kill {
        let mut kill = Kill::default();
        let Value::Object(section) = value else {
            self.mistake(place, "must be { options = { .. }, prepare = \"..\", records = .. }");
            return kill;
        };
        for (key, value) in section {
            let place = format!("{place}.{key}");
            match key.as_str() {
                "options" => kill.options = self.options(&place, value),
                "prepare" => kill.prepare = self.text(&place, value),
                "records" => match value.as_u64().filter(|n| *n > 0) {
                    Some(n) => kill.records = usize::try_from(n).ok(),
                    None => self.mistake(&place, "must be a number from 1 on"),
                },
                _ => self.mistake(&place, "unknown key; there are options, prepare, records"),
            }
        }
        kill
    }

    fn how_to_read(&mut self, place: &str, value: &Value) -> Option<Read> {
        match value {
            Value::String(command) => Some(Read::Command(command.clone())),
            Value::Object(section) => match (section.get("files").and_then(Value::as_str), section.len()) {
                (Some(pattern), 1) => Some(Read::Files(pattern.to_owned())),
                _ => {
                    self.mistake(place, "must be a command, or read.files = \"{dir}/*.jsonl\"");
                    None
                }
            },
            _ => {
                self.mistake(place, "must be a command, or read.files = \"{dir}/*.jsonl\"");
                None
            }
        }
    }

    fn case(&mut self, place: &str, value: &Value) -> Option<Case> {
        let Value::Object(section) = value else {
            self.mistake(place, "must be a record, such as { value = '{\"a\":1}', expected.value = '{\"a\":2}' }");
            return None;
        };
        let mut case = Case { topic: "conformance".to_owned(), ..Case::default() };
        for (key, value) in section {
            let place = format!("{place}.{key}");
            match key.as_str() {
                "topic" => case.topic = self.text(&place, value).unwrap_or_default(),
                "key" => case.key = self.json(&place, value),
                "value" => case.value = self.json(&place, value),
                "timestamp" => match value.as_i64() {
                    Some(timestamp) => case.timestamp = Some(timestamp),
                    None => self.mistake(&place, "must be milliseconds since 1970"),
                },
                "headers" => case.headers = self.headers(&place, value),
                "expected" => case.expected = self.expected(&place, value),
                _ => self.mistake(&place, "unknown key; there are topic, key, value, timestamp, headers, expected"),
            }
        }
        Some(case)
    }

    fn expected(&mut self, place: &str, value: &Value) -> Option<Expected> {
        match value {
            Value::Bool(answer) => Some(Expected::Answer(*answer)),
            Value::Object(section) if section.len() == 1 && section.get("dropped") == Some(&Value::Bool(true)) => {
                Some(Expected::Dropped)
            }
            Value::Object(section)
                if section.keys().all(|key| ["topic", "key", "value", "headers"].contains(&key.as_str())) =>
            {
                Some(Expected::Record {
                    topic: section.get("topic").and_then(|topic| self.text(place, topic)),
                    key: section.get("key").and_then(|key| self.json(place, key)),
                    value: section.get("value").and_then(|value| self.json(place, value)),
                    headers: section.get("headers").map(|headers| self.headers(place, headers)),
                })
            }
            _ => {
                self.mistake(
                    place,
                    "must be true or false for a predicate, .dropped = true, or any of .topic, .key, .value, .headers",
                );
                None
            }
        }
    }

    fn headers(&mut self, place: &str, value: &Value) -> Vec<(String, String)> {
        let Value::Object(headers) = value else {
            self.mistake(place, "must be { name = \"value\" }");
            return Vec::new();
        };
        let header =
            |(name, value): (&String, &Value)| Some((name.clone(), self.text(&format!("{place}.{name}"), value)?));
        headers.iter().filter_map(header).collect()
    }

    fn place(&mut self, place: &str, value: &Value) -> Option<(String, String, String)> {
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        match (field("key"), field("value")) {
            (Some(key), Some(value_text)) => Some((field("path").unwrap_or_default(), key, value_text)),
            _ => {
                self.mistake(place, "must be { path = \"..\", key = \"..\", value = \"..\" }");
                None
            }
        }
    }

    /// JSON text, written as text or as the TOML that says the same.
    fn json(&mut self, place: &str, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => match ottla_api::data::json::parse(text.as_bytes()) {
                Ok(_) => Some(text.clone()),
                Err(error) => {
                    self.mistake(place, &format!("must be JSON text, such as '\"text\"' or '{{\"a\":1}}': {error}"));
                    None
                }
            },
            other => Some(other.to_string()),
        }
    }

    fn each<T>(
        &mut self,
        place: &str,
        value: &Value,
        mut read: impl FnMut(&mut Self, &str, &Value) -> Option<T>,
    ) -> Vec<T> {
        let Value::Array(items) = value else {
            self.mistake(place, "must be a list");
            return Vec::new();
        };
        items.iter().enumerate().filter_map(|(n, item)| read(self, &format!("{place}[{n}]"), item)).collect()
    }

    /// The leaves of a table, with dots between the names, as configurations write them.
    fn options(&mut self, place: &str, value: &Value) -> Vec<(String, String)> {
        let mut options = Vec::new();
        match value {
            Value::Object(table) => {
                for (name, value) in table {
                    let below = format!("{place}.{name}");
                    match value {
                        Value::Object(_) => options.extend(
                            self.options(&below, value).into_iter().map(|(key, text)| (format!("{name}.{key}"), text)),
                        ),
                        Value::Array(items) => {
                            let items: Vec<String> = items.iter().filter_map(|item| self.text(&below, item)).collect();
                            options.push((name.clone(), join_list(&items)));
                        }
                        _ => options.extend(self.text(&below, value).map(|text| (name.clone(), text))),
                    }
                }
            }
            _ => self.mistake(place, "must be a table: options = { file = \"{dir}/out.jsonl\" }"),
        }
        options
    }

    fn boolean(&mut self, place: &str, value: &Value) -> bool {
        if !value.is_boolean() {
            self.mistake(place, "must be true or false");
        }
        value.as_bool().unwrap_or_default()
    }

    fn text(&mut self, place: &str, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => {
                self.mistake(place, "must be a text");
                None
            }
        }
    }
}

fn type_of(name: &str) -> Option<SchemaType> {
    use SchemaType::*;
    let types = [Boolean, Int8, Int16, Int32, Int64, Float32, Float64, String, Bytes, Array, Map, Struct];
    types.into_iter().find(|schema_type| schema_type.to_string().eq_ignore_ascii_case(name))
}

/// A table as JSON: what is written is the same, and easier to walk through.
fn json_of(table: &dyn TableLike) -> Map<String, Value> {
    table.iter().map(|(name, item)| (name.to_owned(), item_of(item))).collect()
}

fn item_of(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => value_of(value),
        Item::Table(table) => Value::Object(json_of(table)),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| Value::Object(json_of(table))).collect(),
    }
}

fn value_of(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => text.value().as_str().into(),
        toml_edit::Value::Integer(number) => (*number.value()).into(),
        toml_edit::Value::Float(number) => (*number.value()).into(),
        toml_edit::Value::Boolean(flag) => (*flag.value()).into(),
        toml_edit::Value::Datetime(time) => time.value().to_string().into(),
        toml_edit::Value::Array(items) => items.iter().map(value_of).collect(),
        toml_edit::Value::InlineTable(table) => Value::Object(json_of(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SetupFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, text).unwrap();
        SetupFile::read(&path)
    }

    #[test]
    fn options_are_as_a_configuration_writes_them() {
        let file = read(
            "[my-sink]\noptions = { file = \"{dir}/x\", \"flush.size\" = 4, list = [\"a\", \"b\"], on.null = \"fail\" }\n\
             read.files = \"{dir}/*\"\n",
        );
        let file = file.unwrap();
        let (name, setup) = &file.plugins[0];
        assert_eq!(name, "my-sink");
        let place = Place { dir: "/d".into(), name: "n".to_owned(), home: ".".into() };
        let properties = setup.properties(&place);
        let found: Vec<(&str, &str)> = properties.iter().collect();
        assert_eq!(found, [("file", "/d/x"), ("flush.size", "4"), ("list", "a,b"), ("on.null", "fail")]);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let error = read("[s]\nreed = 1\nguarantee = \"most-once\"\n[[t]]\ncases = [{ value = \"{\" }]\n").unwrap_err();
        let lines: Vec<String> =
            error.to_string().lines().map(|line| line.split_once(".toml: ").unwrap().1.to_owned()).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].starts_with("s.reed: unknown key; there are name, options, "), "{lines:?}");
        assert_eq!(lines[1], "s.guarantee: must be \"exactly-once\" or \"at-least-once\"");
        assert!(lines[2].starts_with("t.cases[0].value: must be JSON text"), "{lines:?}");
    }
}
