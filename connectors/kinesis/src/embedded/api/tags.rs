//! Actions on tags, under their old names and their newer ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::EmbeddedKinesis;
use super::super::limits::TAGS_MAX;
use super::super::wire::{ApiError, Reply};
use super::{ApiResult, Call, bounded, find_stream, named_stream, required};

/// Lengths as AWS has them: keys of 1 to 128 characters, values of up to 256.
pub(super) fn check(tags: &BTreeMap<String, String>) -> ApiResult<()> {
    let good =
        |(key, value): (&String, &String)| (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
    if tags.len() > TAGS_MAX {
        return Err(too_many(tags.len()));
    }
    match tags.iter().find(|tag| !good(*tag)) {
        None => Ok(()),
        Some((key, _)) => Err(ApiError::validation(format!(
            "1 validation error detected: the tag '{key}' failed to satisfy constraint: a key must have length from 1 to 128, a \
             value up to 256"
        ))),
    }
}

fn too_many(count: usize) -> ApiError {
    ApiError::argument(format!("A stream can have {TAGS_MAX} tags, and would have {count}."))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TagsInput {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    tag_keys: Option<Vec<String>>,
    exclusive_start_tag_key: Option<String>,
    limit: Option<i64>,
}

impl TagsInput {
    fn stream(&self) -> ApiResult<String> {
        named_stream(self.stream_name.clone(), self.stream_arn.clone())
    }

    fn resource(&self) -> ApiResult<String> {
        let arn = required("resourceARN", self.resource_arn.clone())?;
        if arn.contains("/consumer/") {
            return Err(ApiError::argument("The embedded Kinesis keeps tags of streams only, not of consumers."));
        }
        named_stream(None, Some(arn))
    }
}

pub(super) async fn add_tags_to_stream(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    add(kinesis, input.stream()?, input).await
}

pub(super) async fn tag_resource(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    add(kinesis, input.resource()?, input).await
}

async fn add(kinesis: &Arc<EmbeddedKinesis>, name: String, input: TagsInput) -> ApiResult {
    let tags = required("tags", input.tags)?;
    check(&tags)?;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_stream(working.streams(), &name)?).clone();
            stream.tags.extend(tags);
            if stream.tags.len() > TAGS_MAX {
                return Err(too_many(stream.tags.len()));
            }
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

pub(super) async fn remove_tags_from_stream(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    remove(kinesis, input.stream()?, input).await
}

pub(super) async fn untag_resource(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    remove(kinesis, input.resource()?, input).await
}

async fn remove(kinesis: &Arc<EmbeddedKinesis>, name: String, input: TagsInput) -> ApiResult {
    let keys = required("tagKeys", input.tag_keys)?;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_stream(working.streams(), &name)?).clone();
            stream.tags.retain(|key, _| !keys.contains(key));
            working.put_stream(stream);
            Ok(Reply::Empty)
        })
        .await
}

pub(super) async fn list_tags_for_stream(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    let limit = bounded("limit", input.limit, 50, 50)?;
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &input.stream()?)?;
    let is_next = |key: &str| input.exclusive_start_tag_key.as_deref().is_none_or(|start| key > start);
    let mut rest = stream.tags.iter().filter(|(key, _)| is_next(key));
    let page: Vec<_> = rest.by_ref().take(limit).map(tag_json).collect();
    Ok(Reply::Json(json!({"Tags": page, "HasMoreTags": rest.next().is_some()})))
}

pub(super) async fn list_tags_for_resource(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: TagsInput) -> ApiResult {
    let streams = kinesis.store.streams().await?;
    let stream = find_stream(&streams, &input.resource()?)?;
    Ok(Reply::Json(json!({"Tags": stream.tags.iter().map(tag_json).collect::<Vec<_>>()})))
}

fn tag_json((key, value): (&String, &String)) -> Value {
    json!({"Key": key, "Value": value})
}
