//! The emulated database: three tables of posts, places and users, generated and always the same.
//!
//! They have the columns, shapes, value ranges and the garbage of a picture-sharing site's export, so that everything
//! downstream meets what it would meet there; every text is made up here. Only integer arithmetic is used, so that the rows
//! are the same on every machine; a test pins their checksum.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ottla_api::Result;
use ottla_api::data::{Value, json};

use crate::client::{Client, ColumnType, TableDefinition};
use crate::error::from_io;
use words::{CATEGORIES, Category, pick};

mod words;

/// Rows of each table.
pub(crate) const ROWS: u64 = 11_154;

/// Distinct users; each lives in one place and posts from there.
const USERS: u64 = 5_307;

/// Part of the file's name: a change of the rows needs another one.
const VERSION: u32 = 1;

use ColumnType::{DateTime, Double, Integer, Text};

/// The tables. The first column is the primary key.
pub(crate) const TABLES: [TableDefinition; 3] = [
    TableDefinition {
        name: "pinterest_data",
        columns: &[
            ("index", Integer),
            ("unique_id", Text),
            ("title", Text),
            ("description", Text),
            ("poster_name", Text),
            ("follower_count", Text),
            ("tag_list", Text),
            ("is_image_or_video", Text),
            ("image_src", Text),
            ("downloaded", Integer),
            ("save_location", Text),
            ("category", Text),
        ],
    },
    TableDefinition {
        name: "geolocation_data",
        columns: &[
            ("ind", Integer),
            ("timestamp", DateTime),
            ("latitude", Double),
            ("longitude", Double),
            ("country", Text),
        ],
    },
    TableDefinition {
        name: "user_data",
        columns: &[
            ("ind", Integer),
            ("first_name", Text),
            ("last_name", Text),
            ("age", Integer),
            ("date_joined", DateTime),
        ],
    },
];

/// The database's file in `folder`, made now if it isn't there.
pub(crate) async fn open(folder: &Path) -> Result<PathBuf> {
    // Two tasks may come here at once: each writes a file of its own, and the last rename wins with the same rows.
    static ATTEMPT: AtomicU64 = AtomicU64::new(0);
    let path = folder.join(format!("emulator-v{VERSION}.sqlite"));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(folder).map_err(|error| from_io(error, "make the state folder", folder))?;
    let attempt = format!("emulator-v{VERSION}.{}-{}.tmp", std::process::id(), ATTEMPT.fetch_add(1, Ordering::Relaxed));
    let unfinished = Unfinished(folder.join(attempt));
    let client = Client::create_sqlite(&unfinished.0)?;
    let generator = Generator::new();
    for (number, definition) in TABLES.iter().enumerate() {
        client.create_table(definition).await?;
        client.insert(definition, &mut (0..ROWS).map(|index| generator.row(number, index)), &mut |_| {}).await?;
    }
    client.close().await;
    // The file exists under its name only when it is whole and on disk.
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&unfinished.0).map_err(|error| from_io(error, "write the emulated database", &unfinished.0))?;
    fs::rename(&unfinished.0, &path).map_err(|error| from_io(error, "name the emulated database", &path))?;
    sync(folder).map_err(|error| from_io(error, "write the state folder", folder))?;
    Ok(path)
}

/// A file that goes away with this, unless it was renamed before: also when the task is stopped in the middle.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nobody waits for an answer here, and a leftover file disturbs nobody.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes rows. Each depends on its number alone.
pub(crate) struct Generator {
    /// Who wrote each post.
    user_of: Vec<u16>,
}

impl Generator {
    pub(crate) fn new() -> Self {
        // Everybody posts once; the rest of the posts are mostly those of a few, as everywhere.
        let mut dice = Dice::new(0, 0);
        let mut user_of: Vec<u16> = (0..USERS as u16).collect();
        user_of.extend((USERS..ROWS).map(|_| dice.skewed(USERS, 3) as u16));
        for last in (1..user_of.len()).rev() {
            user_of.swap(last, dice.below(last as u64 + 1) as usize);
        }
        Self { user_of }
    }

    /// Row `index` of table number `table` of [`TABLES`].
    pub(crate) fn row(&self, table: usize, index: u64) -> Vec<Value> {
        let user = u64::from(self.user_of[index as usize]);
        match table {
            0 => post(index, user),
            1 => place(index, user),
            _ => person(index, user),
        }
    }
}

/// A row of `user_data`.
fn person(index: u64, user: u64) -> Vec<Value> {
    const FIRST_JOINED: i64 = 1_445_385_600; // 2015-10-21
    const DAYS: u64 = 730;
    let mut dice = Dice::new(3, user);
    let (first, last) = name(user);
    let age = 20 + dice.skewed(41, 2) as i64;
    let joined = FIRST_JOINED + dice.skewed(DAYS * 86_400, 2) as i64;
    vec![(index as i64).into(), first.into(), last.into(), age.into(), date_time(joined).into()]
}

/// First and last name of a user: no two users have the same.
fn name(user: u64) -> (&'static str, &'static str) {
    let (firsts, lasts) = (words::FIRST_NAMES.len() as u64, words::LAST_NAMES.len() as u64);
    // The factor is a prime that divides neither number, so that this is a permutation of all pairs.
    let pair = user * 7_919 % (firsts * lasts);
    (words::FIRST_NAMES[(pair % firsts) as usize], words::LAST_NAMES[(pair / firsts) as usize])
}

/// A row of `geolocation_data`.
fn place(index: u64, user: u64) -> Vec<Value> {
    const FIRST_POST: i64 = 1_508_457_600; // 2017-10-20
    const DAYS: u64 = 1_825;
    let mut home = Dice::new(2, user);
    let latitude = degrees(&mut home, 90);
    let longitude = degrees(&mut home, 180);
    let countries = words::COUNTRIES.len() as u64;
    let country = if home.below(3) == 0 { home.below(countries) } else { home.skewed(countries, 2) };
    let country = words::COUNTRIES[country as usize];
    let posted = FIRST_POST + Dice::new(1, index).below(DAYS * 86_400) as i64;
    vec![(index as i64).into(), date_time(posted).into(), latitude.into(), longitude.into(), country.into()]
}

/// Degrees between -`limit` and `limit` with six significant digits, as a single precision column prints them.
fn degrees(dice: &mut Dice, limit: u64) -> f64 {
    let millionths = dice.below(limit * 1_000_000);
    let decimals = match millionths {
        0..1_000_000 => 6,
        1_000_000..10_000_000 => 5,
        10_000_000..100_000_000 => 4,
        _ => 3,
    };
    let cut = 10_u64.pow(6 - decimals);
    let sign = if dice.below(2) == 0 { "" } else { "-" };
    let text = format!("{sign}{}.{:06}", millionths / 1_000_000, millionths % 1_000_000 / cut * cut);
    text.parse().expect("digits and a point")
}

/// A row of `pinterest_data`.
fn post(index: u64, user: u64) -> Vec<Value> {
    let mut dice = Dice::new(4, index);
    let category = category(index);
    // Rates in 1,748 rows of the real export: 119 stories, 51 videos; what goes wrong depends on which it is.
    let kind = match dice.below(1_748) {
        0..119 => "multi-video(story page format)",
        119..170 => "video",
        _ => "image",
    };
    let story = kind.starts_with("multi");
    let nothing_known = story && dice.below(119) < 14;
    let downloaded = !(story && dice.below(119) < 37);
    let untagged = nothing_known || !story && dice.below(1_629) < 9;

    let title = if nothing_known { "No Title Data Available".to_owned() } else { title(category, &mut dice) };
    let description = match dice.below(1_629) {
        _ if story => "No description available Story format".to_owned(),
        0..30 => "No description available".to_owned(),
        30 => "Untitled".to_owned(),
        _ => description(category, &mut dice),
    };
    let (poster, followers) = if nothing_known {
        ("User Info Error".to_owned(), "User Info Error".to_owned())
    } else {
        (poster(category, user), followers(user))
    };
    let tags = if untagged { "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e".to_owned() } else { tags(category, &mut dice) };
    let image = if downloaded { image(&mut dice) } else { "Image src error.".to_owned() };
    vec![
        (index as i64).into(),
        unique_id(&mut dice).into(),
        title.into(),
        description.into(),
        poster.into(),
        followers.into(),
        tags.into(),
        kind.into(),
        image.into(),
        i64::from(downloaded).into(),
        format!("Local save in /data/{}", category.name).into(),
        category.name.into(),
    ]
}

/// Posts come sorted by category.
fn category(index: u64) -> &'static Category {
    let mut before = 0;
    CATEGORIES
        .iter()
        .find(|category| {
            before += category.posts;
            index < before
        })
        .unwrap_or(&CATEGORIES[CATEGORIES.len() - 1])
}

fn title(category: &Category, dice: &mut Dice) -> String {
    let subject = pick(category.subjects, dice);
    let quality = pick(words::QUALITIES, dice);
    let title = match dice.below(8) {
        0 => format!("{} {quality} {subject} {}", 3 + dice.below(60), pick(words::ENDINGS, dice)),
        1 => format!("{quality} {subject} {}", pick(words::ENDINGS, dice)),
        2 => format!("How We Made Our {subject} {quality}"),
        3 => format!("{subject}: {quality} and {}", pick(words::QUALITIES, dice)),
        4 => format!("The {quality} Guide to {subject}"),
        5 => format!("{subject} {} | {quality} Notes", pick(words::ENDINGS, dice)),
        6 => format!("{} {subject} Mistakes & What To Do Instead", 2 + dice.below(18)),
        _ => format!("{quality} {subject} - {}", pick(category.subjects, dice)),
    };
    match dice.below(1_000) {
        0..70 => format!("{title} {}", pick(words::EMOJI, dice)),
        70..76 => format!("{} {title}", pick(words::EMOJI, dice)),
        76..80 => title.replacen(' ', "\u{a0}", 1),
        80..82 => format!(" {title}"),
        82..84 => format!("{title} "),
        84..86 => title.replacen(' ', "\n", 1),
        _ => title,
    }
}

fn description(category: &Category, dice: &mut Dice) -> String {
    // The export cuts long descriptions like this.
    const CUT: usize = 176;
    let mut text = String::new();
    for _ in 0..1 + dice.below(4) {
        if !text.is_empty() {
            text.push_str(if dice.below(5) == 0 { "\n" } else { " " });
        }
        let subject = pick(category.subjects, dice);
        let sentence = pick(words::SENTENCES, dice);
        text.push_str(&sentence.replace("{}", subject).replace("[]", pick(words::QUALITIES, dice)));
    }
    if dice.below(12) == 0 {
        text.push_str(pick(words::EMOJI, dice));
    }
    match text.char_indices().nth(CUT) {
        Some((end, _)) => format!("{}…\u{a0}", &text[..end]),
        None => text,
    }
}

/// The name a user posts under: always the same.
fn poster(category: &Category, user: u64) -> String {
    let mut dice = Dice::new(5, user);
    let (first, last) = name(user);
    let word = pick(words::BRANDS, &mut dice);
    let poster = match dice.below(7) {
        0 | 1 => format!("{first} {last}"),
        2 => format!("{word} {}", pick(words::TRADES, &mut dice)),
        3 => format!("{first}'s {word} {}", pick(words::TRADES, &mut dice)),
        4 => format!("{word} & {last}"),
        5 => format!("The {word} {} | {} Ideas", pick(words::TRADES, &mut dice), pick(category.subjects, &mut dice)),
        _ => format!("{}{}", word.to_lowercase(), last.to_lowercase()),
    };
    match dice.below(1_000) {
        0..16 => format!("{poster} "),
        16..18 => format!(" {poster}"),
        18..30 => format!("{poster} {}", pick(words::EMOJI, &mut dice)),
        30..32 => poster.replacen(' ', "\u{a0}", 1),
        32..34 => poster.replacen(' ', "\n", 1),
        _ => poster,
    }
}

/// How many follow a user, as the site prints it.
fn followers(user: u64) -> String {
    let mut dice = Dice::new(6, user);
    match dice.below(1_734) {
        0..1_327 => format!("{}k", 1 + dice.skewed(999, 2)),
        1_327..1_612 => dice.below(1_000).to_string(),
        _ => format!("{}M", 1 + dice.skewed(40, 3)),
    }
}

/// Nine different tags.
fn tags(category: &Category, dice: &mut Dice) -> String {
    let mut tags: Vec<String> = Vec::with_capacity(9);
    while tags.len() < 9 {
        let subject = pick(category.subjects, dice);
        let tag = match dice.below(3) {
            0 => format!("{subject} {}", pick(words::TAG_ENDINGS, dice)),
            1 => format!("{} {subject}", pick(words::QUALITIES, dice)),
            _ => subject.to_owned(),
        };
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.join(",")
}

fn unique_id(dice: &mut Dice) -> String {
    let (high, low) = (dice.next(), dice.next());
    // Version 4, variant 1.
    format!(
        "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        8 + (low >> 62),
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

fn image(dice: &mut Dice) -> String {
    let hash = format!("{:016x}{:016x}", dice.next(), dice.next());
    let kind = if dice.below(5) == 0 { "png" } else { "jpg" };
    format!("https://images.example.org/originals/{}/{}/{}/{hash}.{kind}", &hash[..2], &hash[2..4], &hash[4..6])
}

/// `YYYY-MM-DD HH:MM:SS` of a time in seconds since 1970.
fn date_time(seconds: i64) -> String {
    let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = json::civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", time / 3_600, time / 60 % 60, time % 60)
}

/// Random numbers: SplitMix64, a stream of its own for each purpose and row.
struct Dice(u64);

impl Dice {
    fn new(purpose: u64, row: u64) -> Self {
        let mut dice = Self(purpose << 32 | row);
        // Neighbouring streams part here.
        dice.0 = dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, all as likely (up to 2^-32, for bounds of ours).
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number below `bound`, small ones the likelier the larger `power` is.
    fn skewed(&mut self, bound: u64, power: u32) -> u64 {
        let drawn = self.next() >> 32;
        let fraction = (1..power).fold(drawn, |fraction, _| (fraction * drawn) >> 32);
        ((u128::from(fraction) * u128::from(bound)) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use ottla_api::data::json;

    use super::*;

    fn rows(table: usize) -> Vec<Vec<Value>> {
        let generator = Generator::new();
        (0..ROWS).map(|index| generator.row(table, index)).collect()
    }

    fn texts(table: usize, column: usize) -> Vec<String> {
        rows(table).into_iter().map(|row| row[column].as_str().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn the_rows_are_the_same_everywhere() {
        // FNV-1a over the JSON of every row. Rows that change need another VERSION, and these numbers.
        let mut sums = [0xcbf2_9ce4_8422_2325_u64; 3];
        for (table, sum) in sums.iter_mut().enumerate() {
            for row in rows(table) {
                for byte in json::to_string(&Value::Array(row)).bytes() {
                    *sum = (*sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        assert_eq!(sums.map(|sum| format!("{sum:016x}")), ["826ef6f592ca3fc2", "a30a8518c5da15fc", "81bd70bcdfb8fcf4"]);
    }

    #[test]
    fn garbage_comes_as_often_as_in_the_original() {
        let posts = rows(0);
        let count = |column: usize, value: &str| posts.iter().filter(|row| row[column].as_str() == Some(value)).count();
        let expected = |of_1748: usize| of_1748 * posts.len() / 1748;
        for (column, value, of_1748) in [
            (3, "No description available Story format", 119),
            (3, "No description available", 30),
            (4, "User Info Error", 14),
            (5, "User Info Error", 14),
            (2, "No Title Data Available", 14),
            (6, "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e", 23),
            (8, "Image src error.", 37),
            (7, "multi-video(story page format)", 119),
            (7, "video", 51),
        ] {
            let (found, wanted) = (count(column, value), expected(of_1748));
            assert!(found.abs_diff(wanted) < 30 + wanted / 10, "{value}: {found} rows, expected about {wanted}");
        }
        assert!(count(3, "Untitled") > 0);
        for row in &posts {
            let text = |column: usize| row[column].as_str().unwrap();
            assert_eq!(text(4) == "User Info Error", text(2) == "No Title Data Available");
            assert_eq!(text(4) == "User Info Error", text(5) == "User Info Error");
            assert_eq!(row[9] == Value::Int64(0), text(8) == "Image src error.");
            assert_eq!(text(7).starts_with("multi"), text(3).ends_with("Story format"));
            assert_eq!(text(10), format!("Local save in /data/{}", text(11)));
        }
    }

    #[test]
    fn texts_hold_what_makes_texts_difficult() {
        let (titles, posters) = (texts(0, 2), texts(0, 4));
        for (what, test) in [
            ("emoji", (|text| text.chars().any(|c| c > '\u{2600}')) as fn(&str) -> bool),
            ("no-break space", |text| text.contains('\u{a0}')),
            ("newline", |text| text.contains('\n')),
            ("leading blank", |text| text.starts_with(' ')),
            ("trailing blank", |text| text.ends_with(' ')),
        ] {
            assert!(titles.iter().any(|title| test(title)), "no title with {what}");
            assert!(posters.iter().any(|poster| test(poster)), "no poster with {what}");
        }
        assert!(texts(0, 6).iter().all(|tags| matches!(tags.split(',').count(), 9 | 17)));
        let ids: BTreeSet<String> = texts(0, 1).into_iter().collect();
        assert_eq!(ids.len() as u64, ROWS);
        assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'));
        let followers: BTreeSet<_> =
            texts(0, 5).iter().map(|text| text.trim_start_matches(char::is_numeric).to_owned()).collect();
        assert_eq!(followers.into_iter().collect::<Vec<_>>(), ["", "M", "User Info Error", "k"]);
    }

    #[test]
    fn places_and_users_keep_to_their_ranges() {
        let (places, users) = (rows(1), rows(2));
        let countries: BTreeSet<_> = places.iter().filter_map(|row| row[4].as_str()).collect();
        assert_eq!(countries.len(), 243);
        let between = |column: &[Vec<Value>], index: usize, least: &str, most: &str| {
            column.iter().all(|row| row[index].as_str().is_some_and(|text| text > least && text < most))
        };
        assert!(between(&places, 1, "2017-10-19", "2022-10-20"));
        assert!(between(&users, 4, "2015-10-21", "2017-10-21"));
        let mut people: BTreeMap<String, u64> = BTreeMap::new();
        for row in &users {
            *people.entry(json::to_string(&Value::Array(row[1..].to_vec()))).or_default() += 1;
        }
        assert_eq!(people.len() as u64, USERS);
        assert!(people.values().any(|posts| *posts > 100) && people.values().any(|posts| *posts == 1));
        let ages: BTreeSet<i64> = users.iter().filter_map(|row| row[3].as_i64()).collect();
        assert_eq!((ages.first(), ages.last(), ages.len()), (Some(&20), Some(&60), 41));
        for row in &places {
            let (Value::Float64(latitude), Value::Float64(longitude)) = (&row[2], &row[3]) else { panic!("no floats") };
            // A minus zero would come out of SQLite as a zero.
            assert!(*latitude != 0.0 && *longitude != 0.0 && latitude.abs() < 90.0 && longitude.abs() < 180.0);
            // A single precision column holds the same digits.
            assert_eq!((*latitude as f32).to_string(), latitude.to_string());
        }
    }

    #[tokio::test]
    async fn the_file_is_made_once_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let started = std::time::Instant::now();
        // Two tasks of one worker.
        let (one, other) = tokio::join!(open(&state), open(&state));
        eprintln!("both made in {:?}", started.elapsed());
        assert_eq!(one.unwrap(), other.unwrap());
        let files: Vec<_> = fs::read_dir(&state).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, ["emulator-v1.sqlite"]);
        let made = fs::metadata(state.join("emulator-v1.sqlite")).unwrap().modified().unwrap();
        let again = fs::metadata(open(&state).await.unwrap()).unwrap().modified().unwrap();
        assert_eq!(made, again);
    }

    #[test]
    fn seconds_become_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (1_598_586_767, "2020-08-28 03:52:47"),
            (1_582_934_400, "2020-02-29 00:00:00"),
            (1_583_020_799, "2020-02-29 23:59:59"),
        ] {
            assert_eq!(date_time(seconds), text);
        }
    }
}
