//! `/consumers`: instances of consumers, by group and name, and what may be asked of them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HOST;
use ottla_api::config::java_regex;
use ottla_api::offset::{Positions, TopicPartition};
use ottla_runtime::broker::{Broker, StartPosition, Subscription};
use ottla_runtime::config::GatewayConfig;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::formats::Format;
use super::instance::{Command, Instance, Records};
use crate::answer::Answer;
use crate::error::{Failure, Result, code};
use crate::{Call, Surroundings};

/// How long `GET .../records` waits for records, unless its `timeout` says (REST Proxy's `consumer.request.timeout.ms`).
const RECORDS_TIMEOUT: Duration = Duration::from_millis(1000);
/// Most bytes of keys and values in one answer, unless `max_bytes` says less (REST Proxy: 64 MiB, which is much for one answer).
const RECORDS_BYTES_MAX: usize = 8 << 20;

/// All instances of a gateway.
#[derive(Debug)]
pub(crate) struct Consumers {
    broker: Arc<dyn Broker>,
    /// Groups of connectors, and whose they are.
    reserved: BTreeMap<String, String>,
    instances: Arc<Mutex<Instances>>,
    running: tokio::sync::Mutex<JoinSet<()>>,
    instances_max: usize,
    idle_max: Duration,
    stop: CancellationToken,
    next: AtomicU64,
}

type Name = (String, String);
type Instances = BTreeMap<Name, Handle>;

/// How an instance is spoken to.
#[derive(Debug, Clone)]
struct Handle {
    number: u64,
    format: Format,
    commands: tokio::sync::mpsc::Sender<Command>,
}

impl Consumers {
    pub(crate) fn new(config: &GatewayConfig, around: &Surroundings, stop: &CancellationToken) -> Self {
        Self {
            broker: Arc::clone(&around.broker),
            reserved: around.groups.clone(),
            instances: Arc::default(),
            running: tokio::sync::Mutex::default(),
            instances_max: config.consumers_max,
            idle_max: config.consumer_instance_timeout,
            stop: stop.clone(),
            next: AtomicU64::new(0),
        }
    }

    /// `POST /consumers/{group}`.
    pub(crate) async fn create(&self, call: Call) -> Result<Answer> {
        let group = &call.params[0];
        check_name("group", group)?;
        if let Some(connector) = self.reserved.get(group) {
            let message = format!(
                "group '{group}' belongs to connector '{connector}' of this worker, which would miss what is read in its name; \
                 choose another group"
            );
            return Err(Failure::kafka(code::CONSUMER_CONFIG, message));
        }
        let body = object(&call, json!({"name": "my_consumer", "format": "json", "auto.offset.reset": "earliest"}))?;
        let settings = Settings::read(&body)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = settings.name.unwrap_or_else(|| format!("rest-consumer-{:08x}-{number}", rand::random::<u32>()));
        check_name("name", &name)?;
        let (commands, receiver) = tokio::sync::mpsc::channel(16);
        let key = (group.clone(), name.clone());
        {
            let mut instances = self.instances.lock();
            if instances.contains_key(&key) {
                let message = format!(
                    "Consumer instance with the specified ID already exists: '{name}' in group '{group}'; DELETE it first, or name another"
                );
                return Err(Failure::kafka(code::CONSUMER_EXISTS, message));
            }
            if instances.len() >= self.instances_max {
                let message = format!(
                    "there are {} consumer instances already (consumers.max of the gateway); DELETE one",
                    instances.len()
                );
                return Err(Failure::kafka(429, message));
            }
            instances.insert(key.clone(), Handle { number, format: settings.format, commands });
        }
        let instance = Instance::new(
            Arc::clone(&self.broker),
            group.clone(),
            name.clone(),
            settings.start,
            settings.auto_commit,
            self.idle_max,
        );
        let (instances, stop) = (Arc::clone(&self.instances), self.stop.clone());
        let mut running = self.running.lock().await;
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            instance.run(receiver, stop).await;
            let mut instances = instances.lock();
            if instances.get(&key).is_some_and(|handle| handle.number == number) {
                instances.remove(&key);
            }
        });
        // Clients call what stands here, so it must lead back to where this call came in.
        let host = call.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let base = format!("http://{host}{}/consumers/{}/instances/{}", call.stage, encoded(group), encoded(&name));
        Ok(Answer::kafka(&json!({"instance_id": name, "base_uri": base})))
    }

    /// `DELETE .../instances/{instance}`. With automatic commits, what was read is committed.
    pub(crate) async fn delete(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let key = (call.params[0].clone(), call.params[1].clone());
        ask(&handle, Command::Close).await?;
        let mut instances = self.instances.lock();
        if instances.get(&key).is_some_and(|found| found.number == handle.number) {
            instances.remove(&key);
        }
        Ok(Answer::nothing())
    }

    /// `POST .../subscription`.
    pub(crate) async fn subscribe(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let expected = json!({"topics": ["my_topic"]});
        let body = object(&call, expected.clone())?;
        known(&body, &["topics", "topic_pattern"], &expected)?;
        let topics = body.get("topics").map(|topics| strings(topics, "topics", &expected)).transpose()?;
        let pattern = match body.get("topic_pattern") {
            None | Some(Value::Null) => None,
            Some(Value::String(pattern)) => Some(pattern.as_str()),
            Some(_) => return Err(unprocessable("topic_pattern must be text", &expected)),
        };
        let subscription = match (topics.filter(|topics| !topics.is_empty()), pattern) {
            (Some(topics), None) => Subscription::Topics(topics),
            (None, Some(pattern)) => {
                let regex = java_regex::full_match(pattern);
                Subscription::Regex(
                    regex.map_err(|message| unprocessable(format!("topic_pattern: {message}"), &expected))?,
                )
            }
            (Some(_), Some(_)) => {
                let message = "Subscription to topics, partitions and pattern are mutually exclusive";
                return Err(Failure::kafka(code::ILLEGAL_STATE, message));
            }
            (None, None) => return Err(unprocessable("topics must name at least one topic", &expected)),
        };
        ask(&handle, |reply| Command::Subscribe(subscription, reply)).await??;
        Ok(Answer::nothing())
    }

    /// `GET .../subscription`: the topics, or those that its pattern matches now.
    pub(crate) async fn subscription(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let topics = match ask(&handle, Command::Subscription).await? {
            None => Vec::new(),
            Some(Subscription::Topics(topics)) => topics,
            Some(pattern @ Subscription::Regex(_)) => {
                let all = self.broker.topics().await.map_err(|error| Failure::broker(&error))?;
                all.into_keys().filter(|topic| pattern.matches(topic)).collect()
            }
        };
        Ok(Answer::kafka(&json!({ "topics": topics })))
    }

    /// `DELETE .../subscription`.
    pub(crate) async fn unsubscribe(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        ask(&handle, Command::Unsubscribe).await?;
        Ok(Answer::nothing())
    }

    /// `GET .../assignments`: the partitions that the group gave this instance.
    pub(crate) async fn assignments(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let assigned = ask(&handle, Command::Assignment).await?;
        let partitions = assigned.iter().map(|id| json!({"topic": &*id.topic, "partition": id.partition}));
        Ok(Answer::kafka(&json!({ "partitions": partitions.collect::<Vec<_>>() })))
    }

    /// `GET .../records`: what there is, as soon as there is something; nothing after `timeout` milliseconds.
    pub(crate) async fn records(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        handle.format.accepted_by(&call.headers)?;
        let number = |name: &str| match call.query.get(name).map(|text| text.parse::<u64>()) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => Err(Failure::kafka(400, format!("{name} must be a whole number"))),
        };
        let timeout = number("timeout")?.map_or(RECORDS_TIMEOUT, Duration::from_millis);
        let bytes_max = number("max_bytes")?.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(RECORDS_BYTES_MAX);
        // The answer itself takes time, too.
        let latest = call.deadline - Duration::from_millis(500).min(timeout);
        let until = (Instant::now() + timeout.min(Duration::from_secs(3600))).min(latest);
        let wanted = Records { until, bytes_max: bytes_max.min(RECORDS_BYTES_MAX), format: handle.format };
        let body = ask(&handle, |reply| Command::Records(wanted, reply)).await??;
        Ok(Answer::ok(handle.format.media_type(), body))
    }

    /// `POST .../offsets`: commits what was read, or what the body says. As in REST Proxy, the offset in a body is that of the
    /// last record that was processed; the position behind it is stored.
    pub(crate) async fn commit(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let positions = if call.body.iter().all(u8::is_ascii_whitespace) || call.body.as_ref() == b"{}" {
            None
        } else {
            let read = offsets(&call)?;
            Some(read.into_iter().map(|(id, offset)| (id, offset.saturating_add(1))).collect())
        };
        ask(&handle, |reply| Command::Commit(positions, reply)).await??;
        Ok(Answer::nothing())
    }

    /// `GET .../offsets`: the stored positions of the partitions in the body, or of those assigned.
    pub(crate) async fn committed(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let partitions = if call.body.iter().all(u8::is_ascii_whitespace) {
            ask(&handle, Command::Assignment).await?
        } else {
            partitions(&call)?
        };
        let mut topics: Vec<String> = partitions.iter().map(|id| id.topic.to_string()).collect();
        topics.dedup();
        let stored = self.broker.committed(&call.params[0], &topics).await.map_err(|error| Failure::broker(&error))?;
        let offsets = partitions.iter().filter_map(|id| Some((id, *stored.get(id)?))).map(|(id, position)| {
            json!({"topic": &*id.topic, "partition": id.partition, "offset": position, "metadata": ""})
        });
        Ok(Answer::kafka(&json!({ "offsets": offsets.collect::<Vec<_>>() })))
    }

    /// `POST .../positions`: reads on at these offsets.
    pub(crate) async fn seek(&self, call: Call) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let positions = offsets(&call)?;
        ask(&handle, |reply| Command::Seek(positions, reply)).await??;
        Ok(Answer::nothing())
    }

    /// `POST .../positions/beginning`.
    pub(crate) async fn seek_to_beginning(&self, call: Call) -> Result<Answer> {
        self.seek_to(call, |range| range.start).await
    }

    /// `POST .../positions/end`.
    pub(crate) async fn seek_to_end(&self, call: Call) -> Result<Answer> {
        self.seek_to(call, |range| range.end).await
    }

    async fn seek_to(&self, call: Call, place: impl Fn(&ottla_runtime::broker::OffsetRange) -> i64) -> Result<Answer> {
        let handle = self.handle(&call)?;
        let partitions = partitions(&call)?;
        let topics: Vec<String> = partitions.iter().map(|id| id.topic.to_string()).collect();
        let ranges = self.broker.offsets(&topics).await.map_err(|error| Failure::broker(&error))?;
        let positions = partitions.into_iter().map(|id| match ranges.get(&id) {
            Some(range) => Ok((id, place(range))),
            None => Err(Failure::kafka(code::PARTITION_NOT_FOUND, format!("Partition not found: {id}"))),
        });
        let positions = positions.collect::<Result<Positions>>()?;
        ask(&handle, |reply| Command::Seek(positions, reply)).await??;
        Ok(Answer::nothing())
    }

    /// Has every instance leave its group.
    pub(crate) async fn close(&self) {
        let handles: Vec<Handle> = std::mem::take(&mut *self.instances.lock()).into_values().collect();
        drop(handles);
        let mut running = self.running.lock().await;
        while running.join_next().await.is_some() {}
    }

    fn handle(&self, call: &Call) -> Result<Handle> {
        let (group, name) = (&call.params[0], &call.params[1]);
        let found = self.instances.lock().get(&(group.clone(), name.clone())).cloned();
        found.ok_or_else(not_found)
    }
}

fn not_found() -> Failure {
    let message = "Consumer instance not found. It may never have been made (POST /consumers/{group}), was deleted, or nobody \
                   asked it anything for consumer.instance.timeout.ms";
    Failure::kafka(code::CONSUMER_NOT_FOUND, message)
}

/// Asks an instance. One that has just ended is as one that is not there.
async fn ask<T>(handle: &Handle, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    handle.commands.send(command(reply)).await.map_err(|_| not_found())?;
    answer.await.map_err(|_| not_found())
}

/// What a new instance is told.
struct Settings {
    name: Option<String>,
    format: Format,
    start: StartPosition,
    auto_commit: bool,
}

impl Settings {
    fn read(body: &Map<String, Value>) -> Result<Self> {
        let wrong = |message: String| Failure::kafka(code::CONSUMER_CONFIG, message);
        let mut settings = Self { name: None, format: Format::Binary, start: StartPosition::Latest, auto_commit: true };
        for (key, value) in body {
            // Clients write booleans and numbers either way.
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                _ => return Err(wrong(format!("{key} must be text"))),
            };
            match key.as_str() {
                // `id` is what it was called in the first version.
                "name" | "id" => settings.name = Some(text),
                "format" => {
                    let format = Format::named(&text);
                    settings.format = format.ok_or_else(|| wrong("format must be json or binary".to_owned()))?;
                }
                "auto.offset.reset" => {
                    settings.start = match text.as_str() {
                        "earliest" | "smallest" => StartPosition::Earliest,
                        "latest" | "largest" => StartPosition::Latest,
                        "none" => StartPosition::None,
                        _ => return Err(wrong("auto.offset.reset must be earliest, latest or none".to_owned())),
                    };
                }
                "auto.commit.enable" | "enable.auto.commit" => {
                    let flag = text.parse::<bool>();
                    settings.auto_commit = flag.map_err(|_| wrong(format!("{key} must be true or false")))?;
                }
                // How long is waited, and for how much, every call says for itself.
                "fetch.min.bytes" | "consumer.request.timeout.ms" => {}
                _ => {
                    let known = "name, format, auto.offset.reset, auto.commit.enable";
                    return Err(Failure::kafka(422, format!("Unrecognized field: {key}; known are {known}")));
                }
            }
        }
        Ok(settings)
    }
}

/// Names end up in paths, logs and the broker's groups.
fn check_name(what: &str, name: &str) -> Result<()> {
    let fine = (1..=249).contains(&name.len()) && !name.chars().any(char::is_control);
    if fine {
        return Ok(());
    }
    let message = format!("{what} must have 1 to 249 bytes and no control characters");
    Err(Failure::kafka(code::CONSUMER_CONFIG, message))
}

fn encoded(name: &str) -> impl Display {
    const UNRESERVED: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(name, UNRESERVED).to_string()
}

/// A body that must be an object; nothing is an empty one.
fn object(call: &Call, expected: Value) -> Result<Map<String, Value>> {
    if call.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(unprocessable("the body must be an object", &expected)),
        Err(error) => Err(Failure::kafka(400, format!("the body is not JSON: {error}")).expecting(expected)),
    }
}

fn known(body: &Map<String, Value>, fields: &[&str], expected: &Value) -> Result<()> {
    match body.keys().find(|key| !fields.contains(&key.as_str())) {
        Some(key) => Err(unprocessable(format!("Unrecognized field: {key}"), expected)),
        None => Ok(()),
    }
}

fn unprocessable(message: impl Into<String>, expected: &Value) -> Failure {
    Failure::kafka(422, message).expecting(expected.clone())
}

fn strings(value: &Value, name: &str, expected: &Value) -> Result<Vec<String>> {
    let items = value.as_array().map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    items.flatten().ok_or_else(|| unprocessable(format!("{name} must be an array of texts"), expected))
}

/// `{"partitions": [{"topic": .., "partition": ..}]}`.
fn partitions(call: &Call) -> Result<Vec<TopicPartition>> {
    let expected = json!({"partitions": [{"topic": "my_topic", "partition": 0}]});
    let body = object(call, expected.clone())?;
    known(&body, &["partitions"], &expected)?;
    let items = body.get("partitions").and_then(Value::as_array);
    let read = items.map(|items| items.iter().map(topic_partition).collect::<Option<Vec<_>>>());
    read.flatten().ok_or_else(|| unprocessable("partitions must be an array of topics and partitions", &expected))
}

/// `{"offsets": [{"topic": .., "partition": .., "offset": ..}]}`.
fn offsets(call: &Call) -> Result<Positions> {
    let expected = json!({"offsets": [{"topic": "my_topic", "partition": 0, "offset": 20}]});
    let body = object(call, expected.clone())?;
    known(&body, &["offsets"], &expected)?;
    let one =
        |item: &Value| Some((topic_partition(item)?, item.get("offset")?.as_i64().filter(|offset| *offset >= 0)?));
    let items = body.get("offsets").and_then(Value::as_array);
    let read = items.map(|items| items.iter().map(one).collect::<Option<Positions>>());
    read.flatten().ok_or_else(|| unprocessable("offsets must be an array of topics, partitions and offsets", &expected))
}

fn topic_partition(item: &Value) -> Option<TopicPartition> {
    let partition = i32::try_from(item.get("partition")?.as_i64()?).ok()?;
    Some(TopicPartition::new(item.get("topic")?.as_str()?, partition))
}
