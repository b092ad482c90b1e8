//! A page of rows, written as JSON text straight from what the driver received.
//!
//! Most rows go through the worker without anybody looking inside, so no tree is made of them: all rows of a page are written
//! into one buffer, of which each row is a slice. What JSON can't say such that reading it back gives the same value (bytes,
//! numbers that are none) makes its row a tree, as if the text had never been tried.

use bytes::Bytes;
use ottla_api::data::{Map, Value, json};
use ottla_api::record::Payload;

use super::{Column, Kind, PagePosition, SEPARATOR, finish, is_date_and_time, is_plain_number};
use crate::config::DateTimeFormat;

/// How a query's columns become rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// The columns of the row, and what is written before each: `{"id":`, then `,"name":`.
    columns: Vec<(String, Vec<u8>)>,
    /// The kinds of all that is selected: the row's columns, then those that only the key needs.
    kinds: Vec<Kind>,
    /// Which of them are the key, in its order.
    key: Vec<usize>,
}

impl Layout {
    /// The layout of rows with these columns, and the selected expressions. A key column that is in the row is not selected twice.
    pub(super) fn new(columns: &[Column], key: &[Column]) -> (Self, String) {
        let mut layout = Self::default();
        let mut select = Vec::with_capacity(columns.len() + 1);
        for column in columns {
            let mut before = vec![if layout.columns.is_empty() { b'{' } else { b',' }];
            json::write_text(&column.name, &mut before);
            before.push(b':');
            layout.columns.push((column.name.clone(), before));
            layout.kinds.push(column.kind);
            select.push(column.select.as_str());
        }
        for column in key {
            let selected = columns.iter().position(|other| other.quoted == column.quoted && other.kind == column.kind);
            layout.key.push(selected.unwrap_or(select.len()));
            if selected.is_none() {
                layout.kinds.push(column.kind);
                select.push(column.select.as_str());
            }
        }
        (layout, select.join(", "))
    }
}

/// A row of one database's driver.
pub(super) trait DriverRow {
    /// The value of a column.
    fn decode(&self, index: usize, kind: Kind) -> sqlx::Result<Value>;

    /// Appends the value's JSON. False, with anything or nothing appended, where it has to be [decoded](Self::decode).
    fn write(&self, index: usize, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) -> sqlx::Result<bool>;
}

/// Rows as they are read.
#[derive(Debug)]
pub(super) struct Page {
    layout: Layout,
    format: DateTimeFormat,
    /// Rows as text, one behind the other.
    text: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    form: Form,
    key: Vec<Value>,
}

#[derive(Debug)]
enum Form {
    /// Up to here in the page's text.
    Text(usize),
    Tree(Value),
}

/// A row of a page, and where reading goes on after it.
#[derive(Debug)]
pub(crate) struct PageRow {
    pub(crate) payload: Payload,
    pub(crate) position: PagePosition,
}

impl Page {
    pub(super) fn new(layout: Layout, format: DateTimeFormat, rows: usize) -> Self {
        Self { layout, format, text: Vec::new(), rows: Vec::with_capacity(rows) }
    }

    /// Forgets what was read so far.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.rows.clear();
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &impl DriverRow) -> sqlx::Result<()> {
        let begin = self.text.len();
        let form = if self.write(row)? {
            Form::Text(self.text.len())
        } else {
            self.text.truncate(begin);
            let columns = self.layout.columns.iter().enumerate();
            let fields = columns.map(|(index, (name, _))| Ok((name.clone(), self.value(row, index)?)));
            Form::Tree(Value::Map(fields.collect::<sqlx::Result<Map>>()?))
        };
        let key = self.layout.key.iter().map(|index| self.value(row, *index)).collect::<sqlx::Result<_>>()?;
        self.rows.push(Row { form, key });
        Ok(())
    }

    fn value(&self, row: &impl DriverRow, index: usize) -> sqlx::Result<Value> {
        let kind = self.layout.kinds[index];
        let mut value = row.decode(index, kind)?;
        finish(&mut value, kind, self.format);
        Ok(value)
    }

    /// Appends a row's text; false where that can't be.
    fn write(&mut self, row: &impl DriverRow) -> sqlx::Result<bool> {
        let Self { layout, format, text, .. } = self;
        for (index, ((_, before), kind)) in layout.columns.iter().zip(&layout.kinds).enumerate() {
            text.extend_from_slice(before);
            if !row.write(index, *kind, *format, text)? {
                return Ok(false);
            }
        }
        text.push(b'}');
        Ok(!layout.columns.is_empty())
    }

    /// The rows. Without a key they are numbered, behind so many.
    pub(super) fn finish(self, skipped: u64) -> Vec<PageRow> {
        let text = Bytes::from(self.text);
        let (mut begin, by_key) = (0, !self.layout.key.is_empty());
        let rows = self.rows.into_iter().zip(skipped + 1..).map(|(Row { form, key }, number)| {
            let payload = match form {
                Form::Text(end) => Payload::json(text.slice(std::mem::replace(&mut begin, end)..end)),
                Form::Tree(value) => Payload::schemaless(value),
            };
            PageRow { payload, position: if by_key { PagePosition::After(key) } else { PagePosition::Skip(number) } }
        });
        rows.collect()
    }
}

/// Appends the JSON of a value that the database has as text.
pub(super) fn write_text(text: &str, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) {
    match kind {
        Kind::Number => match text.parse() {
            Ok(integer) => json::write(&Value::Int64(integer), out),
            Err(_) if is_plain_number(text) => out.extend_from_slice(text.as_bytes()),
            Err(_) => json::write_text(text, out),
        },
        Kind::DateTime | Kind::AnyDateTime => {
            let begin = out.len();
            json::write_text(text, out);
            if is_date_and_time(text) {
                out[begin + 1 + SEPARATOR] = format.separator().as_bytes()[0];
            }
        }
        _ => json::write_text(text, out),
    }
}

/// Appends the JSON of a value; false where reading that back would give another one.
pub(super) fn write_value(value: &Value, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Bytes(_) => return false,
        Value::Float64(n) if !n.is_finite() => return false,
        value => json::write(value, out),
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A row as a driver has it, of which each value is either text of its database or the value itself.
    struct Values(Vec<Value>);

    impl DriverRow for Values {
        fn decode(&self, index: usize, _: Kind) -> sqlx::Result<Value> {
            Ok(self.0[index].clone())
        }

        fn write(&self, index: usize, kind: Kind, format: DateTimeFormat, out: &mut Vec<u8>) -> sqlx::Result<bool> {
            Ok(match &self.0[index] {
                Value::String(text) => {
                    write_text(text, kind, format, out);
                    true
                }
                value => write_value(value, out),
            })
        }
    }

    fn column(name: String, kind: Kind) -> Column {
        Column { quoted: format!("\"{name}\""), select: name.clone(), name, kind, compare: None, key: None }
    }

    fn typed() -> impl Strategy<Value = (Kind, Value)> {
        let text = prop_oneof![any::<String>(), "[-+]?[0-9]{0,22}(\\.[0-9]{0,9})?", Just("NaN".to_owned())];
        let date = "[0-9]{4}-[0-9]{2}-[0-9]{2}[ Tt/][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,6})?(Z| BC|\"é)?";
        prop_oneof![
            any::<i64>().prop_map(|n| (Kind::Integer, Value::Int64(n))),
            any::<f64>().prop_map(|n| (Kind::Float64, Value::Float64(n))),
            any::<bool>().prop_map(|flag| (Kind::Boolean, Value::Boolean(flag))),
            any::<Vec<u8>>().prop_map(|bytes| (Kind::Bytes, Value::Bytes(bytes.into()))),
            text.clone().prop_map(|text| (Kind::Number, Value::String(text))),
            text.prop_map(|text| (Kind::Text, Value::String(text))),
            date.prop_map(|text| (Kind::DateTime, Value::String(text))),
            Just((Kind::Text, Value::Null)),
        ]
    }

    proptest! {
        /// Whether a row was written at once or is a tree, its bytes are those of the tree.
        #[test]
        fn rows_are_written_as_their_trees_are(
            rows in prop::collection::vec(prop::collection::vec(typed(), 1..6), 1..4),
            iso in any::<bool>(),
        ) {
            let format = if iso { DateTimeFormat::Iso } else { DateTimeFormat::Sql };
            for row in rows {
                let (kinds, values): (Vec<Kind>, Vec<Value>) = row.into_iter().unzip();
                let columns: Vec<Column> =
                    kinds.iter().enumerate().map(|(index, kind)| column(format!("a \"{index}\" é"), *kind)).collect();
                let tree = |value: &Value, kind: Kind| {
                    let mut value = value.clone();
                    finish(&mut value, kind, format);
                    value
                };
                let expected: Vec<Value> = values.iter().zip(&kinds).map(|(value, kind)| tree(value, *kind)).collect();
                let map: Map = columns.iter().map(|column| column.name.clone()).zip(expected.clone()).collect();
                let (layout, _) = Layout::new(&columns, &columns[..1]);
                let mut page = Page::new(layout, format, 2);
                page.add(&Values(values.clone())).unwrap();
                page.add(&Values(values)).unwrap();
                for row in page.finish(0) {
                    prop_assert_eq!(row.position, PagePosition::After(expected[..1].to_vec()));
                    let has_a_form = |value: &Value| match value {
                        Value::Bytes(_) => false,
                        Value::Float64(n) => n.is_finite(),
                        _ => true,
                    };
                    prop_assert_eq!(matches!(row.payload, Payload::Json(_)), expected.iter().all(has_a_form));
                    let mut text = Vec::new();
                    row.payload.write_json(&Default::default(), &mut text);
                    let expected = json::to_string(&Value::Map(map.clone()));
                    prop_assert_eq!(std::str::from_utf8(&text).unwrap(), &expected);
                    // What reads the text finds what it would have found in the tree.
                    prop_assert_eq!(json::to_string(&row.payload.into_data().unwrap().1), expected);
                }
            }
        }
    }

    #[test]
    fn a_key_that_is_not_in_the_row_is_selected_beside_it() {
        let columns = [column("a".into(), Kind::Text), column("b".into(), Kind::Integer)];
        let row_id = column("_rowid_".into(), Kind::Integer);
        assert_eq!(Layout::new(&columns, &[row_id]).1, "a, b, _rowid_");
        let (layout, select) = Layout::new(&columns, &columns[1..]);
        assert_eq!((select.as_str(), layout.key), ("a, b", vec![1]));
    }
}
