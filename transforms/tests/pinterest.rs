//! The three cleaning chains that a pipeline of posts needs, composed from this crate's transformations and run over rows that
//! hold every garbage value, and every mistake that hand-written copies of these rules made.

mod harness;

use harness::{text, transformation};
use ottla_api::data::json;
use ottla_api::prelude::*;

/// Transformations in a row, as the runtime runs them.
struct Chain(Vec<Box<dyn Transformation>>);

impl Chain {
    fn new(steps: &[(&str, &[(&str, &str)])]) -> Self {
        let make = |(name, options): &(&str, &[(&str, &str)])| {
            transformation(name, &Properties::from_iter(options.iter().copied())).unwrap()
        };
        Self(steps.iter().map(make).collect())
    }

    fn apply(&mut self, row: &str) -> Option<Record> {
        let mut record = Record::new("topic", Value::Null);
        record.value = Payload::json(json::compact(&row.as_bytes().to_vec().into()).unwrap());
        for step in &mut self.0 {
            record = step.apply(record).unwrap()?;
        }
        Some(record)
    }

    /// What becomes of a row, as JSON with times in ISO 8601.
    fn clean(&mut self, row: &str) -> String {
        match self.apply(row) {
            Some(mut record) => text(record.value.value().unwrap()),
            None => "dropped".to_owned(),
        }
    }
}

fn pin() -> Chain {
    Chain::new(&[
        (
            "null-if",
            &[
                ("blank", "true"),
                ("exact.description", "No description available Story format, No description available, Untitled"),
                ("exact.poster_name", "User Info Error"),
                ("exact.follower_count", "User Info Error"),
                ("exact.title", "No Title Data Available"),
                ("exact.tag_list", "\"N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e\""),
                ("exact.image_src", "Image src error."),
            ],
        ),
        ("parse-quantity", &[("fields", "follower_count")]),
        ("cast", &[("spec", "index:int64")]),
        ("strip-prefix", &[("fields", "save_location"), ("prefix", "Local save in ")]),
        (
            "select-fields",
            &[(
                "fields",
                "index:ind, unique_id, title, description, follower_count, poster_name, tag_list, is_image_or_video, \
                 image_src, save_location, category",
            )],
        ),
        ("drop-if-all-null", &[("except", "ind")]),
    ])
}

fn geo() -> Chain {
    Chain::new(&[
        ("null-if", &[("blank", "true")]),
        ("combine-fields", &[("fields", "latitude, longitude"), ("into", "coordinates")]),
        ("parse-timestamp", &[("fields", "timestamp")]),
        ("select-fields", &[("fields", "ind, country, coordinates, timestamp")]),
        ("drop-if-all-null", &[("except", "ind")]),
    ])
}

fn user() -> Chain {
    Chain::new(&[
        ("null-if", &[("blank", "true")]),
        ("concat-fields", &[("fields", "first_name, last_name"), ("into", "user_name")]),
        ("parse-timestamp", &[("fields", "date_joined")]),
        ("cast", &[("spec", "age:int64")]),
        ("select-fields", &[("fields", "ind, user_name, age, date_joined")]),
        ("drop-if-all-null", &[("except", "ind")]),
    ])
}

const PIN: &str = r#"{"index":7528,"unique_id":"0f6b4c1e-1b2a-4c3d-8e9f-001122334455","title":"  Paper cranes 🕊 ","description":"Fold,\nthen hang\u00a0them","poster_name":"Mika ","follower_count":"985k","tag_list":"paper,cranes,fold","is_image_or_video":"image","image_src":"https://img.example/a.jpg","downloaded":1,"save_location":"Local save in /data/diy-and-crafts","category":"diy-and-crafts"}"#;

/// [`PIN`] with other values.
fn pin_with(changes: &[(&str, &str)]) -> String {
    let mut row = json::parse(PIN.as_bytes()).unwrap();
    let Value::Map(map) = &mut row else { unreachable!() };
    for (name, value) in changes {
        map.insert(*name, json::parse(value.as_bytes()).unwrap());
    }
    json::to_string(&row)
}

/// One field of a cleaned pin.
fn cleaned(field: &str, value: &str) -> String {
    let mut record = pin().apply(&pin_with(&[(field, value)])).unwrap();
    text(record.value.value().unwrap().field(field).unwrap())
}

#[test]
fn a_good_post_comes_out_whole_in_order_with_its_text_untouched() {
    assert_eq!(
        pin().clean(PIN),
        "{\"ind\":7528,\"unique_id\":\"0f6b4c1e-1b2a-4c3d-8e9f-001122334455\",\"title\":\"  Paper cranes 🕊 \",\
         \"description\":\"Fold,\\nthen hang\u{a0}them\",\"follower_count\":985000,\"poster_name\":\"Mika \",\
         \"tag_list\":\"paper,cranes,fold\",\"is_image_or_video\":\"image\",\"image_src\":\"https://img.example/a.jpg\",\
         \"save_location\":\"/data/diy-and-crafts\",\"category\":\"diy-and-crafts\"}"
    );
}

#[test]
fn every_garbage_value_becomes_null_and_the_row_stays() {
    let row = pin_with(&[
        ("title", r#""No Title Data Available""#),
        ("description", r#""No description available Story format""#),
        ("poster_name", r#""User Info Error""#),
        ("follower_count", r#""User Info Error""#),
        ("tag_list", r#""N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e""#),
        ("is_image_or_video", r#""multi-video(story page format)""#),
        ("image_src", r#""Image src error.""#),
        ("downloaded", "0"),
    ]);
    assert_eq!(
        pin().clean(&row),
        r#"{"ind":7528,"unique_id":"0f6b4c1e-1b2a-4c3d-8e9f-001122334455","title":null,"description":null,"follower_count":null,"poster_name":null,"tag_list":null,"is_image_or_video":"multi-video(story page format)","image_src":null,"save_location":"/data/diy-and-crafts","category":"diy-and-crafts"}"#
    );
}

#[test]
fn each_garbage_value_counts_in_its_own_column_only() {
    for (field, garbage) in [
        ("description", r#""No description available Story format""#),
        ("description", r#""No description available""#),
        ("description", r#""Untitled""#),
        ("description", r#""""#),
        ("title", r#"" \t\n""#),
        ("category", "null"),
        ("image_src", "\"\u{a0}\""),
    ] {
        assert_eq!(cleaned(field, garbage), "null", "{field} {garbage}");
    }
    for (field, text) in [
        ("title", r#""Untitled""#),
        ("title", r#""User Info Error""#),
        ("description", r#""No description available here""#),
        ("tag_list", r#""No Tags Available""#),
    ] {
        assert_eq!(cleaned(field, text), text, "{field}");
    }
}

#[test]
fn follower_counts_are_whole_numbers() {
    for (count, number) in [
        ("\"2M\"", "2000000"),
        ("\"985k\"", "985000"),
        ("\"985K\"", "985000"),
        ("\"1.5k\"", "1500"),
        ("\"3b\"", "3000000000"),
        ("\"305\"", "305"),
        ("\"0\"", "0"),
        ("17", "17"),
        ("\"\"", "null"),
        ("null", "null"),
        ("\"12 k\"", "null"),
        ("\"-5k\"", "null"),
        ("\"99999999999b\"", "null"),
    ] {
        assert_eq!(cleaned("follower_count", count), number, "{count}");
    }
}

#[test]
fn a_post_with_an_unknown_follower_count_is_not_lost() {
    assert!(pin().apply(&pin_with(&[("follower_count", "\"User Info Error\"")])).is_some());
}

#[test]
fn no_blank_is_left_in_front_of_a_save_location() {
    assert_eq!(cleaned("save_location", "\"Local save in /data/art\""), "\"/data/art\"");
    assert_eq!(cleaned("save_location", "\"Local save in  /data/art\""), "\"/data/art\"");
    assert_eq!(cleaned("save_location", "\"/data/art\""), "\"/data/art\"");
}

#[test]
fn an_index_is_a_number_even_where_it_came_as_text() {
    let mut record = pin().apply(&pin_with(&[("index", "\"7528\"")])).unwrap();
    assert_eq!(record.value.value().unwrap().field("ind"), Some(&Value::Int64(7528)));
}

#[test]
fn coordinates_are_latitude_then_longitude_and_the_time_is_whole() {
    let mut geo = geo();
    let expected = r#"{"ind":7528,"country":"Cote d'Ivoire","coordinates":[-89.9787,-173.293],"timestamp":"2020-08-28T03:52:47Z"}"#;
    for timestamp in [
        "2020-08-28T03:52:47",
        "2020-08-28 03:52:47",
        "08/28/2020, 03:52:47",
        "2020-08-28T03:52:47Z",
        "2020-08-28T03:52:47+0000",
        "2020-08-28 03:52:47.000",
    ] {
        let row = format!(
            r#"{{"ind":7528,"timestamp":"{timestamp}","latitude":-89.9787,"longitude":-173.293,"country":"Cote d'Ivoire"}}"#
        );
        assert_eq!(geo.clean(&row), expected, "{timestamp}");
    }
    let mut record =
        geo.apply(r#"{"ind":1,"timestamp":"2020-08-28","latitude":0.10,"longitude":1,"country":"Chad"}"#).unwrap();
    assert_eq!(record.value.value().unwrap().field("timestamp"), Some(&Value::Timestamp(1_598_572_800_000)));
    assert_eq!(
        text(record.value.value().unwrap().field("coordinates").unwrap()),
        "[0.10,1]",
        "numbers stay as written"
    );
}

#[test]
fn missing_parts_of_a_place_are_null() {
    let mut geo = geo();
    assert_eq!(
        geo.clean(r#"{"ind":1,"timestamp":"soon","latitude":null,"longitude":null,"country":"Chad"}"#),
        r#"{"ind":1,"country":"Chad","coordinates":null,"timestamp":null}"#
    );
    assert_eq!(
        geo.clean(r#"{"ind":1,"timestamp":null,"latitude":5.5,"longitude":null,"country":" "}"#),
        r#"{"ind":1,"country":null,"coordinates":[5.5,null],"timestamp":null}"#
    );
}

#[test]
fn a_name_never_holds_the_text_none() {
    let mut user = user();
    for (first, last, name) in [
        ("\"Ada\"", "\"Byron\"", "\"Ada Byron\""),
        ("\"Ada\"", "null", "\"Ada\""),
        ("null", "\"Byron\"", "\"Byron\""),
        ("\" \"", "\"Byron\"", "\"Byron\""),
        ("null", "null", "null"),
    ] {
        let row = format!(
            r#"{{"ind":3,"first_name":{first},"last_name":{last},"age":"36","date_joined":"2015-10-21T21:26:45"}}"#
        );
        assert_eq!(
            user.clean(&row),
            format!(r#"{{"ind":3,"user_name":{name},"age":36,"date_joined":"2015-10-21T21:26:45Z"}}"#)
        );
    }
}

#[test]
fn rows_of_the_wrong_table_are_dropped() {
    let geo_row = r#"{"ind":1,"timestamp":"2020-08-28 03:52:47","latitude":1.5,"longitude":2.5,"country":"Chad"}"#;
    let user_row = r#"{"ind":1,"first_name":"A","last_name":"B","age":30,"date_joined":"2015-10-21 21:26:45"}"#;
    for (mut chain, rows) in [(pin(), [geo_row, user_row]), (geo(), [PIN, user_row]), (user(), [PIN, geo_row])] {
        for row in rows {
            assert_eq!(chain.clean(row), "dropped", "{row}");
        }
    }
}

#[test]
fn a_row_of_garbage_alone_is_dropped() {
    assert_eq!(pin().clean(r#"{"index":1,"title":"","poster_name":"User Info Error","downloaded":0}"#), "dropped");
    assert_eq!(user().clean(r#"{"ind":1,"first_name":null,"last_name":"","age":null,"date_joined":""}"#), "dropped");
}

#[test]
fn tombstones_pass_through_a_whole_chain() {
    let mut chain = user();
    let mut record = Record::new("topic", Value::Null);
    record.key = Payload::schemaless("k");
    let expected = record.clone();
    for step in &mut chain.0 {
        record = step.apply(record).unwrap().unwrap();
    }
    assert_eq!(record, expected);
}

#[test]
fn rows_with_a_schema_come_out_as_those_without() {
    let pin_schema = "{index: int32, unique_id: string, title: string?, description: string, poster_name: string, \
                      follower_count: string, tag_list: string, is_image_or_video: string, image_src: string, \
                      downloaded: int32, save_location: string, category: string}";
    let geo_schema = "{ind: int32, timestamp: string, latitude: float64?, longitude: float64?, country: string}";
    let user_schema = "{ind: int32, first_name: string?, last_name: string?, age: int32, date_joined: string}";
    let geo_row = r#"{"ind":1,"timestamp":"2020-08-28 03:52:47","latitude":1.5,"longitude":2.25,"country":"Chad"}"#;
    let user_row = r#"{"ind":1,"first_name":"A","last_name":null,"age":30,"date_joined":"x"}"#;
    let garbage = pin_with(&[("title", "null"), ("follower_count", "\"User Info Error\"")]);
    for (make, schema, row, out) in [
        (
            pin as fn() -> Chain,
            pin_schema,
            PIN,
            "{ind: int64, unique_id: string?, title: string?, description: string?, follower_count: int64?, poster_name: \
             string?, tag_list: string?, is_image_or_video: string?, image_src: string?, save_location: string?, \
             category: string?}",
        ),
        (pin, pin_schema, &garbage, ""),
        (geo, geo_schema, geo_row, "{ind: int32, country: string?, coordinates: [float64?]?, timestamp: Timestamp?}"),
        (user, user_schema, user_row, "{ind: int32, user_name: string?, age: int64, date_joined: Timestamp?}"),
    ] {
        let mut record = Record::new("topic", Value::Null);
        record.value = harness::payload(row, Some(schema));
        for step in &mut make().0 {
            record = step.apply(record).unwrap().unwrap();
        }
        assert_eq!(text(record.value.value().unwrap()), make().clean(row));
        let schema = record.value.schema().unwrap();
        schema.check(&record.value.clone().into_data().unwrap().1).unwrap();
        if !out.is_empty() {
            assert_eq!(harness::notation(schema), out);
        }
    }
}

#[test]
fn the_variants_of_the_rules_are_settings() {
    let mut chain = Chain::new(&[
        ("null-if", &[("exact.*", "User Info Error"), ("replacement", "text"), ("text", "unknown")]),
        ("parse-quantity", &[("fields", "follower_count"), ("unparsable", "zero")]),
        ("strip-prefix", &[("fields", "save_location"), ("prefix", "Local save in"), ("form", "last-segment")]),
        ("split-field", &[("fields", "tag_list")]),
        ("select-fields", &[("fields", "index:ind, poster_name, follower_count, tag_list, downloaded, save_location")]),
    ]);
    assert_eq!(
        chain.clean(&pin_with(&[("poster_name", "\"User Info Error\""), ("follower_count", "\"User Info Error\"")])),
        r#"{"ind":7528,"poster_name":"unknown","follower_count":0,"tag_list":["paper","cranes","fold"],"downloaded":1,"save_location":"diy-and-crafts"}"#
    );
    let mut chain = Chain::new(&[
        ("replace-field", &[("renames", "index:ind")]),
        ("combine-fields", &[("fields", "longitude,latitude"), ("into", "at"), ("form", "text"), ("keep", "true")]),
        ("parse-timestamp", &[("fields", "timestamp"), ("output", "date")]),
    ]);
    assert_eq!(
        chain
            .clean(r#"{"index":1,"timestamp":"2020-08-28 03:52:47","latitude":1.5,"longitude":2.50,"country":"Chad"}"#),
        r#"{"ind":1,"timestamp":"2020-08-28","latitude":1.5,"longitude":2.50,"country":"Chad","at":"2.50,1.5"}"#
    );
    let mut chain = Chain::new(&[
        ("combine-fields", &[("fields", "first_name, last_name"), ("into", "user_name")]),
        ("deduplicate", &[("by", "fields"), ("fields", "ind")]),
    ]);
    let row = r#"{"ind":3,"first_name":"Ada","last_name":"Byron"}"#;
    assert_eq!(chain.clean(row), r#"{"ind":3,"user_name":["Ada","Byron"]}"#);
    assert_eq!(chain.clean(row), "dropped");
}

/// Measures the pin chain beside parsing and writing alone, on rows of 700 bytes. The best of many runs counts, since other
/// work on the machine only ever adds. `cargo test --release --test pinterest -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn the_time_of_a_chain_over_a_row_of_700_bytes() {
    const RUNS: u32 = 40;
    const ROUNDS: u32 = 10_000;
    let long = format!("\"{}\"", "Fold, then hang them. ".repeat(15));
    let rows = [pin_with(&[("description", &long)]), pin_with(&[("description", &long), ("tag_list", "\"\"")])];
    let rows = rows.map(|row| json::compact(&row.into_bytes().into()).unwrap());
    let mut out = Vec::new();
    let mut run = |steps: &mut [Box<dyn Transformation>]| {
        let begin = std::time::Instant::now();
        for round in 0..ROUNDS {
            let mut record = Record::new("topic", Value::Null);
            record.value = Payload::json(rows[round as usize % 2].clone());
            record.value.value().unwrap();
            for step in &mut *steps {
                record = step.apply(record).unwrap().unwrap();
            }
            out.clear();
            record.value.write_json(&json::WriteOptions::default(), &mut out);
        }
        begin.elapsed() / ROUNDS
    };
    let mut chain = pin();
    let mut best = vec![std::time::Duration::MAX; chain.0.len() + 1];
    for _ in 0..RUNS {
        for (steps, best) in best.iter_mut().enumerate() {
            *best = run(&mut chain.0[..steps]).min(*best);
        }
    }
    eprintln!("{} bytes: parse and write {:?}, after each step {:?}", rows[0].len(), best[0], &best[1..]);
}
