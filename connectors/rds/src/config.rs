//! The options of `rds-source`.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ottla_api::config::{ConfigValue, check_topic_name};
use ottla_api::prelude::*;

use crate::python_random::Seed;

/// The options of `rds-source`, parsed.
#[derive(Debug, Clone, Config)]
pub(crate) struct RdsSourceConfig {
    /// Where the rows are, and as whom to ask for them.
    #[config(flatten)]
    pub(crate) connection: Connection,
    /// How rows are picked: `emulate` (rows drawn at random, round after round) or `bulk` (each table once, in whole).
    #[config(name = "mode", importance = "high")]
    pub(crate) mode: Mode,
    /// Topic of each table to emulate: `emulate.topics.<table> = "<topic>"`. Every round yields one row of each table, in
    /// the order in which these are written.
    #[config(prefix = "emulate.topics.", importance = "high")]
    pub(crate) emulate_topics: Vec<(String, String)>,
    /// The seed of the draws. The same seed gives the same draws as Python's `random.seed`; another one starts anew.
    #[config(name = "emulate.seed", default = "100")]
    pub(crate) seed: Seed,
    /// The largest row number that may be drawn; 0 is the smallest.
    #[config(name = "emulate.draw.max", default = "11000", min = 0, max = 9007199254740991)]
    pub(crate) draw_max: u64,
    /// Time between rounds: `original` sleeps 0 or 1 second as drawn, `none` doesn't sleep, `N/s` makes N rounds a second.
    #[config(name = "emulate.pace", default = "original")]
    pub(crate) pace: Pace,
    /// The source ends after this many rounds, counted over all restarts; unset, it goes on for ever.
    #[config(name = "emulate.rounds")]
    pub(crate) rounds: Option<u64>,
    /// What a draw means: `offset` is the row that has so many rows before it, ordered by the key column; `key` is the row
    /// whose key column holds the drawn number. A row that doesn't exist is counted (`rows.missing`) and left out.
    #[config(name = "emulate.row", default = "offset")]
    pub(crate) row: RowChoice,
    /// The key column of a table: `emulate.key.<table> = "<column>"`. Default: its primary key, else its first column.
    #[config(prefix = "emulate.key.")]
    pub(crate) emulate_keys: Vec<(String, String)>,
    /// Mode `bulk`: the tables to read. Default: those with a `bulk.topics.` option; without any, all tables.
    #[config(name = "table.whitelist", aliases = "table.include.list, table.include")]
    pub(crate) table_whitelist: Option<Vec<String>>,
    /// Mode `bulk`, when reading all tables: those to leave out.
    #[config(name = "table.blacklist", aliases = "table.exclude.list, table.exclude")]
    pub(crate) table_blacklist: Option<Vec<String>>,
    /// Mode `bulk`: the topic of a table is this followed by the table's name.
    #[config(name = "topic.prefix")]
    pub(crate) topic_prefix: Option<String>,
    /// Mode `bulk`: the topic of one table, instead of prefix and name: `bulk.topics.<table> = "<topic>"`.
    #[config(prefix = "bulk.topics.")]
    pub(crate) bulk_topics: Vec<(String, String)>,
    /// The most rows in one batch. Where rows are large, fewer are read at once, so that a batch has about 4 MiB at most.
    #[config(name = "batch.max.rows", default = "2000", min = 1, max = 10000)]
    pub(crate) batch_max_rows: usize,
    /// How date and time are separated: `sql` as in `2020-08-28 03:52:47`, `iso` as in `2020-08-28T03:52:47`.
    #[config(name = "datetime.format", default = "sql")]
    pub(crate) datetime_format: DateTimeFormat,
}

/// Where a database is and how to log in.
#[derive(Debug, Clone, Config)]
pub(crate) struct Connection {
    /// The database: `emulator` (generated rows, nothing to install), `sqlite://PATH`, `mysql://HOST:PORT/DATABASE` (MariaDB
    /// too) or `postgres://HOST:PORT/DATABASE`. User and password may stand in it, but better in their own options.
    #[config(name = "connection.url", importance = "high")]
    pub(crate) url: DatabaseUrl,
    /// User to log in as.
    #[config(name = "connection.user")]
    pub(crate) user: Option<String>,
    /// The user's password.
    #[config(name = "connection.password")]
    pub(crate) password: Option<Secret>,
    /// Encryption towards MariaDB, MySQL and PostgreSQL: `disable`, `prefer` (where the server can), `require`, `verify-ca`
    /// or `verify-full` (certificate and host name). Default: what the URL says (`ssl-mode`, `sslmode`), else `prefer`.
    #[config(name = "connection.tls")]
    pub(crate) tls: Option<Tls>,
    /// File with the certificates (PEM) that `verify-ca` and `verify-full` trust beside the public ones. Managed databases
    /// have their provider's own.
    #[config(name = "connection.tls.ca")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// How long connecting may take, and how long a query, before the database counts as gone.
    #[config(name = "query.timeout.ms", default = "60000", min = 100)]
    pub(crate) timeout: Duration,
}

/// How rows are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum Mode {
    /// Rows drawn at random, round after round.
    Emulate,
    /// Each table once.
    Bulk,
}

/// What a draw means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum RowChoice {
    /// So many rows come before it.
    Offset,
    /// Its key column holds the number.
    Key,
}

/// What separates date and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum DateTimeFormat {
    /// A blank.
    Sql,
    /// A `T`.
    Iso,
}

impl DateTimeFormat {
    /// What it puts between date and time.
    pub(crate) fn separator(self) -> &'static str {
        match self {
            Self::Sql => " ",
            Self::Iso => "T",
        }
    }
}

/// Encryption of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ConfigValue)]
pub(crate) enum Tls {
    /// None.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always, with any certificate.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, with a certificate of a known authority for this host.
    VerifyFull,
}

/// Time between rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// The drawn 0 or 1 second before each round.
    Original,
    /// As fast as the records are taken.
    None,
    /// One round each time this has passed.
    Every(Duration),
}

impl ConfigValue for Pace {
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim() {
            "original" => Ok(Self::Original),
            "none" => Ok(Self::None),
            text => text
                .strip_suffix("/s")
                .and_then(|rate| rate.trim().parse::<f64>().ok())
                .filter(|rate| *rate > 0.0)
                .and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok())
                .map(Self::Every)
                .ok_or_else(|| format!("must be 'original', 'none' or a rate such as '5/s', found '{text}'")),
        }
    }

    fn type_name() -> Cow<'static, str> {
        "original, none or N/s".into()
    }
}

/// Where a database is. Prints without user and password (G8).
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum DatabaseUrl {
    /// The generated one.
    Emulator,
    /// One in a file, as sqlx reads it.
    Sqlite(String),
    /// MariaDB or MySQL.
    MySql(String),
    /// PostgreSQL.
    Postgres(String),
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            Self::Emulator => return f.write_str("emulator"),
            Self::Sqlite(url) | Self::MySql(url) | Self::Postgres(url) => url,
        };
        // Parameters go too: libpq's `password` may be one of them.
        let shown = url.split('?').next().unwrap_or(url);
        match (self, shown.split_once("://")) {
            // A password may hold an unescaped `@`, so the last one ends it; and a path doesn't hold any.
            (Self::MySql(_) | Self::Postgres(_), Some((scheme, rest))) => {
                write!(f, "{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
            }
            _ => f.write_str(shown),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl ConfigValue for DatabaseUrl {
    fn parse(text: &str) -> Result<Self, String> {
        // JDBC's own prefix says nothing that the rest doesn't.
        let url = text.trim();
        let url = url.strip_prefix("jdbc:").unwrap_or(url);
        if url == "emulator" {
            return Ok(Self::Emulator);
        }
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        let missing = |feature| Err(format!("this build can't talk to {feature}: it was built without that feature"));
        match scheme {
            "sqlite" if rest.trim_start_matches('/').is_empty() => {
                Err("must name a file after sqlite://, as in sqlite://pins.db".to_owned())
            }
            "sqlite" => Ok(Self::Sqlite(url.to_owned())),
            "mysql" | "mariadb" if !cfg!(feature = "mysql") => missing("mysql"),
            "postgres" | "postgresql" if !cfg!(feature = "postgres") => missing("postgres"),
            "mysql" | "mariadb" | "postgres" | "postgresql" if !rest.starts_with("//") || rest.len() == 2 => {
                Err(format!("must name a host after {scheme}://, as in {scheme}://127.0.0.1/pins"))
            }
            "mysql" | "mariadb" => Ok(Self::MySql(format!("mysql:{rest}"))),
            "postgres" | "postgresql" => Ok(Self::Postgres(format!("postgres:{rest}"))),
            // What was found isn't repeated: it may hold a password.
            _ => Err("must be 'emulator' or begin with sqlite://, mysql://, mariadb:// or postgres://".to_owned()),
        }
    }

    fn type_name() -> Cow<'static, str> {
        "url".into()
    }
}

impl RdsSourceConfig {
    /// What a single option's definition can't see.
    pub(crate) fn mistakes(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        match self.mode {
            Mode::Emulate => {
                if self.emulate_topics.is_empty() {
                    let example = "emulate.topics.pinterest_data = \"posts.pin\"";
                    let message = format!("mode emulate needs one for each table to read, such as {example}");
                    errors.push(ConfigError::new("emulate.topics.<table>", message));
                }
                for (table, _) in &self.emulate_keys {
                    if !self.emulate_topics.iter().any(|(emulated, _)| emulated == table) {
                        let message = format!("there is no emulate.topics.{table}, so this key would never be used");
                        errors.push(ConfigError::new(format!("emulate.key.{table}"), message));
                    }
                }
            }
            Mode::Bulk => {
                let listed = self.table_whitelist.as_deref().unwrap_or_default();
                let all = listed.is_empty() && self.bulk_topics.is_empty();
                let untitled = |table: &String| !self.bulk_topics.iter().any(|(titled, _)| titled == table);
                if self.topic_prefix.is_none() && (all || listed.iter().any(untitled)) {
                    let message = "mode bulk needs it, or a bulk.topics.<table> for each table";
                    errors.push(ConfigError::new("topic.prefix", message));
                }
                for (table, _) in self.bulk_topics.iter().filter(|_| !listed.is_empty()) {
                    if !listed.contains(table) {
                        let message = format!("{table} is not in table.whitelist, so this topic would never be used");
                        errors.push(ConfigError::new(format!("bulk.topics.{table}"), message));
                    }
                }
                if !all && self.table_blacklist.is_some() {
                    let message = "only makes sense when all tables are read, but some are named";
                    errors.push(ConfigError::new("table.blacklist", message));
                }
            }
        }
        let topics = [("emulate.topics.", &self.emulate_topics), ("bulk.topics.", &self.bulk_topics)];
        for (prefix, entries) in topics {
            for (table, topic) in entries {
                if let Err(message) = check_topic_name(topic) {
                    errors.push(ConfigError::new(format!("{prefix}{table}"), message));
                }
            }
        }
        errors
    }

    /// Mode `bulk`: the tables by name; nothing for all.
    pub(crate) fn bulk_tables(&self) -> Option<Vec<String>> {
        match self.table_whitelist.as_deref() {
            Some(listed @ [_, ..]) => Some(listed.to_vec()),
            _ if self.bulk_topics.is_empty() => None,
            _ => Some(self.bulk_topics.iter().map(|(table, _)| table.clone()).collect()),
        }
    }

    /// Mode `bulk`: the topic of a table.
    pub(crate) fn bulk_topic(&self, table: &str) -> String {
        match self.bulk_topics.iter().find(|(titled, _)| titled == table) {
            Some((_, topic)) => topic.clone(),
            None => format!("{}{table}", self.topic_prefix.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(properties: &[(&str, &str)]) -> Vec<String> {
        let properties = properties.iter().copied().collect();
        let mistakes = match RdsSourceConfig::from_properties(&properties) {
            Ok(config) => config.mistakes(),
            Err(errors) => errors.0,
        };
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    #[cfg(all(feature = "mysql", feature = "postgres"))]
    fn a_url_prints_without_user_and_password() {
        for (url, shown) in [
            ("mysql://me:secret@db.example:3306/pins?ssl-mode=REQUIRED", "mysql://db.example:3306/pins"),
            ("postgresql://me:p@ss@db.example/pins?password=secret", "postgres://db.example/pins"),
            ("jdbc:mariadb://db.example/pins", "mysql://db.example/pins"),
            ("sqlite:///var/lib/pins.db?mode=ro", "sqlite:///var/lib/pins.db"),
            ("emulator", "emulator"),
        ] {
            let url = DatabaseUrl::parse(url).unwrap();
            assert_eq!(format!("{url} {url:?}"), format!("{shown} {shown}"));
        }
    }

    #[test]
    #[cfg(all(feature = "mysql", feature = "postgres"))]
    fn a_wrong_url_says_what_is_expected_and_not_what_was_found() {
        for (url, message) in [
            ("oracle://me:secret@x", "must be 'emulator' or begin with sqlite://, mysql://, mariadb:// or postgres://"),
            ("mysql:", "must name a host after mysql://, as in mysql://127.0.0.1/pins"),
            ("sqlite://", "must name a file after sqlite://, as in sqlite://pins.db"),
        ] {
            assert_eq!(DatabaseUrl::parse(url).unwrap_err(), message);
        }
    }

    #[test]
    fn a_pace_is_a_word_or_a_rate() {
        assert_eq!(Pace::parse("original").unwrap(), Pace::Original);
        assert_eq!(Pace::parse("none").unwrap(), Pace::None);
        assert_eq!(Pace::parse("4/s").unwrap(), Pace::Every(Duration::from_millis(250)));
        assert_eq!(Pace::parse("0.5 /s").unwrap(), Pace::Every(Duration::from_secs(2)));
        for wrong in ["0/s", "-1/s", "fast", "5", "1e-300/s", "NaN/s"] {
            assert_eq!(
                Pace::parse(wrong).unwrap_err(),
                format!("must be 'original', 'none' or a rate such as '5/s', found '{wrong}'")
            );
        }
    }

    #[test]
    fn options_that_need_each_other_are_checked_together() {
        assert_eq!(
            mistakes(&[("connection.url", "emulator"), ("mode", "emulate"), ("emulate.key.pins", "id")]),
            [
                "emulate.topics.<table>: mode emulate needs one for each table to read, such as \
                 emulate.topics.pinterest_data = \"posts.pin\"",
                "emulate.key.pins: there is no emulate.topics.pins, so this key would never be used",
            ]
        );
        assert_eq!(
            mistakes(&[
                ("connection.url", "emulator"),
                ("mode", "bulk"),
                ("table.include.list", "a, b"),
                ("table.blacklist", "d"),
                ("bulk.topics.a", "topic-a"),
                ("bulk.topics.c", " "),
            ]),
            [
                "topic.prefix: mode bulk needs it, or a bulk.topics.<table> for each table",
                "bulk.topics.c: c is not in table.whitelist, so this topic would never be used",
                "table.blacklist: only makes sense when all tables are read, but some are named",
                "bulk.topics.c: must have 1 to 249 characters, only a to z, A to Z, digits, '.', '_' and '-', and not be '.' or \
                 '..', as a topic's name, found ' '",
            ]
        );
    }

    #[test]
    fn options_conform() {
        let example = [("connection.url", "emulator"), ("mode", "emulate"), ("emulate.topics.a", "t")];
        ottla_testkit::config_suite::check::<RdsSourceConfig>(&example.into_iter().collect());
    }

    #[test]
    fn mode_and_url_are_required() {
        assert_eq!(
            mistakes(&[]),
            ["connection.url: is required and has no default", "mode: is required and has no default"]
        );
    }
}
