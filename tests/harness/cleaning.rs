//! The cleaning rules of the posts, written down once more: what a cleaned row must look like, byte for byte.

use serde_json::{Map, Value, json};

use crate::posts::fields;

/// Texts that mean "nothing here", by column of the posts.
const GARBAGE: &[(&str, &[&str])] = &[
    ("title", &["No Title Data Available"]),
    ("description", &["No description available Story format", "No description available", "Untitled"]),
    ("poster_name", &["User Info Error"]),
    ("follower_count", &["User Info Error"]),
    ("tag_list", &["N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"]),
    ("image_src", &["Image src error."]),
];

/// A row of `pinterest_data`, cleaned.
pub fn clean_pin(line: &str) -> String {
    let row = fields(line);
    let mut clean = Map::new();
    for (to, from) in [
        ("ind", "index"),
        ("unique_id", "unique_id"),
        ("title", "title"),
        ("description", "description"),
        ("follower_count", "follower_count"),
        ("poster_name", "poster_name"),
        ("tag_list", "tag_list"),
        ("is_image_or_video", "is_image_or_video"),
        ("image_src", "image_src"),
        ("save_location", "save_location"),
        ("category", "category"),
    ] {
        let value = match (from, nothing_to_null(from, &row[from])) {
            ("follower_count", Value::String(text)) => quantity(&text).map_or(Value::Null, Value::from),
            ("save_location", Value::String(text)) => {
                Value::from(text.strip_prefix("Local save in ").unwrap_or_else(|| panic!("save_location is '{text}'")))
            }
            (_, value) => value,
        };
        clean.insert(to.to_owned(), value);
    }
    Value::Object(clean).to_string()
}

/// A row of `geolocation_data`, cleaned.
pub fn clean_geo(line: &str) -> String {
    let row = fields(line);
    json!({
        "ind": row["ind"],
        "country": row["country"],
        "coordinates": [row["latitude"], row["longitude"]],
        "timestamp": iso(&row["timestamp"]),
    })
    .to_string()
}

/// A row of `user_data`, cleaned.
pub fn clean_user(line: &str) -> String {
    let row = fields(line);
    let text = |name: &str| row[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {line}"));
    json!({
        "ind": row["ind"],
        "user_name": format!("{} {}", text("first_name"), text("last_name")),
        "age": row["age"],
        "date_joined": iso(&row["date_joined"]),
    })
    .to_string()
}

/// How many followers a text means: `985k` is 985000, `2M` is 2000000; none where it is no quantity.
pub fn quantity(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" => 1_000,
        "m" | "M" => 1_000_000,
        "b" | "B" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<i64>().ok().map(|number| number * unit)
}

fn nothing_to_null(column: &str, value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    let garbage = GARBAGE.iter().any(|(of, texts)| *of == column && texts.contains(&text.as_str()));
    if garbage || text.trim().is_empty() { Value::Null } else { value.clone() }
}

/// `2019-01-01 07:21:13` as a point in time, in the text form that the sink writes.
fn iso(value: &Value) -> String {
    let text = value.as_str().unwrap_or_else(|| panic!("no date and time: {value}"));
    format!("{}Z", text.replace(' ', "T"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_and_millions_are_counted() {
        for (text, number) in
            [("985k", Some(985_000)), ("2M", Some(2_000_000)), ("7", Some(7)), ("User Info Error", None)]
        {
            assert_eq!(quantity(text), number, "{text}");
        }
    }
}
