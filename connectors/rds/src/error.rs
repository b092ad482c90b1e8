//! What a database's failures make the runtime do.
//!
//! | Failure | Kind | So that |
//! |---|---|---|
//! | nobody listens, connection lost, server starting or stopping, too many connections | unreachable | it is tried again |
//! | wrong user or password, missing rights | refresh auth | it is tried again, the reason in sight |
//! | lock timeout, deadlock, file locked | retriable | it is tried again |
//! | database, table or column doesn't exist | config | the task fails at once and says so |
//! | everything else | fatal | the task fails rather than guess |

use std::path::Path;

use ottla_api::{Error, ErrorKind};
use sqlx::error::DatabaseError;

/// Turns a failure into ours. `doing` says what was tried, `address` where, without secrets (G8).
pub(crate) fn from_sqlx(error: sqlx::Error, doing: &str, address: &str) -> Error {
    let (kind, message) = classify(&error);
    let error = Error::new(kind, format!("{doing}: {message}"));
    error.with("database", address)
}

/// The failure's kind, and its message for a person.
fn classify(error: &sqlx::Error) -> (ErrorKind, String) {
    use ErrorKind::{Config, Fatal, Unreachable};
    match error {
        sqlx::Error::Database(error) => classify_answer(error.as_ref()),
        // How a refused certificate comes out.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            (Unreachable, format!("no encrypted connection: {error}; see connection.tls.ca"))
        }
        sqlx::Error::Io(error) => (Unreachable, format!("the database can't be reached: {error}")),
        sqlx::Error::PoolTimedOut => (Unreachable, "the database can't be reached in time".to_owned()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
            (Unreachable, format!("the connection is gone: {error}"))
        }
        // A server that goes down in the middle of an answer.
        sqlx::Error::Protocol(message) => (Unreachable, format!("the connection broke: {message}")),
        // May be a wrong certificate, may be a server that stops in the middle of the handshake: nobody can tell.
        sqlx::Error::Tls(error) => (Unreachable, format!("no encrypted connection: {error}; see connection.tls")),
        sqlx::Error::Configuration(error) => (Config, format!("connection.url: {error}")),
        error => (Fatal, error.to_string()),
    }
}

/// What the database itself answered.
fn classify_answer(error: &dyn DatabaseError) -> (ErrorKind, String) {
    let message = error.message();
    #[cfg(feature = "mysql")]
    if let Some(error) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return (mysql_kind(error.number()), format!("{message} (error {})", error.number()));
    }
    #[cfg(feature = "postgres")]
    if let Some(error) = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
        return (postgres_kind(error.code()), format!("{message} (SQLSTATE {})", error.code()));
    }
    let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
    (sqlite_kind(code, message), format!("{message} (SQLite error {code})"))
}

/// Server error numbers of MariaDB and MySQL.
#[cfg(feature = "mysql")]
fn mysql_kind(number: u16) -> ErrorKind {
    match number {
        // Too many connections, shutting down, host blocked, killed, gone away, lost.
        1040 | 1053 | 1077 | 1079 | 1129 | 1130 | 1152..=1161 | 1203 | 1226 | 1317 | 1927 | 2002..=2013 | 4031 => {
            ErrorKind::Unreachable
        }
        // Access denied, to the server, a database, a table, a column; expired password; account locked.
        1044 | 1045 | 1142 | 1143 | 1227 | 1251 | 1698 | 1820 | 1862 | 3118 | 4151 => ErrorKind::RefreshAuth,
        // Unknown database, table, column.
        1046 | 1049 | 1051 | 1054 | 1109 | 1146 => ErrorKind::Config,
        // Lock wait timeout, deadlock, record changed, query timeout.
        1020 | 1205 | 1213 | 1969 | 3024 => ErrorKind::Retriable,
        _ => ErrorKind::Fatal,
    }
}

/// PostgreSQL's SQLSTATE codes.
#[cfg(feature = "postgres")]
fn postgres_kind(code: &str) -> ErrorKind {
    match code {
        "3D000" | "3F000" | "42P01" | "42703" => ErrorKind::Config,
        "42501" => ErrorKind::RefreshAuth,
        // A prepared statement met a changed table: it is prepared anew the next time.
        "0A000" | "55P03" | "57014" => ErrorKind::Retriable,
        _ => match &code[..code.len().min(2)] {
            "08" | "53" | "57" | "58" => ErrorKind::Unreachable,
            "28" => ErrorKind::RefreshAuth,
            "40" => ErrorKind::Retriable,
            _ => ErrorKind::Fatal,
        },
    }
}

/// SQLite's result codes; the low byte is the primary one.
fn sqlite_kind(code: u32, message: &str) -> ErrorKind {
    match code & 0xff {
        5 | 6 => ErrorKind::Retriable,
        // I/O error, full, can't open.
        10 | 13 | 14 => ErrorKind::Unreachable,
        // It has no codes of their own for these.
        1 if message.starts_with("no such table") || message.starts_with("no such column") => ErrorKind::Config,
        17 => ErrorKind::Retriable,
        26 => ErrorKind::Config,
        _ => ErrorKind::Fatal,
    }
}

/// An error for a name that doesn't exist: says what exists, and which of that is nearest.
pub(crate) fn unknown_name(what: &str, name: &str, place: &str, existing: &[String]) -> Error {
    let nearest = existing
        .iter()
        .map(|other| (strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= name.len().max(other.len()) / 3)
        .min();
    let mut message = format!("there is no {what} '{name}' in {place}");
    if let Some((_, nearest)) = nearest {
        message.push_str(&format!("; did you mean '{nearest}'?"));
    }
    // A database may have thousands.
    const SHOWN: usize = 30;
    if existing.is_empty() {
        message.push_str(&format!("; there is no {what} at all"));
    } else {
        let more = if existing.len() > SHOWN { format!(" and {} more", existing.len() - SHOWN) } else { String::new() };
        let shown = existing.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        message.push_str(&format!("; there are: {shown}{more}"));
    }
    Error::config(message)
}

/// An error for a file of ours.
pub(crate) fn from_io(error: std::io::Error, doing: &str, path: &Path) -> Error {
    // A full or vanished disk may come back.
    Error::retriable(doing.to_owned()).with("path", path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_what_exists() {
        let tables = ["geolocation_data", "pinterest_data", "user_data"].map(str::to_owned);
        assert_eq!(
            unknown_name("table", "Pintrest_data", "sqlite://pins.db", &tables).to_string(),
            "there is no table 'Pintrest_data' in sqlite://pins.db; did you mean 'pinterest_data'?; \
             there are: geolocation_data, pinterest_data, user_data"
        );
        assert_eq!(
            unknown_name("table", "orders", "emulator", &[]).to_string(),
            "there is no table 'orders' in emulator; there is no table at all"
        );
        let many: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
        assert!(unknown_name("table", "orders", "x", &many).to_string().ends_with("t28, t29 and 70 more"));
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn postgres_codes_have_kinds() {
        for (code, kind) in [
            ("28P01", ErrorKind::RefreshAuth),
            ("57P01", ErrorKind::Unreachable),
            ("57P03", ErrorKind::Unreachable),
            ("53300", ErrorKind::Unreachable),
            ("42P01", ErrorKind::Config),
            ("3D000", ErrorKind::Config),
            ("40P01", ErrorKind::Retriable),
            ("22012", ErrorKind::Fatal),
        ] {
            assert_eq!(postgres_kind(code), kind, "{code}");
        }
    }

    #[test]
    #[cfg(feature = "mysql")]
    fn mysql_numbers_have_kinds() {
        for (number, kind) in [
            (1045, ErrorKind::RefreshAuth),
            (1049, ErrorKind::Config),
            (1146, ErrorKind::Config),
            (1053, ErrorKind::Unreachable),
            (1213, ErrorKind::Retriable),
            (1064, ErrorKind::Fatal),
        ] {
            assert_eq!(mysql_kind(number), kind, "{number}");
        }
    }
}
