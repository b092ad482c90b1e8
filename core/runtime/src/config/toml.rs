//! TOML as a tree with lines.

use toml_edit::{Document, Item, Key, TableLike, Value};

use super::tree::{Lines, Member, Node};

/// Reads a file. A mistake is a line, the key where it is known, and a message that never shows a value.
pub(crate) fn parse(text: &str) -> Result<Vec<Member>, (usize, String)> {
    let lines = Lines::of(text);
    let document = Document::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let line = lines.at(offset);
        let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
        (line, explain(&message, text, line))
    })?;
    Ok(members(document.as_table(), &lines))
}

/// Adds the other place, or the way out, to messages that people meet with dotted keys.
fn explain(message: &str, text: &str, line: usize) -> String {
    let all = text.lines().collect::<Vec<_>>();
    let here = all.get(line - 1).copied().unwrap_or_default();
    let name_of = |line: &str| match line.trim() {
        header if header.starts_with('[') => header.split('#').next().unwrap_or(header).trim().to_owned(),
        pair => pair.split('=').next().unwrap_or(pair).trim().to_owned(),
    };
    if message.contains("duplicate key") {
        let header = here.trim_start().starts_with('[');
        for (index, earlier) in all[..line - 1].iter().enumerate().rev() {
            if name_of(earlier) == name_of(here) {
                let key = name_of(here);
                return format!("{key} is set twice, first in line {}", index + 1);
            }
            if !header && earlier.trim_start().starts_with('[') {
                break;
            }
        }
    }
    if message.contains("duplicate key") || message.contains("dotted key") || message.contains("extend") {
        return format!(
            "{message}; a key that has a value can't have keys below it: write value.converter = {{ class = \"json\", \
             schemas.enable = false }} and transforms = [\"chain\", {{ type = \"..\" }}], or put the longer key in quotes"
        );
    }
    message.to_owned()
}

fn members(table: &dyn TableLike, lines: &Lines) -> Vec<Member> {
    let keys = table.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let found = keys.iter().filter_map(|name| table.get_key_value(name));
    found.map(|(key, item)| member(key, item, lines)).collect()
}

fn member(key: &Key, item: &Item, lines: &Lines) -> Member {
    let offset = key.span().or_else(|| item.span()).map_or(0, |span| span.start);
    Member { key: key.get().to_owned(), line: lines.at(offset), offset, node: node(item, lines) }
}

fn node(item: &Item, lines: &Lines) -> Node {
    match item {
        Item::None => Node::Null,
        Item::Value(value) => value_node(value, lines),
        Item::Table(table) => Node::Table(members(table, lines)),
        Item::ArrayOfTables(tables) => {
            Node::List(tables.iter().map(|table| Node::Table(members(table, lines))).collect())
        }
    }
}

fn value_node(value: &Value, lines: &Lines) -> Node {
    match value {
        Value::String(text) => Node::Scalar(text.value().clone()),
        Value::Integer(number) => Node::Scalar(number.value().to_string()),
        Value::Float(number) => Node::Scalar(number.value().to_string()),
        Value::Boolean(flag) => Node::Scalar(flag.value().to_string()),
        Value::Datetime(time) => Node::Scalar(time.value().to_string()),
        Value::Array(items) => Node::List(items.iter().map(|item| value_node(item, lines)).collect()),
        Value::InlineTable(table) => Node::Table(members(table, lines)),
    }
}
