//! The stores' failures as our kinds of error.

use std::error::Error as StdError;
use std::io;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use ottla_api::error::causes;
use ottla_api::prelude::*;

/// A file system's failure.
pub(crate) fn from_io(error: io::Error, operation: &str, path: &std::path::Path) -> Error {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        // A person makes room or repairs the mount, and the work goes on.
        Io::StorageFull | Io::QuotaExceeded | Io::Interrupted | Io::TimedOut | Io::StaleNetworkFileHandle => {
            ErrorKind::Retriable
        }
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory | Io::Unsupported | Io::InvalidFilename => {
            ErrorKind::Config
        }
        _ => ErrorKind::Fatal,
    };
    Error::new(kind, operation).with("path", path.display()).caused_by(error)
}

/// What S3 said, as far as the sink goes different ways.
#[derive(Debug)]
pub(crate) enum S3Failure {
    /// 412: the object exists.
    Exists,
    /// 409: another request for the same object was being decided.
    Conflict,
    /// 404 for an object, or for an upload.
    Missing,
    /// 416: the object has no such bytes.
    OutOfRange,
    /// Everything else, for the caller.
    Other(Error),
}

/// Sorts an S3 client's error. `place` is the bucket and the endpoint, for messages.
pub(crate) fn from_s3<E>(error: SdkError<E, HttpResponse>, operation: &str, place: &Place) -> S3Failure
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
{
    let new = |kind, message: String| Error::new(kind, format!("{operation}: {message}"));
    if let Some(credentials) = credentials_error(&error) {
        return S3Failure::Other(new(ErrorKind::RefreshAuth, format!("no usable credentials: {credentials}")));
    }
    let service = match error {
        SdkError::ServiceError(service) => service,
        SdkError::TimeoutError(_) => {
            return S3Failure::Other(new(ErrorKind::Unreachable, format!("no answer in time from {}", place.endpoint)));
        }
        SdkError::DispatchFailure(failure) => {
            let kind = if failure.is_user() { ErrorKind::Fatal } else { ErrorKind::Unreachable };
            let cause = failure.as_connector_error().map(|error| causes(error)).unwrap_or_default();
            return S3Failure::Other(new(kind, format!("{} can't be reached: {cause}", place.endpoint)));
        }
        SdkError::ConstructionFailure(failure) => {
            return S3Failure::Other(new(ErrorKind::Fatal, causes(&SdkError::<E>::ConstructionFailure(failure))));
        }
        other => return S3Failure::Other(new(ErrorKind::Retriable, causes(&other))),
    };
    let status = service.raw().status().as_u16();
    let code = service.err().code().unwrap_or_default().to_owned();
    let text = service.err().message().unwrap_or_default();
    let said = match (code.as_str(), text) {
        ("", "") => format!("status {status}"),
        (code, "") => format!("{code} (status {status})"),
        (code, text) => format!("{code}: {text} (status {status})"),
    };
    match (status, code.as_str()) {
        (412, _) | (_, "PreconditionFailed") => S3Failure::Exists,
        (409, _) | (_, "ConditionalRequestConflict" | "OperationAborted") => S3Failure::Conflict,
        (_, "NoSuchBucket") => {
            let (bucket, endpoint) = (&place.bucket, &place.endpoint);
            let message = format!("bucket '{bucket}' does not exist at {endpoint}; make it, or correct s3.bucket.name");
            S3Failure::Other(Error::config(message))
        }
        (_, "InvalidBucketName") => {
            let message = format!("'{}' can't be the name of a bucket: {said}", place.bucket);
            S3Failure::Other(Error::config(message))
        }
        (404, _) => S3Failure::Missing,
        (416, _) => S3Failure::OutOfRange,
        (501, _) => {
            S3Failure::Other(new(ErrorKind::Config, format!("{} does not implement this: {said}", place.endpoint)))
        }
        (_, "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed") | (301 | 307, _) => {
            let region = service.raw().headers().get("x-amz-bucket-region");
            let hint = region.map_or_else(
                || "check s3.region and store.url".to_owned(),
                |region| format!("the bucket is in region {region}; set s3.region to it"),
            );
            S3Failure::Other(new(ErrorKind::Config, format!("{said}; {hint}")).with("bucket", &place.bucket))
        }
        (401 | 403, _) | (_, "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired") => {
            S3Failure::Other(new(ErrorKind::RefreshAuth, format!("refused: {said}")).with("bucket", &place.bucket))
        }
        // A 200 whose body says that it went wrong arrives here with its code.
        (408 | 429 | 500..=599, _)
        | (
            _,
            "InternalError"
            | "SlowDown"
            | "ServiceUnavailable"
            | "RequestTimeout"
            | "RequestTimeTooSkewed"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "BadDigest"
            | "IncompleteBody",
        ) => S3Failure::Other(new(ErrorKind::Retriable, said)),
        _ => S3Failure::Other(new(ErrorKind::Fatal, said).with("bucket", &place.bucket)),
    }
}

impl S3Failure {
    /// The failure as an error, where the caller has no other way to go.
    pub(crate) fn into_error(self, operation: &str) -> Error {
        match self {
            Self::Other(error) => error,
            Self::Conflict => Error::retriable(format!("{operation}: another request for the same object is going on")),
            Self::Exists => Error::fatal(format!("{operation}: unexpectedly refused because the object exists")),
            Self::Missing => Error::fatal(format!("{operation}: there is no such object")),
            Self::OutOfRange => Error::fatal(format!("{operation}: the object has no such bytes")),
        }
    }
}

/// Where requests go.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) endpoint: String,
}

/// The credentials provider's complaint, wherever in the chain of causes it is.
fn credentials_error(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(credentials) = error.downcast_ref::<CredentialsError>() {
            return Some(causes(credentials));
        }
        cause = error.source();
    }
    None
}
