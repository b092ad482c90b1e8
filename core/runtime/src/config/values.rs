//! Values of the worker's options that are more than text: each is checked when the file is read.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use ottla_api::config::ConfigValue;

/// When a run ends by itself: the value of `run.until` and of `--until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunUntil {
    /// `caught-up`: bounded sources have finished, and the sinks have made everything durable.
    CaughtUp,
    /// After a time such as `30s`.
    Elapsed(Duration),
}

impl ConfigValue for RunUntil {
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "caught-up" {
            return Ok(Self::CaughtUp);
        }
        let wrong = |_| format!("must be caught-up or a time such as 30s, 5m or 2h, found '{text}'");
        parse_time(text).map(Self::Elapsed).map_err(wrong)
    }

    fn type_name() -> Cow<'static, str> {
        "caught-up or a time".into()
    }
}

/// Reads a time as people write it: `500ms`, `30s`, `5m`, `2h`, `1d`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a time such as 500ms, 30s, 5m or 2h, found '{text}'");
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let number: f64 = text[..unit_at].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit_at..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// The address of a listener that does not ask who calls: loopback only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopbackAddress(String);

impl ConfigValue for LoopbackAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}, found '{text}'");
        let address: SocketAddr =
            text.trim().parse().map_err(|_| wrong("must be an address and a port such as 127.0.0.1:9464"))?;
        if !address.ip().is_loopback() {
            return Err(wrong("must be a loopback address, because the listener does not ask who calls"));
        }
        Ok(Self(address.to_string()))
    }

    fn type_name() -> Cow<'static, str> {
        "address:port".into()
    }
}

impl Deref for LoopbackAddress {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_people_write_them() {
        assert_eq!(RunUntil::parse("caught-up"), Ok(RunUntil::CaughtUp));
        assert_eq!(RunUntil::parse("1.5s"), Ok(RunUntil::Elapsed(Duration::from_millis(1500))));
        assert_eq!(parse_time("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "5", "s", "-1s", "caughtup", "1 parsec"] {
            assert!(RunUntil::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        assert_eq!(&*LoopbackAddress::parse("127.0.0.1:9464").unwrap(), "127.0.0.1:9464");
        assert_eq!(&*LoopbackAddress::parse("[::1]:0").unwrap(), "[::1]:0");
        let error = LoopbackAddress::parse("0.0.0.0:9464").unwrap_err();
        assert!(error.starts_with("must be a loopback address"), "{error}");
        for wrong in ["", "9464", "localhost:9464"] {
            let error = LoopbackAddress::parse(wrong).unwrap_err();
            assert_eq!(error, format!("must be an address and a port such as 127.0.0.1:9464, found '{wrong}'"));
        }
    }
}
