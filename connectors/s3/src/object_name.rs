//! Object names: a pure function of the layout, the topic, the partition and the first offset inside (K1).
//!
//! They are Confluent's, so that readers of an existing bucket notice no change:
//! `topics/orders/partition=0/orders+0+0000000000.json`.

/// The parts of a name that the configuration decides.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The first folder; empty for none.
    pub(crate) topics_dir: String,
    /// Between folders.
    pub(crate) directory_delimiter: String,
    /// Between topic, partition and offset.
    pub(crate) file_delimiter: String,
    /// How many digits an offset has at least.
    pub(crate) offset_digits: usize,
}

impl Layout {
    /// The name of the object whose first record has this offset.
    pub(crate) fn key(&self, topic: &str, partition: i32, first_offset: i64) -> String {
        let (folder, file) = (&self.directory_delimiter, &self.file_delimiter);
        let digits = self.offset_digits;
        let prefix = self.prefix();
        format!(
            "{prefix}{topic}{folder}partition={partition}{folder}{topic}{file}{partition}{file}{first_offset:0digits$}.json"
        )
    }

    /// The name of the object with which the store is tried out. It begins with a dot, which readers of folders skip.
    pub(crate) fn probe_key(&self) -> String {
        format!("{}.ottla{}probe", self.prefix(), self.directory_delimiter)
    }

    fn prefix(&self) -> String {
        if self.topics_dir.trim().is_empty() {
            String::new()
        } else {
            format!("{}{}", self.topics_dir, self.directory_delimiter)
        }
    }
}

/// True where Kafka would allow a topic of this name. A transformation can make others, whose objects would lie outside
/// their folder.
pub(crate) fn is_legal_topic(topic: &str) -> bool {
    !topic.is_empty()
        && topic.len() <= 249
        && topic != "."
        && topic != ".."
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(topics_dir: &str) -> Layout {
        Layout {
            topics_dir: topics_dir.to_owned(),
            directory_delimiter: "/".to_owned(),
            file_delimiter: "+".to_owned(),
            offset_digits: 10,
        }
    }

    #[test]
    fn names_are_those_of_confluents_sink() {
        assert_eq!(layout("topics").key("orders", 0, 0), "topics/orders/partition=0/orders+0+0000000000.json");
        assert_eq!(layout("").key("orders", 12, 345), "orders/partition=12/orders+12+0000000345.json");
        assert_eq!(layout("a/b").key("t.json", 1, 98_765_432_109), "a/b/t.json/partition=1/t.json+1+98765432109.json");
        let odd =
            Layout { file_delimiter: "-".into(), directory_delimiter: "_".into(), offset_digits: 4, ..layout("d") };
        assert_eq!(odd.key("t", 3, 7), "d_t_partition=3_t-3-0007.json");
        assert_eq!(layout("topics").probe_key(), "topics/.ottla/probe");
    }

    #[test]
    fn topics_that_would_leave_their_folder_are_not_legal() {
        for topic in ["", ".", "..", "a/b", "../x", "a b", "ü", &"x".repeat(250)] {
            assert!(!is_legal_topic(topic), "{topic}");
        }
        assert!(is_legal_topic("0a1.pin_x-2"));
    }
}
