//! Dates and times as ISO 8601 text.

/// `2020-08-28` for days since the epoch.
pub fn iso_date(days: i32) -> String {
    let (year, month, day) = civil_from_days(days.into());
    format!("{year:04}-{month:02}-{day:02}")
}

/// `03:52:47`, with `.123` where there are milliseconds.
pub fn iso_time(millis: i32) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if millis != 0 {
        text.push_str(&format!(".{millis:03}"));
    }
    text
}

/// `2020-08-28T03:52:47Z`, with `.123` where there are milliseconds.
pub fn iso_timestamp(millis: i64) -> String {
    const DAY: i64 = 86_400_000;
    let (year, month, day) = civil_from_days(millis.div_euclid(DAY));
    let time = iso_time(millis.rem_euclid(DAY) as i32);
    format!("{year:04}-{month:02}-{day:02}T{time}Z")
}

/// The Gregorian year, month and day so many days after 1970-01-01 (Hinnant's `civil_from_days`).
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_iso_8601() {
        assert_eq!(iso_timestamp(1_598_586_767_000), "2020-08-28T03:52:47Z");
        assert_eq!(iso_timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(iso_date(0), "1970-01-01");
        assert_eq!(iso_date(-719_468), "0000-03-01");
    }
}
