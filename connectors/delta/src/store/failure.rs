//! What went wrong below a table, as our kinds of error.
//!
//! The libraries wrap each other's errors (Delta, its kernel, Parquet, the object store, HTTP), so the chain of causes is
//! searched for the one that tells what to do.

use std::error::Error as StdError;
use std::io;

use buoyant_kernel::Error as KernelError;
use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
pub(crate) use ottla_api::error::causes;
use ottla_api::prelude::*;

/// Where requests go, for messages.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The bucket; none for a folder.
    pub(crate) bucket: Option<String>,
    /// The endpoint, or the folder.
    pub(crate) endpoint: String,
}

/// The AWS credentials provider's complaint.
#[derive(Debug)]
pub(crate) struct NoCredentials(pub(crate) String);

impl std::fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for NoCredentials {}

/// Sorts any error that has a store's error somewhere in its chain of causes. One without is of the kind `otherwise`.
pub(crate) fn sort(error: &(dyn StdError + 'static), operation: &str, place: &Place, otherwise: ErrorKind) -> Error {
    let new = |kind, message: String| Error::new(kind, format!("{operation}: {message}"));
    if let Some(NoCredentials(said)) = find(error) {
        return new(ErrorKind::RefreshAuth, format!("no usable credentials: {said}"));
    }
    // Below a refused connection there is an io::Error too.
    if let Some(http) = find::<HttpError>(error)
        && http.kind() != HttpErrorKind::Decode
    {
        let said = match http.kind() {
            HttpErrorKind::Timeout => format!("no answer in time from {}", place.endpoint),
            _ => format!("{} can't be reached: {}", place.endpoint, causes(http)),
        };
        return new(ErrorKind::Unreachable, said);
    }
    if let Some(error) = find::<io::Error>(error) {
        return new(kind_of_io(error), causes(error)).with("path", &place.endpoint);
    }
    let store = find::<StoreError>(error);
    let answer = match store {
        Some(store) => Answer::of(causes(store)),
        // Some of the kernel's errors are the text of the store's.
        None if causes(error).contains("object store") => Answer::of(causes(error)),
        None => return new(otherwise, causes(error)),
    };
    let said = answer.said();
    let (kind, message) = match (answer.status, answer.code.as_deref().unwrap_or_default()) {
        (_, "NoSuchBucket") => {
            let (bucket, endpoint) = (place.bucket.as_deref().unwrap_or_default(), &place.endpoint);
            let message = format!("bucket '{bucket}' does not exist at {endpoint}; make it, or correct s3.bucket.name");
            return Error::config(message);
        }
        (_, "InvalidBucketName") => {
            let bucket = place.bucket.as_deref().unwrap_or_default();
            return Error::config(format!("'{bucket}' can't be the name of a bucket: {said}"));
        }
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") | (Some(301 | 307), _) => {
            (ErrorKind::Config, format!("{said}; check s3.region and store.url"))
        }
        (Some(401 | 403), _)
        | (_, "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired") => {
            (ErrorKind::RefreshAuth, format!("refused: {said}"))
        }
        (Some(501), _) => (ErrorKind::Config, format!("{} does not implement this: {said}", place.endpoint)),
        (Some(408 | 409 | 429 | 500..=599), _)
        | (_, "InternalError" | "SlowDown" | "ServiceUnavailable" | "RequestTimeout" | "RequestTimeTooSkewed") => {
            (ErrorKind::Retriable, said)
        }
        _ if answer.redirected => (ErrorKind::Config, format!("{said}; check s3.region and store.url")),
        _ => match store {
            Some(StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }) => {
                (ErrorKind::RefreshAuth, format!("refused: {said}"))
            }
            Some(StoreError::NotImplemented { .. } | StoreError::NotSupported { .. }) => (ErrorKind::Config, said),
            // Files of a table that are gone: the caller knows what that means for it.
            Some(StoreError::NotFound { .. }) => (otherwise, said),
            // Anything else that has no better name passes or does not; a table is never harmed by another attempt.
            _ => (ErrorKind::Retriable, said),
        },
    };
    let error = new(kind, message);
    match &place.bucket {
        Some(bucket) => error.with("bucket", bucket),
        None => error,
    }
}

/// What a store answered, as far as it can be told from the error's text: the client keeps the types to itself.
struct Answer {
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    redirected: bool,
    text: String,
}

impl Answer {
    fn of(text: String) -> Self {
        let status = text
            .split_once("non-2xx status code: ")
            .and_then(|(_, rest)| rest.get(..3))
            .and_then(|digits| digits.parse().ok());
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(content, _)| content.to_owned())
        };
        let redirected = text.contains("redirect without LOCATION");
        Self { status, code: element("Code"), message: element("Message"), redirected, text }
    }

    /// The answer in a few words.
    fn said(&self) -> String {
        let status = self.status.map(|status| format!(" (status {status})")).unwrap_or_default();
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("{code}: {message}{status}"),
            (Some(code), None) => format!("{code}{status}"),
            _ => self.text.clone(),
        }
    }
}

/// What a file system's failure makes the sink do.
fn kind_of_io(error: &io::Error) -> ErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory | Io::Unsupported | Io::InvalidFilename => {
            ErrorKind::Config
        }
        // A table's file that is gone comes back for nobody.
        Io::NotFound => ErrorKind::Fatal,
        // A person makes room or repairs the mount, and the work goes on.
        _ => ErrorKind::Retriable,
    }
}

/// The first error of a type in a chain of causes.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error shows its content's causes, not the content.
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref)
            && let Some(found) = inner.downcast_ref()
        {
            return Some(found);
        }
        cause = match error.downcast_ref::<KernelError>() {
            Some(kernel) => hidden_cause(kernel).or_else(|| error.source()),
            None => error.source(),
        };
    }
    None
}

/// What the kernel's errors print and don't give as their source.
fn hidden_cause(error: &KernelError) -> Option<&(dyn StdError + 'static)> {
    match error {
        KernelError::Backtraced { source, .. } => Some(source.as_ref()),
        KernelError::ObjectStore(cause) => Some(cause),
        KernelError::IOError(cause) => Some(cause),
        KernelError::Arrow(cause) => Some(cause),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { bucket: Some("lake".to_owned()), endpoint: "http://127.0.0.1:9000".to_owned() }
    }

    fn answer(text: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: text.into() }
    }

    #[test]
    fn answers_of_s3_have_their_kinds_and_ways_out() {
        let xml = |status: &str, code: &str, message: &str| {
            format!(
                "Error performing PUT http://127.0.0.1:9000/lake/x in 1ms - Server returned non-2xx status code: \
                 {status}: <Error><Code>{code}</Code><Message>{message}</Message></Error>"
            )
        };
        for (text, kind, message) in [
            (
                xml("404 Not Found", "NoSuchBucket", "The specified bucket does not exist"),
                ErrorKind::Config,
                "bucket 'lake' does not exist at http://127.0.0.1:9000; make it, or correct s3.bucket.name",
            ),
            (
                xml("403 Forbidden", "SignatureDoesNotMatch", "wrong"),
                ErrorKind::RefreshAuth,
                "write: refused: SignatureDoesNotMatch: wrong (status 403) (bucket=lake)",
            ),
            (
                xml("400 Bad Request", "ExpiredToken", "old"),
                ErrorKind::RefreshAuth,
                "write: refused: ExpiredToken: old (status 400) (bucket=lake)",
            ),
            (
                xml("503 Service Unavailable", "SlowDown", "slow"),
                ErrorKind::Retriable,
                "write: SlowDown: slow (status 503) (bucket=lake)",
            ),
            (
                xml("400 Bad Request", "AuthorizationHeaderMalformed", "expecting 'eu-west-1'"),
                ErrorKind::Config,
                "write: AuthorizationHeaderMalformed: expecting 'eu-west-1' (status 400); check s3.region and store.url \
                 (bucket=lake)",
            ),
        ] {
            let error = sort(&answer(&text), "write", &place(), ErrorKind::Fatal);
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, message));
        }
    }

    #[test]
    fn the_store_is_found_behind_the_kernel() {
        let slow = || answer("Server returned non-2xx status code: 503 Service Unavailable: <Code>SlowDown</Code>");
        let io = || KernelError::IOError(io::Error::from(io::ErrorKind::StorageFull));
        for error in
            [KernelError::ObjectStore(slow()), io(), KernelError::Generic(KernelError::from(slow()).to_string())]
        {
            let error = deltalake_core::DeltaTableError::from(error);
            assert_eq!(sort(&error, "read", &place(), ErrorKind::Fatal).kind(), ErrorKind::Retriable, "{error}");
        }
        let other = deltalake_core::DeltaTableError::NotATable("x".to_owned());
        assert_eq!(sort(&other, "read", &place(), ErrorKind::Fatal).kind(), ErrorKind::Fatal);
    }

    #[test]
    fn a_full_disk_is_waited_for_wherever_in_the_chain_it_is() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = StoreError::Generic { store: "folder", source: Box::new(full) };
        let folder = Place { bucket: None, endpoint: "/lake".to_owned() };
        assert_eq!(sort(&error, "write", &folder, ErrorKind::Fatal).kind(), ErrorKind::Retriable);
        let refused = StoreError::PermissionDenied {
            path: "x".to_owned(),
            source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
        };
        assert_eq!(sort(&refused, "write", &folder, ErrorKind::Fatal).kind(), ErrorKind::Config);
    }
}
