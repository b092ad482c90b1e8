//! Actions on shards: listing them, and dividing them anew.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::super::EmbeddedKinesis;
use super::super::stream::{HashKey, Pending, Shard, Stream, Transition, parse_shard_id};
use super::super::wire::{ApiError, Reply, milliseconds};
use super::streams::check_shard_limit;
use super::{
    ACCOUNT, ApiResult, Call, bounded, find_active_stream, find_shard, find_stream, named_stream, required, shard_json,
    stream_arn,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    r#type: String,
    shard_id: Option<String>,
    timestamp: Option<f64>,
}

/// Which shards a filter wants.
#[derive(Debug)]
enum Wanted {
    All,
    After(u32),
    Open,
    OpenAt(u64),
    NotClosedBefore(u64),
}

impl Wanted {
    fn parse(filter: Option<ShardFilter>, horizon_ms: u64) -> ApiResult<Self> {
        let Some(filter) = filter else { return Ok(Self::All) };
        let timestamp = || required("shardFilter.timestamp", filter.timestamp).map(milliseconds);
        Ok(match filter.r#type.as_str() {
            "AFTER_SHARD_ID" => {
                Self::After(parse_id(&required("shardFilter.shardId", filter.shard_id.as_ref())?.clone())?)
            }
            "AT_LATEST" => Self::Open,
            "AT_TRIM_HORIZON" => Self::OpenAt(horizon_ms),
            "FROM_TRIM_HORIZON" => Self::NotClosedBefore(horizon_ms),
            "AT_TIMESTAMP" => Self::OpenAt(timestamp()?.max(horizon_ms)),
            "FROM_TIMESTAMP" => Self::NotClosedBefore(timestamp()?.max(horizon_ms)),
            other => {
                return Err(ApiError::validation(format!(
                    "1 validation error detected: Value '{other}' at 'shardFilter.type' failed to satisfy constraint: Member \
                     must satisfy enum value set: [AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, \
                     FROM_TIMESTAMP]"
                )));
            }
        })
    }

    fn wants(&self, shard: &Shard) -> bool {
        match *self {
            Self::All => true,
            Self::After(number) => shard.number > number,
            Self::Open => shard.is_open(),
            Self::OpenAt(ms) => shard.was_open_at(ms),
            Self::NotClosedBefore(ms) => shard.closed.is_none_or(|closed| closed.at_ms >= ms),
        }
    }

    /// A form that a token can carry.
    fn to_text(&self) -> String {
        match *self {
            Self::All => "all".into(),
            Self::After(number) => format!("after {number}"),
            Self::Open => "open".into(),
            Self::OpenAt(ms) => format!("at {ms}"),
            Self::NotClosedBefore(ms) => format!("from {ms}"),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(match text.split_once(' ').unwrap_or((text, "")) {
            ("all", _) => Self::All,
            ("open", _) => Self::Open,
            ("after", number) => Self::After(number.parse().ok()?),
            ("at", ms) => Self::OpenAt(ms.parse().ok()?),
            ("from", ms) => Self::NotClosedBefore(ms.parse().ok()?),
            _ => return None,
        })
    }
}

/// A shard's number from its identifier.
pub(super) fn parse_id(id: &str) -> ApiResult<u32> {
    parse_shard_id(id).ok_or_else(|| ApiError::argument(format!("{id} is not a shard's identifier.")))
}

pub(super) async fn list_shards(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: ListShards) -> ApiResult {
    let limit = bounded("maxResults", input.max_results, 1000, 10_000)?;
    let streams = kinesis.store.streams().await?;
    let (stream, wanted, after) = if let Some(token) = input.next_token {
        if input.stream_name.is_some() || input.stream_arn.is_some() || input.exclusive_start_shard_id.is_some() {
            return Err(ApiError::argument("NextToken and StreamName cannot be provided together."));
        }
        let place = kinesis.read_listing(&token)?;
        let parsed = || {
            let (name, rest) = place.split_once('/')?;
            let (after, wanted) = rest.split_once('/')?;
            Some((name, Wanted::from_text(wanted)?, after.parse::<u32>().ok()?))
        };
        let (name, wanted, after) = parsed().ok_or_else(|| ApiError::argument("The NextToken is not valid."))?;
        (find_stream(&streams, name)?, wanted, Some(after))
    } else {
        let stream = find_stream(&streams, &named_stream(input.stream_name, input.stream_arn)?)?;
        let wanted = Wanted::parse(input.shard_filter, stream.horizon_ms(kinesis.now_ms()))?;
        (stream, wanted, input.exclusive_start_shard_id.as_deref().map(parse_id).transpose()?)
    };
    let is_next = |shard: &&Shard| after.is_none_or(|after| shard.number > after) && wanted.wants(shard);
    let mut rest = stream.shards.iter().filter(is_next);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let more = rest.next().is_some();
    let mut answer = json!({"Shards": page.iter().map(|shard| shard_json(shard)).collect::<Vec<_>>()});
    if more && let Some(last) = page.last() {
        let place = format!("{}/{}/{}", stream.name, last.number, wanted.to_text());
        answer["NextToken"] = kinesis.tokens.listing(&place, kinesis.now_ms()).into();
    }
    Ok(Reply::Json(answer))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SplitShard {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_split: Option<String>,
    new_starting_hash_key: Option<String>,
}

pub(super) async fn split_shard(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: SplitShard) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let id = required("shardToSplit", input.shard_to_split)?;
    let text = required("newStartingHashKey", input.new_starting_hash_key)?;
    let at = HashKey::parse(&text).ok_or_else(|| {
        ApiError::validation(format!(
            "1 validation error detected: Value '{text}' at 'newStartingHashKey' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: 0|([1-9]\\d{{0,38}}), below 2^128"
        ))
    })?;
    let limit = kinesis.options.shard_limit;
    reshard(kinesis, name, move |stream| {
        let shard = find_open_shard(stream, &id)?;
        if !(shard.range.0 < at && at < shard.range.1) {
            return Err(ApiError::argument(format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {} in stream {} under account {ACCOUNT} is not both \
                 greater than one plus the shard's StartingHashKey {} and less than the shard's EndingHashKey {}.",
                shard.id(),
                stream.name,
                shard.range.0,
                shard.range.1
            )));
        }
        Ok((Transition::Split { shard: shard.number, at }, 1, limit))
    })
    .await?;
    Ok(Reply::Empty)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MergeShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_to_merge: Option<String>,
    adjacent_shard_to_merge: Option<String>,
}

pub(super) async fn merge_shards(kinesis: &Arc<EmbeddedKinesis>, _: Call, input: MergeShards) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let one = required("shardToMerge", input.shard_to_merge)?;
    let other = required("adjacentShardToMerge", input.adjacent_shard_to_merge)?;
    reshard(kinesis, name, move |stream| {
        let (one, other) = (find_open_shard(stream, &one)?, find_open_shard(stream, &other)?);
        let follows = |one: &Shard, other: &Shard| one.range.1.0.checked_add(1) == Some(other.range.0.0);
        if !follows(one, other) && !follows(other, one) {
            return Err(ApiError::argument(format!(
                "Shards {} and {} in stream {} under account {ACCOUNT} are not an adjacent pair of shards eligible for merging",
                one.id(),
                other.id(),
                stream.name
            )));
        }
        Ok((Transition::Merge { shard: one.number, adjacent: other.number }, 0, u32::MAX))
    })
    .await?;
    Ok(Reply::Empty)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UpdateShardCount {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    target_shard_count: Option<i64>,
    scaling_type: Option<String>,
}

pub(super) async fn update_shard_count(
    kinesis: &Arc<EmbeddedKinesis>,
    call: Call,
    input: UpdateShardCount,
) -> ApiResult {
    let name = named_stream(input.stream_name, input.stream_arn)?;
    let target = required("targetShardCount", input.target_shard_count)?;
    let target = bounded("targetShardCount", Some(target), 1, 100_000)? as u32;
    let scaling = input.scaling_type.as_deref().unwrap_or("UNIFORM_SCALING");
    if scaling != "UNIFORM_SCALING" {
        return Err(ApiError::validation(format!(
            "1 validation error detected: Value '{scaling}' at 'scalingType' failed to satisfy constraint: Member must satisfy \
             enum value set: [UNIFORM_SCALING]"
        )));
    }
    let limit = kinesis.options.shard_limit;
    let stream_name = name.clone();
    let current = reshard(kinesis, name, move |stream| {
        let current = stream.open_shards().len() as u32;
        if target > 2 * current || target * 2 < current {
            return Err(ApiError::argument(format!(
                "UpdateShardCount cannot take stream {} from {current} to {target} shards: a call may at most double the number \
                 and at most halve it.",
                stream.name
            )));
        }
        Ok((Transition::Scale { shards: target }, target.saturating_sub(current), limit))
    })
    .await?;
    Ok(Reply::Json(json!({
        "StreamName": stream_name,
        "CurrentShardCount": current,
        "TargetShardCount": target,
        "StreamARN": stream_arn(&call.region, &stream_name),
    })))
}

/// Begins a change of shards that `plan` has checked: what it is, how many open shards it adds, and how many there may be.
/// Answers how many open shards there were.
async fn reshard(
    kinesis: &Arc<EmbeddedKinesis>,
    name: String,
    plan: impl FnOnce(&Stream) -> ApiResult<(Transition, u32, u32)> + Send + 'static,
) -> ApiResult<usize> {
    let update_ms = kinesis.options.update_duration.as_millis() as u64;
    kinesis
        .store
        .write(move |working| {
            let mut stream = (**find_active_stream(working.streams(), &name)?).clone();
            let (transition, more, limit) = plan(&stream)?;
            check_shard_limit(working, more, limit)?;
            let open = stream.open_shards().len();
            stream.pending = Some(Pending { due_ms: working.now_ms() + update_ms, transition });
            working.put_stream(stream);
            Ok(open)
        })
        .await
}

fn find_open_shard<'a>(stream: &'a Stream, id: &str) -> ApiResult<&'a Shard> {
    let shard = find_shard(stream, id)?;
    if shard.is_open() {
        return Ok(shard);
    }
    Err(ApiError::argument(format!(
        "Shard {} in stream {} under account {ACCOUNT} is not OPEN: it has been split or merged.",
        shard.id(),
        stream.name
    )))
}
