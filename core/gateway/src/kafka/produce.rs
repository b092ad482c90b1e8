//! `POST /topics/{topic}`: records into a topic, answered when they are durable.

use std::sync::Arc;

use bytes::Bytes;
use ottla_api::config::check_topic_name;
use ottla_runtime::broker::ProducerRecord;
use serde_json::{Value, json};

use super::formats::Format;
use super::{Kafka, topics};
use crate::Call;
use crate::answer::Answer;
use crate::body::{self, Object, Unreadable};
use crate::error::{Failure, Result, code};

/// Fields of a body to produce. Those of schemas mean nothing to JSON and binary records.
const BODY_FIELDS: &[&str] = &["records", "key_schema", "key_schema_id", "value_schema", "value_schema_id"];
const RECORD_FIELDS: &[&str] = &["key", "value", "partition", "timestamp"];

impl Kafka {
    /// Produces. Nothing of a request is written unless all of its records can be read and pass the guards; once they are
    /// handed to the broker each has a result of its own.
    pub(crate) async fn produce(&self, call: Call) -> Result<Answer> {
        let topic = &call.params[0];
        check_topic_name(topic).map_err(|message| Failure::kafka(422, format!("a topic's name {message}")))?;
        let partition = call.params.get(1).map(|text| topics::partition_number(text)).transpose()?;
        let format = Format::of_body(&call.headers)?;
        let topic: Arc<str> = topic.as_str().into();
        let records = self.read(&topic, partition, format, &call.body)?;
        let results = match self.lanes.write(records).await {
            Ok(results) => results,
            Err(error) => return Err(Failure::broker(&error)),
        };
        if results.iter().all(std::result::Result::is_err) && !self.exists(&topic).await {
            let why = results.into_iter().find_map(std::result::Result::err);
            let why = why.map_or_else(String::new, |error| format!(": {error}"));
            return Err(Failure::kafka(code::TOPIC_NOT_FOUND, format!("Topic '{topic}' not found{why}")));
        }
        let offsets = results.into_iter().map(|result| match result {
            Ok((place, offset)) => {
                json!({"partition": place.partition, "offset": offset, "error_code": null, "error": null})
            }
            Err(error) => {
                json!({"partition": null, "offset": null, "error_code": code::KAFKA, "error": error.to_string()})
            }
        });
        let offsets = offsets.collect::<Vec<_>>();
        Ok(Answer::kafka(&json!({"offsets": offsets, "key_schema_id": null, "value_schema_id": null})))
    }

    fn read(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        format: Format,
        body: &Bytes,
    ) -> Result<Vec<ProducerRecord>> {
        let body = Object::parse(body).map_err(|error| unreadable(error, "the body", format))?;
        if let Some(field) = body.unknown(BODY_FIELDS) {
            let hint = "a row goes into records, as value";
            return Err(unprocessable(format!("Unrecognized field: {field}; {hint}"), format));
        }
        let records = body.get("records").ok_or_else(|| unprocessable("field 'records' is missing", format))?;
        let records = body::items(records).map_err(|error| unreadable(error, "records", format))?;
        if records.is_empty() {
            return Err(unprocessable("records must hold at least one record", format));
        }
        let records = records.iter().enumerate();
        records.map(|(index, record)| self.record(topic, partition, format, index, record)).collect()
    }

    fn record(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        format: Format,
        index: usize,
        record: &Bytes,
    ) -> Result<ProducerRecord> {
        let place = format!("records[{index}]");
        let record = Object::parse(record).map_err(|error| unreadable(error, &place, format))?;
        if let Some(field) = record.unknown(RECORD_FIELDS) {
            let hint = "a row goes into value";
            return Err(unprocessable(format!("Unrecognized field: {field} in {place}; {hint}"), format));
        }
        if record.any(&["key", "value"]).is_none() {
            return Err(unprocessable(format!("{place} has neither key nor value"), format));
        }
        let read = |name: &str| match record.get(name) {
            None => Ok(None),
            Some(text) => {
                format.read(text).map_err(|message| unprocessable(format!("{place}.{name}: {message}"), format))
            }
        };
        let whole = |name: &str| match record.get(name).map(|text| text.as_ref()) {
            None | Some(b"null") => Ok(None),
            Some(text) => match serde_json::from_slice::<i64>(text) {
                Ok(number) if number >= 0 => Ok(Some(number)),
                _ => Err(unprocessable(format!("{place}.{name} must be a whole number, 0 or more"), format)),
            },
        };
        let value = read("value")?;
        if self.guards.cover(topic) {
            let seen = value.clone().unwrap_or_else(|| Bytes::from_static(b"null"));
            let checked = body::compact(&seen).and_then(|text| self.guards.check(topic, &text));
            checked.map_err(|message| {
                Failure::kafka(
                    code::CONVERSION,
                    format!("{place}.value: {message}; nothing of this request was written"),
                )
            })?;
        }
        let own =
            match whole("partition")? {
                None => None,
                Some(number) => Some(i32::try_from(number).map_err(|_| {
                    unprocessable(format!("{place}.partition must be the number of a partition"), format)
                })?),
            };
        if own.is_some() && partition.is_some() {
            return Err(unprocessable(format!("{place}.partition is in the path already"), format));
        }
        Ok(ProducerRecord {
            topic: Arc::clone(topic),
            partition: own.or(partition),
            key: read("key")?,
            value,
            timestamp: whole("timestamp")?,
            headers: Vec::new(),
        })
    }
}

fn unreadable(error: Unreadable, what: &str, format: Format) -> Failure {
    match error {
        Unreadable::NotJson(message) => Failure::kafka(400, format!("{what} is {message}")).expecting(expected(format)),
        Unreadable::Other("a string") => unprocessable(
            format!(
                "{what} must not be a string: it is JSON twice; pass json=payload or data=json.dumps(payload), not both"
            ),
            format,
        ),
        Unreadable::Other(kind) => unprocessable(format!("{what} must be {}, found {kind}", needed(what)), format),
    }
}

fn needed(what: &str) -> &'static str {
    if what == "records" { "an array" } else { "an object" }
}

fn unprocessable(message: impl Into<String>, format: Format) -> Failure {
    Failure::kafka(422, message).expecting(expected(format))
}

/// A body that would have been right.
fn expected(format: Format) -> Value {
    match format {
        Format::Json => json!({"records": [{"key": "optional", "value": {"field": "of the row"}}]}),
        Format::Binary => json!({"records": [{"key": "b3B0aW9uYWw=", "value": "dGhlIHJvdw=="}]}),
    }
}
