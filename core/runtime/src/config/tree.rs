//! Nested syntaxes (TOML, JSON) as one tree, and the rules that make flat keys of it.

use ottla_api::config::join_list;

/// A value of a nested syntax.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// Text, number or boolean, as text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A table or object.
    Table(Vec<Member>),
    /// JSON's null.
    Null,
}

/// A key of a table, and its value.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) line: usize,
    /// Byte offset in the file: flat keys come in this order, however their tables are nested.
    pub(crate) offset: usize,
    pub(crate) node: Node,
}

/// One flat key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flat {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) line: usize,
    offset: usize,
}

/// A mistake: line, key, message.
pub(crate) type Mistake = (usize, String, String);

/// Flattens the members of a section:
///
/// - Tables flatten by ".".
/// - A converter's table with `class` gives the bare key: `value.converter = { class = "json", schemas.enable = false }`.
/// - Lists become comma lists ([`join_list`]).
/// - `transforms` may hold tables beside names: each is a transformation named by its `name`, else by its `type`.
/// - `transforms`, `predicates` and `config.providers` written as tables need no list of names beside them.
pub(crate) fn flatten(members: &[Member]) -> (Vec<Flat>, Vec<Mistake>) {
    let mut flattener = Flattener::default();
    flattener.table("", members);
    flattener.flat.sort_by_key(|flat| flat.offset);
    (flattener.flat, flattener.mistakes)
}

#[derive(Default)]
struct Flattener {
    flat: Vec<Flat>,
    mistakes: Vec<Mistake>,
}

impl Flattener {
    fn table(&mut self, prefix: &str, members: &[Member]) {
        for member in members {
            let key = format!("{prefix}{}", member.key);
            if member.key == "class" && prefix.ends_with(".converter.") {
                self.member(prefix.trim_end_matches('.').to_owned(), member);
            } else {
                self.member(key, member);
            }
        }
    }

    fn member(&mut self, key: String, member: &Member) {
        match &member.node {
            Node::Scalar(text) => self.push(key, text.clone(), member),
            Node::List(items) if key == "transforms" => self.transforms(items, member),
            Node::List(items) => {
                if let Some(text) = self.list(&key, items, member.line) {
                    self.push(key, text, member);
                }
            }
            Node::Table(members) => {
                self.table(&format!("{key}."), members);
                if ["transforms", "predicates", "config.providers"].contains(&key.as_str()) {
                    self.implied_list(&key, members, member);
                }
            }
            Node::Null => self.mistakes.push((member.line, key, "is null; leave the key out instead".to_owned())),
        }
    }

    /// Tables such as `[connectors.s3.transforms.route]` or `[worker.config.providers.env]` are their own list.
    fn implied_list(&mut self, key: &str, members: &[Member], place: &Member) {
        let tables = members.iter().filter(|member| matches!(member.node, Node::Table(_)));
        let names = tables.map(|member| member.key.as_str()).collect::<Vec<_>>();
        if !names.is_empty() {
            self.push(key.to_owned(), join_list(&names), place);
        }
    }

    fn list(&mut self, key: &str, items: &[Node], line: usize) -> Option<String> {
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Node::Scalar(text) => texts.push(text.as_str()),
                _ => {
                    let message = "must be a list of texts, found tables or lists in it";
                    self.mistakes.push((line, key.to_owned(), message.to_owned()));
                    return None;
                }
            }
        }
        Some(join_list(&texts))
    }

    fn transforms(&mut self, items: &[Node], place: &Member) {
        let mut names: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Node::Scalar(name) => names.push(name.clone()),
                Node::Table(members) => {
                    let text = |key: &str| {
                        members.iter().find(|member| member.key == key).and_then(|member| match &member.node {
                            Node::Scalar(text) => Some(text.as_str()),
                            _ => None,
                        })
                    };
                    let line = members.first().map_or(place.line, |member| member.line);
                    let Some(name) = text("name").or_else(|| text("type").map(simple)) else {
                        let message = "a transformation needs a 'type'";
                        self.mistakes.push((line, "transforms".to_owned(), message.to_owned()));
                        continue;
                    };
                    let count =
                        names.iter().filter(|other| other.split_once('#').map_or(other.as_str(), |n| n.0) == name);
                    let name = match count.count() {
                        0 => name.to_owned(),
                        n => format!("{name}#{}", n + 1),
                    };
                    let options = members.iter().filter(|member| member.key != "name").cloned().collect::<Vec<_>>();
                    self.table(&format!("transforms.{name}."), &options);
                    names.push(name);
                }
                _ => {
                    let message = "must hold names of chains or transformations, and tables with a 'type'";
                    self.mistakes.push((place.line, "transforms".to_owned(), message.to_owned()));
                }
            }
        }
        self.push("transforms".to_owned(), join_list(&names), place);
    }

    fn push(&mut self, key: String, value: String, member: &Member) {
        self.flat.push(Flat { key, value, line: member.line, offset: member.offset });
    }
}

/// `ReplaceField$Value` of `org.apache.kafka.connect.transforms.ReplaceField$Value`.
fn simple(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

/// Line numbers of byte offsets.
#[derive(Debug)]
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}
