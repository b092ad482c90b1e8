//! True where the topic's whole name matches a regular expression.
//!
//! ```toml
//! type = "topic-name-matches"
//! pattern = '.*\.pin'
//! ```
//!
//! This is Kafka Connect's `TopicNameMatches`.

use std::sync::Arc;

use ottla_api::config::java_regex::WholeRegex;
use ottla_api::prelude::*;

/// The plugin.
pub(crate) fn plugin() -> Plugin {
    Plugin {
        name: "topic-name-matches",
        aliases: &["org.apache.kafka.connect.transforms.predicates.TopicNameMatches"],
        version: crate::VERSION,
        doc: crate::module_doc::module_doc!("topic_name_matches.rs"),
        definition: &TopicNameMatchesConfig::definition,
        constructor: Constructor::Predicate(&|properties| {
            let config = TopicNameMatchesConfig::from_properties(properties)?;
            Ok(Box::new(TopicNameMatches { pattern: config.pattern, last: None }))
        }),
    }
}

#[derive(Debug, Config)]
struct TopicNameMatchesConfig {
    /// Regular expression for the whole name.
    #[config(name = "pattern")]
    pattern: WholeRegex,
}

struct TopicNameMatches {
    pattern: WholeRegex,
    /// The answer for the last topic: records come in runs of one topic.
    last: Option<(Arc<str>, bool)>,
}

impl Predicate for TopicNameMatches {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        if let Some((topic, answer)) = &self.last
            && (Arc::ptr_eq(topic, &record.topic) || *topic == record.topic)
        {
            return Ok(*answer);
        }
        let answer = self.pattern.is_match(&record.topic);
        self.last = Some((Arc::clone(&record.topic), answer));
        Ok(answer)
    }
}
