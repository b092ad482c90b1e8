//! The failures of Kinesis as our kinds of error.

use std::error::Error as StdError;
use std::fmt::Debug;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use ottla_api::error::causes;
use ottla_api::prelude::*;

/// What went wrong, as far as the callers go different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Too much for the moment: of a shard's throughput, of calls, of consumers.
    Throttled,
    /// The iterator is older than five minutes.
    ExpiredIterator,
    /// The stream, the shard or the consumer is not there.
    NotFound,
    /// Somebody is using it, or it is being changed.
    InUse,
    /// An argument makes no sense to the server.
    InvalidArgument,
    /// No answer, or a server's failure: what was asked for may have happened or not.
    Unsure,
    /// The server was not reached at all.
    Unreachable,
    /// Anything else; the error's kind says what follows.
    Other,
}

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the machine.
    pub(crate) what: What,
    /// For the person, and for the runtime.
    pub(crate) error: Error,
}

impl Failure {
    fn new(what: What, kind: ErrorKind, message: String) -> Self {
        Self { what, error: Error::new(kind, message) }
    }

    /// True where the same call may succeed later.
    pub(crate) fn is_retriable(&self) -> bool {
        self.error.is_retriable() && self.error.kind() != ErrorKind::RefreshAuth
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// Sorts the error of a call. `place` is the endpoint, for messages.
pub(crate) fn from_sdk<E, R>(error: SdkError<E, R>, operation: &str, place: &str) -> Failure
where
    E: StdError + ProvideErrorMetadata + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    let new = |what, kind, message: String| Failure::new(what, kind, format!("{operation}: {message}"));
    if let Some(credentials) = credentials_error(&error) {
        return new(What::Other, ErrorKind::RefreshAuth, format!("no usable credentials: {credentials}"));
    }
    let service = match error {
        SdkError::ServiceError(service) => service.into_err(),
        SdkError::TimeoutError(_) => {
            return new(What::Unsure, ErrorKind::Unreachable, format!("no answer in time from {place}"));
        }
        SdkError::DispatchFailure(failure) => {
            let connector = failure.as_connector_error();
            let cause = connector.map(|error| causes(error)).unwrap_or_default();
            if failure.is_user() {
                return new(What::Other, ErrorKind::Fatal, cause);
            }
            // A connection that was never made has carried nothing; one that broke may have carried everything.
            let refused = cause.contains("refused") || cause.contains("dns error");
            let what = if refused { What::Unreachable } else { What::Unsure };
            return new(what, ErrorKind::Unreachable, format!("{place} can't be reached: {cause}"));
        }
        SdkError::ConstructionFailure(_) => return new(What::Other, ErrorKind::Fatal, causes(&error)),
        other => return new(What::Unsure, ErrorKind::Retriable, causes(&other)),
    };
    let code = service.code().unwrap_or_default();
    let said = match (code, service.message().unwrap_or_default()) {
        ("", "") => service.to_string(),
        (code, "") => code.to_owned(),
        ("", text) => text.to_owned(),
        (code, text) => format!("{code}: {text}"),
    };
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException" => new(What::Throttled, ErrorKind::Retriable, said),
        "ExpiredIteratorException" => new(What::ExpiredIterator, ErrorKind::Retriable, said),
        "ResourceNotFoundException" => {
            new(What::NotFound, ErrorKind::Config, format!("{said} (at {place}; check the name and kinesis.region)"))
        }
        "ResourceInUseException" => new(What::InUse, ErrorKind::Retriable, said),
        "InvalidArgumentException" | "ValidationException" | "SerializationException" => {
            new(What::InvalidArgument, ErrorKind::Fatal, said)
        }
        "AccessDeniedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "KMSAccessDeniedException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        | "UnrecognizedClientException" => new(What::Other, ErrorKind::RefreshAuth, format!("refused: {said}")),
        "KMSDisabledException" | "KMSInvalidStateException" | "KMSNotFoundException" | "KMSOptInRequired" => {
            new(What::Other, ErrorKind::Config, format!("the stream's encryption key: {said}"))
        }
        "UnknownOperationException" | "NotImplemented" => {
            new(What::Other, ErrorKind::Config, format!("{place} does not offer this: {said}"))
        }
        // A server's failure, or an answer that has no code at all: from a gateway or a proxy on the way.
        _ => new(What::Unsure, ErrorKind::Retriable, said),
    }
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
