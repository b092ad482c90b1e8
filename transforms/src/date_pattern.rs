//! Times as text: the patterns of Java's `SimpleDateFormat`, and the arithmetic of dates.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use ottla_api::config::ConfigValue;
use ottla_api::data::json;

pub(crate) const DAY_MILLIS: i64 = 86_400_000;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A date and a time of day, perhaps with the offset from UTC that the text named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) millis: i64,
    /// Seconds east of UTC.
    pub(crate) offset: Option<i64>,
}

impl LocalTime {
    /// Midnight of a day.
    pub(crate) fn date(year: i64, month: i64, day: i64) -> Self {
        Self { year, month, day, hour: 0, minute: 0, second: 0, millis: 0, offset: None }
    }

    /// True where the calendar has this day and the clock this time.
    pub(crate) fn exists(&self) -> bool {
        const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        (1..=12).contains(&self.month)
            && self.day >= 1
            && self.day <= DAYS[self.month as usize - 1] + i64::from(leap && self.month == 2)
            && (0..24).contains(&self.hour)
            && (0..60).contains(&self.minute)
            && (0..60).contains(&self.second)
    }

    /// Milliseconds from 1970-01-01T00:00:00 to this, both read off the same clock. What is out of range carries over, as in
    /// Java: the 32nd of January is the 1st of February.
    fn millis_on_the_clock(&self) -> i64 {
        let months = self.month - 1;
        let days = days_from_civil(self.year + months.div_euclid(12), months.rem_euclid(12) + 1, 1) + self.day - 1;
        ((days * 24 + self.hour) * 60 + self.minute) * 60_000 + self.second * 1000 + self.millis
    }

    /// Milliseconds since the epoch; `zone` is that of times that name no offset.
    pub(crate) fn to_millis(self, zone: &Zone) -> Option<i64> {
        let clock = self.millis_on_the_clock();
        match (self.offset, zone) {
            (Some(offset), _) => Some(clock - offset * 1000),
            (None, Zone::Utc) => Some(clock),
            (None, Zone::Named(zone)) => {
                let local = Timestamp::from_millisecond(clock).ok()?;
                let local: DateTime = Offset::UTC.to_datetime(local);
                zone.to_ambiguous_timestamp(local).compatible().ok().map(|time| time.as_millisecond())
            }
        }
    }
}

/// Days from 1970-01-01 to a Gregorian date (Hinnant's `days_from_civil`).
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A time zone.
#[derive(Debug, Clone)]
pub(crate) enum Zone {
    /// No offset, ever: the common case, and the fast one.
    Utc,
    /// Any other.
    Named(TimeZone),
}

impl Zone {
    /// Seconds east of UTC at this time.
    pub(crate) fn offset_at(&self, millis: i64) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Named(zone) => {
                Timestamp::from_millisecond(millis).map_or(0, |time| zone.to_offset(time).seconds().into())
            }
        }
    }

    /// The zone's name at this time.
    fn name_at(&self, millis: i64) -> String {
        match self {
            Self::Utc => "UTC".to_owned(),
            Self::Named(zone) => Timestamp::from_millisecond(millis)
                .map_or_else(|_| "UTC".to_owned(), |time| zone.to_offset_info(time).abbreviation().to_owned()),
        }
    }
}

impl ConfigValue for Zone {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if ["UTC", "GMT", "Z", "Etc/UTC"].iter().any(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(Self::Utc);
        }
        if let Some((seconds, "")) = offset(text)
            && let Ok(offset) = Offset::from_seconds(seconds as i32)
        {
            return Ok(Self::Named(TimeZone::fixed(offset)));
        }
        TimeZone::get(text)
            .map(Self::Named)
            .map_err(|_| format!("must be a time zone such as UTC, +02:00 or Europe/Berlin, found '{text}'"))
    }

    fn type_name() -> Cow<'static, str> {
        "time zone".into()
    }
}

/// How much a reader forgives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The text is what the pattern says, no more and no less; a fraction of a second and an offset may follow seconds.
    Exact,
    /// As Java's lenient `SimpleDateFormat.parse`: any number of digits, values out of range carry over, more text may follow.
    AsJava,
}

/// A pattern in the notation of Java's `SimpleDateFormat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatePattern {
    text: String,
    parts: Vec<Part>,
    /// The same once more where every text of the pattern has one shape, which is nearly always.
    shape: Option<Shape>,
}

/// What all texts of a pattern such as `yyyy-MM-dd HH:mm:ss.SSS` have in common: where which digits stand, between the same
/// letters. Reading and writing is then a matter of places.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    /// The letters, and [`Self::DIGIT`] for each digit.
    bytes: Vec<u8>,
    /// Where each number begins.
    numbers: Vec<(usize, Unit)>,
}

impl Shape {
    /// Stands for a digit; no text holds this byte.
    const DIGIT: u8 = 0xff;

    /// The shape of these parts, where they have one.
    fn of(parts: &[Part]) -> Option<Self> {
        let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
        for part in parts {
            match part {
                Part::Literal(literal) => bytes.extend_from_slice(literal.as_bytes()),
                Part::Number { unit, width, .. } => {
                    if unit.usual_width() != Some(*width) {
                        return None;
                    }
                    numbers.push((bytes.len(), *unit));
                    bytes.extend(std::iter::repeat_n(Self::DIGIT, *width));
                }
                _ => return None,
            }
        }
        Some(Self { bytes, numbers })
    }

    /// Reads a text of exactly this shape; of any other nothing is said.
    fn read(&self, text: &str) -> Option<LocalTime> {
        let text = text.as_bytes();
        let fits =
            |(shape, byte): (&u8, &u8)| if *shape == Self::DIGIT { byte.is_ascii_digit() } else { shape == byte };
        if text.len() != self.bytes.len() || !self.bytes.iter().zip(text).all(fits) {
            return None;
        }
        let mut time = LocalTime::date(1970, 1, 1);
        for &(at, unit) in &self.numbers {
            let width = unit.usual_width()?;
            let number = text[at..at + width].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
            match unit {
                Unit::Year => time.year = number,
                Unit::Month => time.month = number,
                Unit::Day => time.day = number,
                Unit::Hour => time.hour = number,
                Unit::Minute => time.minute = number,
                Unit::Second => time.second = number,
                Unit::Fraction => time.millis = number,
                Unit::HourOfTwelve => return None,
            }
        }
        Some(time)
    }

    /// Appends a time of a year of four digits.
    fn format(&self, (year, month, day): (i64, i64, i64), of_day: i64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let text = &mut out[start..];
        let of_day = of_day as u32;
        for &(at, unit) in &self.numbers {
            let number = match unit {
                Unit::Year => year as u32,
                Unit::Month => month as u32,
                Unit::Day => day as u32,
                Unit::Hour | Unit::HourOfTwelve => of_day / 3_600_000,
                Unit::Minute => of_day / 60_000 % 60,
                Unit::Second => of_day / 1000 % 60,
                Unit::Fraction => of_day % 1000,
            };
            let digit = |n: u32| b'0' + (n % 10) as u8;
            let ones = [digit(number / 10), digit(number)];
            match unit {
                Unit::Year => {
                    text[at..at + 4].copy_from_slice(&[digit(number / 1000), digit(number / 100), ones[0], ones[1]]);
                }
                Unit::Fraction => text[at..at + 3].copy_from_slice(&[digit(number / 100), ones[0], ones[1]]),
                _ => text[at..at + 2].copy_from_slice(&ones),
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Number {
        unit: Unit,
        width: usize,
        next_is_number: bool,
    },
    MonthName {
        long: bool,
    },
    Weekday {
        long: bool,
    },
    AmPm,
    ZoneName,
    /// `+0100`
    Offset,
    /// `+01`, `+0100` or `+01:00`, by the number of letters; `Z` for none.
    IsoOffset(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Year,
    Month,
    Day,
    Hour,
    HourOfTwelve,
    Minute,
    Second,
    Fraction,
}

impl Unit {
    /// How many digits it has where their number never changes.
    fn usual_width(self) -> Option<usize> {
        match self {
            Self::Year => Some(4),
            Self::Fraction => Some(3),
            // Twelve stands for none.
            Self::HourOfTwelve => None,
            Self::Month | Self::Day | Self::Hour | Self::Minute | Self::Second => Some(2),
        }
    }
}

impl ConfigValue for DatePattern {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                if chars.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(c) => literal.push(c),
                        None => return Err(format!("has a quote that is not closed in the pattern '{text}'")),
                    }
                }
                continue;
            }
            if !c.is_ascii_alphabetic() {
                literal.push(c);
                continue;
            }
            let mut width = 1;
            while chars.next_if_eq(&c).is_some() {
                width += 1;
            }
            let number = |unit| Part::Number { unit, width, next_is_number: false };
            let part = match c {
                'y' => number(Unit::Year),
                'M' if width > 2 => Part::MonthName { long: width > 3 },
                'M' => number(Unit::Month),
                'd' => number(Unit::Day),
                'H' => number(Unit::Hour),
                'h' => number(Unit::HourOfTwelve),
                'm' => number(Unit::Minute),
                's' => number(Unit::Second),
                'S' => number(Unit::Fraction),
                'E' => Part::Weekday { long: width > 3 },
                'a' => Part::AmPm,
                'z' => Part::ZoneName,
                'Z' => Part::Offset,
                'X' if width <= 3 => Part::IsoOffset(width),
                _ => {
                    return Err(format!(
                        "has the letter '{c}' in the pattern '{text}', which is not supported: supported are \
                         y M d E H h a m s S z Z X, and any text between single quotes"
                    ));
                }
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            if let (Some(Part::Number { next_is_number, .. }), Part::Number { .. }) = (parts.last_mut(), &part) {
                *next_is_number = true;
            }
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if parts.is_empty() {
            return Err("must be a pattern such as yyyy-MM-dd HH:mm:ss, found nothing".to_owned());
        }
        Ok(Self { text: text.to_owned(), shape: Shape::of(&parts), parts })
    }

    fn type_name() -> Cow<'static, str> {
        "date pattern".into()
    }
}

impl DatePattern {
    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Reads a text.
    pub(crate) fn read(&self, text: &str, reading: Reading) -> Option<LocalTime> {
        match self.shape.as_ref().and_then(|shape| shape.read(text)) {
            Some(time) => (reading == Reading::AsJava || time.exists()).then_some(time),
            None => self.read_by_parts(text, reading),
        }
    }

    fn read_by_parts(&self, text: &str, reading: Reading) -> Option<LocalTime> {
        let mut time = LocalTime::date(1970, 1, 1);
        let mut pm = None;
        let mut rest = text;
        for part in &self.parts {
            rest = match part {
                Part::Literal(literal) => rest.strip_prefix(literal.as_str())?,
                Part::Number { unit, width, next_is_number } => {
                    let (number, digits, after) = read_number(rest, *width, *next_is_number, reading)?;
                    // Dates far beyond these have no use, and their milliseconds no place in 64 bits.
                    let number_max = match unit {
                        Unit::Year | Unit::Month => 100_000_000,
                        Unit::Fraction if reading == Reading::Exact => i64::MAX,
                        _ => 10_000_000_000,
                    };
                    if number > number_max {
                        return None;
                    }
                    match unit {
                        Unit::Year if *width <= 2 && digits == 2 => {
                            time.year = number + if number < 70 { 2000 } else { 1900 };
                        }
                        Unit::Year => time.year = number,
                        Unit::Month => time.month = number,
                        Unit::Day => time.day = number,
                        Unit::Hour => time.hour = number,
                        Unit::HourOfTwelve if reading == Reading::Exact && !(1..=12).contains(&number) => return None,
                        Unit::HourOfTwelve => time.hour = if number == 12 { 0 } else { number },
                        Unit::Minute => time.minute = number,
                        Unit::Second => time.second = number,
                        // Java takes the digits for a number of milliseconds, whatever stands before them.
                        Unit::Fraction if reading == Reading::AsJava => time.millis = number,
                        Unit::Fraction => time.millis = fraction_millis(&rest.as_bytes()[..digits]),
                    }
                    after
                }
                Part::MonthName { .. } => {
                    let (month, after) = read_name(rest, &MONTHS)?;
                    time.month = month + 1;
                    after
                }
                Part::Weekday { .. } => read_name(rest, &WEEKDAYS)?.1,
                Part::AmPm => {
                    let marker = rest.get(..2)?;
                    pm = Some(match marker {
                        _ if marker.eq_ignore_ascii_case("am") => false,
                        _ if marker.eq_ignore_ascii_case("pm") => true,
                        _ => return None,
                    });
                    &rest[2..]
                }
                Part::ZoneName | Part::Offset | Part::IsoOffset(_) => {
                    let (seconds, after) = read_zone(rest)?;
                    time.offset = Some(seconds);
                    after
                }
            };
        }
        if let Some(true) = pm {
            time.hour += 12;
        }
        if reading == Reading::AsJava {
            return Some(time);
        }
        if let Some(Part::Number { unit: Unit::Second | Unit::Fraction, .. }) = self.parts.last() {
            finish(rest.as_bytes(), &mut time)?;
            rest = "";
        }
        (rest.is_empty() && time.exists()).then_some(time)
    }

    /// Appends a time as text.
    pub(crate) fn format(&self, millis: i64, zone: &Zone, out: &mut String) {
        let offset = zone.offset_at(millis);
        let clock = millis + offset * 1000;
        let (days, of_day) = (clock.div_euclid(DAY_MILLIS), clock.rem_euclid(DAY_MILLIS));
        let date = json::civil_from_days(days);
        // Digits are put together as bytes: formatting each number in its own right costs several times as much.
        let mut bytes = std::mem::take(out).into_bytes();
        match &self.shape {
            Some(shape) if (0..=9999).contains(&date.0) => shape.format(date, of_day, &mut bytes),
            _ => self.format_by_parts(millis, (days, date, of_day), (zone, offset), &mut bytes),
        }
        *out = String::from_utf8(bytes).expect("texts and digits in a row are text");
    }

    /// Appends a time: its days since the epoch, their date, and the milliseconds of the day, on the clock of a zone that has
    /// this offset then.
    fn format_by_parts(
        &self,
        millis: i64,
        (days, (year, month, day), of_day): (i64, (i64, i64, i64), i64),
        (zone, offset): (&Zone, i64),
        bytes: &mut Vec<u8>,
    ) {
        let hour = of_day / 3_600_000;
        for part in &self.parts {
            match part {
                Part::Literal(literal) => bytes.extend_from_slice(literal.as_bytes()),
                Part::Number { unit: Unit::Year, width: 2, .. } => push_number(year.rem_euclid(100), 2, bytes),
                Part::Number { unit, width, .. } => {
                    let number = match unit {
                        Unit::Year => year,
                        Unit::Month => month,
                        Unit::Day => day,
                        Unit::Hour => hour,
                        Unit::HourOfTwelve => (hour + 11) % 12 + 1,
                        Unit::Minute => of_day / 60_000 % 60,
                        Unit::Second => of_day / 1000 % 60,
                        Unit::Fraction => of_day % 1000,
                    };
                    push_number(number, *width, bytes);
                }
                Part::MonthName { long } => {
                    bytes.extend_from_slice(name(MONTHS[month as usize - 1], *long).as_bytes());
                }
                Part::Weekday { long } => {
                    bytes.extend_from_slice(name(WEEKDAYS[(days + 3).rem_euclid(7) as usize], *long).as_bytes());
                }
                Part::AmPm => bytes.extend_from_slice(if hour < 12 { b"AM" } else { b"PM" }),
                Part::ZoneName => bytes.extend_from_slice(zone.name_at(millis).as_bytes()),
                Part::IsoOffset(_) if offset == 0 => bytes.push(b'Z'),
                Part::Offset | Part::IsoOffset(_) => {
                    bytes.push(if offset < 0 { b'-' } else { b'+' });
                    push_number(offset.abs() / 3600, 2, bytes);
                    if let Part::IsoOffset(3) = part {
                        bytes.push(b':');
                    }
                    if !matches!(part, Part::IsoOffset(1)) {
                        push_number(offset.abs() / 60 % 60, 2, bytes);
                    }
                }
            }
        }
    }
}

/// Appends a number with zeros in front up to a width, as `{number:0width$}`.
fn push_number(number: i64, width: usize, out: &mut Vec<u8>) {
    let digit = |n: i64| b'0' + (n % 10) as u8;
    match (number, width) {
        (0..=99, 2) => out.extend_from_slice(&[digit(number / 10), digit(number)]),
        (0..=999, 3) => out.extend_from_slice(&[digit(number / 100), digit(number / 10), digit(number)]),
        (0..=9999, 4) => {
            let digits = [digit(number / 1000), digit(number / 100), digit(number / 10), digit(number)];
            out.extend_from_slice(&digits);
        }
        _ => out.extend_from_slice(format!("{number:0width$}").as_bytes()),
    }
}

fn name(name: &str, long: bool) -> &str {
    if long { name } else { &name[..3] }
}

/// Reads digits: their number, how many there are, what follows.
fn read_number(text: &str, width: usize, next_is_number: bool, reading: Reading) -> Option<(i64, usize, &str)> {
    let text = if reading == Reading::AsJava { text.trim_start_matches([' ', '\t']) } else { text };
    let found = text.bytes().take_while(u8::is_ascii_digit).count();
    let digits = match reading {
        _ if next_is_number => width,
        Reading::AsJava => found,
        Reading::Exact if width > 1 => width,
        Reading::Exact => found,
    };
    // More than eighteen digits don't fit the number.
    if digits == 0 || digits > found || digits > 18 {
        return None;
    }
    let cut_short = digits < found && !next_is_number;
    if cut_short && reading == Reading::Exact {
        return None;
    }
    let number = text.bytes().take(digits).fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    Some((number, digits, &text[digits..]))
}

/// Reads a month's or weekday's name, long or short.
fn read_name<'a>(text: &'a str, names: &[&str]) -> Option<(i64, &'a str)> {
    let starts = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let (index, length) = names.iter().enumerate().find_map(|(index, name)| match () {
        () if starts(name) => Some((index, name.len())),
        () if starts(&name[..3]) => Some((index, 3)),
        () => None,
    })?;
    Some((index as i64, &text[length..]))
}

/// Reads a zone: `Z`, `UTC`, `GMT`, `GMT+01:00`, `+0100`, `+01:00`, `+01`.
fn read_zone(text: &str) -> Option<(i64, &str)> {
    for name in ["UTC", "GMT"] {
        if text.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            let rest = &text[3..];
            return Some(offset(rest).filter(|_| rest.starts_with(['+', '-'])).unwrap_or((0, rest)));
        }
    }
    offset(text)
}

/// Reads `Z`, `+01`, `+0100` or `+01:00`: seconds east of UTC, and what follows.
fn offset(text: &str) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'Z' | b'z' => return Some((0, &text[1..])),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = two(bytes, 1)?;
    let at = if bytes.get(3) == Some(&b':') { 4 } else { 3 };
    let (minutes, end) = two(bytes, at).map_or((0, 3), |minutes| (minutes, at + 2));
    (hours < 24 && minutes < 60).then(|| (sign * (hours * 3600 + minutes * 60), &text[end..]))
}

/// Two digits at `at`.
fn two(bytes: &[u8], at: usize) -> Option<i64> {
    match bytes.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

/// The first three of the digits after the point.
fn fraction_millis(digits: &[u8]) -> i64 {
    (0..3).fold(0, |millis, index| millis * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0')))
}

/// Reads what may follow seconds: nothing, a fraction, an offset, both.
fn finish(rest: &[u8], time: &mut LocalTime) -> Option<()> {
    let mut rest = rest;
    if let [b'.' | b',', after @ ..] = rest {
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        time.millis = fraction_millis(&after[..digits]);
        rest = &after[digits..];
    }
    if rest.is_empty() {
        return Some(());
    }
    let zone = rest.strip_prefix(b" ").unwrap_or(rest);
    let (seconds, end) = read_zone(std::str::from_utf8(zone).ok()?)?;
    time.offset = Some(seconds);
    end.is_empty().then_some(())
}

/// The patterns that [`parse_common`] reads.
pub(crate) const COMMON: &str = "yyyy-MM-dd'T'HH:mm:ss, yyyy-MM-dd HH:mm:ss, \"MM/dd/yyyy, HH:mm:ss\", yyyy-MM-dd";

/// Reads a text in one of the patterns of [`COMMON`], each tried where its separators are.
pub(crate) fn parse_common(text: &str) -> Option<LocalTime> {
    let bytes = text.as_bytes();
    let mut time;
    let clock = match (bytes.get(2), bytes.get(4)) {
        (_, Some(b'-')) => {
            if bytes.get(7) != Some(&b'-') {
                return None;
            }
            time = LocalTime::date(two(bytes, 0)? * 100 + two(bytes, 2)?, two(bytes, 5)?, two(bytes, 8)?);
            match bytes.get(10) {
                None => return time.exists().then_some(time),
                Some(b'T' | b' ') => 11,
                Some(_) => return None,
            }
        }
        (Some(b'/'), _) => {
            if bytes.get(5) != Some(&b'/') || bytes.get(10..12) != Some(b", ") {
                return None;
            }
            time = LocalTime::date(two(bytes, 6)? * 100 + two(bytes, 8)?, two(bytes, 0)?, two(bytes, 3)?);
            12
        }
        _ => return None,
    };
    if bytes.get(clock + 2) != Some(&b':') || bytes.get(clock + 5) != Some(&b':') {
        return None;
    }
    time.hour = two(bytes, clock)?;
    time.minute = two(bytes, clock + 3)?;
    time.second = two(bytes, clock + 6)?;
    finish(&bytes[clock + 8..], &mut time)?;
    time.exists().then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_list::TextList;
    use proptest::prelude::*;

    fn millis(pattern: &str, text: &str, reading: Reading) -> Option<i64> {
        DatePattern::parse(pattern).unwrap().read(text, reading)?.to_millis(&Zone::Utc)
    }

    fn formatted(pattern: &str, millis: i64, zone: &str) -> String {
        let mut text = String::new();
        DatePattern::parse(pattern).unwrap().format(millis, &Zone::parse(zone).unwrap(), &mut text);
        text
    }

    #[test]
    fn the_fast_reader_reads_what_its_patterns_read() {
        let patterns: Vec<_> =
            TextList::parse(COMMON).unwrap().0.iter().map(|text| DatePattern::parse(text).unwrap()).collect();
        let mut read = 0;
        for text in [
            "2020-02-29T23:59:59",
            "2019-02-29T00:00:00",
            "2020-02-29 23:59:59.5",
            "2020-02-29 23:59:59,123456Z",
            "2020-02-29T23:59:59+0200",
            "2020-02-29T23:59:59.1 -01:30",
            "02/29/2020, 23:59:59",
            "02/29/2020, 23:59:59Z",
            "2020-02-29",
            "2020-02-29Z",
            "2020-2-29",
            "02/29/2020",
            "2020-02-29T24:00:00",
            "2020-02-29T23:60:00",
            "20200229",
            "2020-02-29T23:59",
            "2020-02-29T23:59:59x",
            "2020-02-29T23:59:59.",
            "",
            "x",
            "2020-13-01",
            "2020-00-01",
            "2020-01-00",
            "2020/02/29, 23:59:59",
            "éé20-01-01",
            "2020-02-29\t23:59:59",
            "2020-02-29T23:59:5٩",
            "2020-02-29T23:59:59UTC",
        ] {
            let fast = parse_common(text);
            let slow = patterns.iter().find_map(|pattern| pattern.read(text, Reading::Exact));
            assert_eq!(fast, slow, "{text}");
            read += usize::from(fast.is_some());
        }
        assert_eq!(read, 9);
    }

    #[test]
    fn texts_are_read_by_pattern() {
        let exact = |pattern, text| millis(pattern, text, Reading::Exact);
        assert_eq!(exact("yyyy-MM-dd'T'HH:mm:ss.SSSX", "2020-08-28T03:52:47.123Z"), Some(1_598_586_767_123));
        assert_eq!(exact("EEE, d MMM yyyy hh:mm a", "Fri, 28 Aug 2020 03:52 pm"), Some(1_598_629_920_000));
        assert_eq!(exact("yyyyMMddHHmmss", "20200828035247"), Some(1_598_586_767_000));
        assert_eq!(exact("yyyy-MM-dd HH:mm z", "2020-08-28 03:52 GMT+01:00"), Some(1_598_583_120_000));
        assert_eq!(exact("dd.MM.yy", "28.08.20"), Some(1_598_572_800_000));
        assert_eq!(exact("yyyy-MM-dd", "2020-8-28"), None);
        assert_eq!(exact("yyyy-MM-dd", "2020-08-28x"), None);
        assert_eq!(exact("yyyy-MM-dd", "12020-08-28"), None);
    }

    #[test]
    fn java_forgives_more() {
        let java = |pattern, text| millis(pattern, text, Reading::AsJava);
        assert_eq!(java("yyyy-MM-dd", "2020-8-28 and more"), Some(1_598_572_800_000));
        assert_eq!(java("yyyy-MM-dd", "2020-07-59"), Some(1_598_572_800_000));
        assert_eq!(java("yyyy-MM-dd", "2019-20-28"), Some(1_598_572_800_000));
        assert_eq!(java("ss.SSS", "1.5"), Some(1005));
        assert_eq!(java("yyyy", "x"), None);
        assert_eq!(java("yyyy", "9999999999"), None);
        assert_eq!(java("HH", "99999999999999999999"), None);
    }

    #[test]
    fn times_are_written_by_pattern() {
        let time = 1_598_586_767_045;
        assert_eq!(formatted("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", time, "UTC"), "2020-08-28T03:52:47.045Z");
        assert_eq!(
            formatted("EEEE EEE d MMMM MMM yy h 'o''clock' a", time, "UTC"),
            "Friday Fri 28 August Aug 20 3 o'clock AM"
        );
        assert_eq!(formatted("HH:mm z Z X XX XXX", time, "Europe/Berlin"), "05:52 CEST +0200 +02 +0200 +02:00");
        assert_eq!(formatted("HH X", time, "-03:30"), "00 -03");
        assert_eq!(formatted("X", time, "UTC"), "Z");
        assert_eq!(formatted("yyyy-MM-dd HH", -1, "UTC"), "1969-12-31 23");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn a_pattern_with_a_shape_reads_and_writes_as_part_by_part(
            pattern in prop::sample::select(&[
                "yyyy-MM-dd HH:mm:ss",
                "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
                "yyyyMMddHHmmssSSS",
                "dd.MM.yyyy",
                "HH:mm 'é0' yyyy yyyy",
            ][..]),
            millis in prop_oneof![-62_135_596_800_000..253_402_300_800_000i64, -200_000_000_000_000..400_000_000_000_000i64],
            // Where a byte of a good text is changed, and what into.
            change in prop::option::of((0..40usize, "[0-9 :Zé-]{0,2}")),
        ) {
            let pattern = DatePattern::parse(pattern).unwrap();
            prop_assert!(pattern.shape.is_some());
            let by_parts = DatePattern { shape: None, ..pattern.clone() };
            for zone in [Zone::Utc, Zone::parse("Europe/Berlin").unwrap(), Zone::parse("-03:30").unwrap()] {
                let (mut text, mut expected) = ("before ".to_owned(), "before ".to_owned());
                pattern.format(millis, &zone, &mut text);
                by_parts.format(millis, &zone, &mut expected);
                prop_assert_eq!(&text, &expected);
                let mut text = text.split_off(7);
                if let Some((at, other)) = &change {
                    let at = text.floor_char_boundary(*at);
                    let end = text[at..].chars().next().map_or(at, |c| at + c.len_utf8());
                    text.replace_range(at..end, other);
                }
                for reading in [Reading::Exact, Reading::AsJava] {
                    prop_assert_eq!(pattern.read(&text, reading), by_parts.read(&text, reading), "{}", text);
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_as_the_library_writes_them() {
        for number in (-1100..11_000).chain([99_999, 10_000_000, -10_000_000]) {
            for width in 1..6 {
                let mut bytes = Vec::new();
                push_number(number, width, &mut bytes);
                assert_eq!(String::from_utf8(bytes).unwrap(), format!("{number:0width$}"));
            }
        }
    }

    #[test]
    fn mistakes_in_patterns_are_named() {
        assert_eq!(
            DatePattern::parse("YYYY-MM-dd").unwrap_err(),
            "has the letter 'Y' in the pattern 'YYYY-MM-dd', which is not supported: supported are y M d E H h a m s S z Z X, \
             and any text between single quotes"
        );
        assert_eq!(DatePattern::parse("yyyy'T").unwrap_err(), "has a quote that is not closed in the pattern 'yyyy'T'");
        assert_eq!(
            Zone::parse("Mars/Base").unwrap_err(),
            "must be a time zone such as UTC, +02:00 or Europe/Berlin, found 'Mars/Base'"
        );
    }

    #[test]
    fn a_zone_holds_for_times_without_an_offset() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let summer = parse_common("2020-08-28T05:52:47").unwrap();
        assert_eq!(summer.to_millis(&berlin), Some(1_598_586_767_000));
        let named = parse_common("2020-08-28T03:52:47Z").unwrap();
        assert_eq!(named.to_millis(&berlin), Some(1_598_586_767_000));
    }
}
