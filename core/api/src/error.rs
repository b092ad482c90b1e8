//! What went wrong, and what that makes the caller do.
//!
//! The kind is for the machine: the runtime matches on it and nothing else. Message, context and cause are for the person
//! who reads the log. An error prints as one line, `message (key=value, ...): cause: cause`.

use std::fmt;

/// Shorthand used by every trait of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error makes its caller do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Try the same call again after a pause; nothing was lost. The runtime retries for ever with growing, jittered
    /// pauses and shows since when (Kafka Connect: `RetriableException`).
    Retriable,
    /// As [`Retriable`](Self::Retriable), because the other side can't be reached. A run that ends in this state exits
    /// with code 3.
    Unreachable,
    /// Credentials were refused or have expired: reload them, then try again. Never a reason to drop a record.
    RefreshAuth,
    /// One record can't be processed. `errors.tolerance` and the dead letter queue decide (Kafka Connect: `DataException`).
    PoisonRecord,
    /// The configuration can't work. Nothing but a change of the configuration helps; a run exits with code 2.
    Config,
    /// The task stops and says why; going on could lose or duplicate something.
    Fatal,
}

impl ErrorKind {
    /// True where the same call may succeed later as it is.
    pub fn is_retriable(self) -> bool {
        matches!(self, Self::Retriable | Self::Unreachable | Self::RefreshAuth)
    }
}

/// An error with its kind, what was being done, and what caused it.
/// ```
/// use ottla_api::prelude::*;
///
/// let read = || std::fs::read("/nowhere/offsets");
/// let error = read().or_error(ErrorKind::Retriable, "read offsets").unwrap_err().with("attempt", 3).during("start task");
/// assert!(error.is_retriable());
/// assert_eq!(
///     error.to_string(),
///     "start task: read offsets (attempt=3): No such file or directory (os error 2)"
/// );
/// ```
pub struct Error {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. The message is a phrase for a person: what was expected, what was found, the way out.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new(), source: None }
    }

    /// See [`ErrorKind::Retriable`].
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retriable, message)
    }

    /// See [`ErrorKind::Unreachable`].
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unreachable, message)
    }

    /// See [`ErrorKind::RefreshAuth`].
    pub fn refresh_auth(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::RefreshAuth, message)
    }

    /// See [`ErrorKind::PoisonRecord`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::PoisonRecord, message)
    }

    /// See [`ErrorKind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// See [`ErrorKind::Fatal`].
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }

    /// Adds a fact, such as `("object", key)`. Never a secret (G8).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of the message, as in `start task: read offsets: ..`.
    #[must_use]
    pub fn during(mut self, operation: impl fmt::Display) -> Self {
        self.message = format!("{operation}: {}", self.message);
        self
    }

    /// Replaces the kind, for a caller that knows better what follows from this error.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// True where the same call may succeed later as it is.
    pub fn is_retriable(&self) -> bool {
        self.kind.is_retriable()
    }

    /// Message, facts and the text of the cause.
    #[cfg(feature = "plugin")]
    pub(crate) fn parts(&self) -> (&str, &[(&'static str, String)], Option<String>) {
        (&self.message, &self.context, self.source.as_deref().map(|cause| causes(cause)))
    }

    /// The message alone, without context and causes.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (index, (name, value)) in self.context.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { " (" } else { ", " })?;
        }
        if !self.context.is_empty() {
            f.write_str(")")?;
        }
        let mut said = self.message.clone();
        let mut cause = self.source.as_deref().map(|error| error as &dyn std::error::Error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat their cause in their own message; a line that says everything twice reads badly.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The causes are part of the one-line form already.
        None
    }
}

/// Turns any error into ours, saying what was being done.
pub trait ResultExt<T> {
    /// Gives the error a kind and the operation that failed, as in `.or_error(ErrorKind::Fatal, "open state folder")`.
    fn or_error(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error + Send + Sync + 'static> ResultExt<T> for std::result::Result<T, E> {
    fn or_error(self, kind: ErrorKind, operation: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(kind, operation.to_string()).caused_by(error))
    }
}

/// An error of a library and its causes on one line; a cause that the text before it already quotes is left out.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_as_one_line_with_context_and_causes() {
        let cause = std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied");
        let error = Error::fatal("open lock file").with("path", "/x/lock").caused_by(cause).during("start worker");
        assert_eq!(error.to_string(), "start worker: open lock file (path=/x/lock): permission denied");
    }

    #[test]
    fn a_cause_that_is_already_said_is_not_repeated() {
        let error = Error::retriable("connect: refused").caused_by(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "connect: refused");
    }
}
