//! `GET /topics` and below: what topics there are, and what they hold.

use ottla_api::offset::TopicPartition;
use serde_json::{Value, json};

use super::Kafka;
use crate::Call;
use crate::answer::Answer;
use crate::error::{Failure, Result, code};

impl Kafka {
    /// The names of all topics.
    pub(crate) async fn topics(&self) -> Result<Answer> {
        let topics = self.broker.topics().await.map_err(|error| Failure::broker(&error))?;
        Ok(Answer::kafka(&topics.into_keys().collect::<Vec<_>>().into()))
    }

    /// One topic. Its settings are the broker's affair and left out.
    pub(crate) async fn topic(&self, call: Call) -> Result<Answer> {
        let topic = &call.params[0];
        let partitions = self.partition_list(topic).await?;
        Ok(Answer::kafka(&json!({"name": topic, "configs": {}, "partitions": partitions})))
    }

    /// The partitions of a topic.
    pub(crate) async fn partitions(&self, call: Call) -> Result<Answer> {
        Ok(Answer::kafka(&self.partition_list(&call.params[0]).await?.into()))
    }

    /// One of them.
    pub(crate) async fn partition(&self, call: Call) -> Result<Answer> {
        let number = partition_number(&call.params[1])?;
        let mut partitions = self.partition_list(&call.params[0]).await?;
        let index = usize::try_from(number).ok().filter(|index| *index < partitions.len());
        let index = index.ok_or_else(|| no_partition(&call.params[0], number))?;
        Ok(Answer::kafka(&partitions.swap_remove(index)))
    }

    /// Where a partition begins and ends.
    pub(crate) async fn partition_offsets(&self, call: Call) -> Result<Answer> {
        let topic = &call.params[0];
        let number = partition_number(&call.params[1])?;
        let ranges = self.broker.offsets(std::slice::from_ref(topic)).await;
        let ranges = ranges.map_err(|error| Failure::broker(&error))?;
        if ranges.is_empty() {
            return Err(no_topic(topic));
        }
        let range =
            ranges.get(&TopicPartition::new(topic.as_str(), number)).ok_or_else(|| no_partition(topic, number))?;
        Ok(Answer::kafka(&json!({"beginning_offset": range.start, "end_offset": range.end})))
    }

    /// Whether a topic is there, as far as can be said.
    pub(super) async fn exists(&self, topic: &str) -> bool {
        // Where the broker can't be asked, what it said before stands.
        self.broker.topics().await.is_ok_and(|topics| topics.contains_key(topic))
    }

    /// Every partition, with the replicas that can be spoken of without a cluster's view.
    async fn partition_list(&self, topic: &str) -> Result<Vec<Value>> {
        let topics = self.broker.topics().await.map_err(|error| Failure::broker(&error))?;
        let count = *topics.get(topic).ok_or_else(|| no_topic(topic))?;
        Ok((0..count).map(|number| json!({"partition": number, "leader": null, "replicas": []})).collect())
    }
}

/// The number of a partition in a path.
pub(super) fn partition_number(text: &str) -> Result<i32> {
    let number = text.parse::<i32>().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| Failure::kafka(code::PARTITION_NOT_FOUND, "Partition not found: it is called by its number"))
}

fn no_topic(topic: &str) -> Failure {
    let shown: String = topic.chars().take(249).collect();
    Failure::kafka(code::TOPIC_NOT_FOUND, format!("Topic '{shown}' not found; GET /topics lists those that exist"))
}

fn no_partition(topic: &str, number: i32) -> Failure {
    Failure::kafka(code::PARTITION_NOT_FOUND, format!("Partition {number} not found; topic '{topic}' has fewer"))
}
