//! What DataFusion, Delta and the stores say, as errors that name the way out.

use std::error::Error as StdError;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;
use object_store::client::{HttpError, HttpErrorKind};
use ottla_api::{Error, ErrorKind};

/// What S3 calls a refusal of credentials.
const REFUSALS: &[&str] = &[
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// A failure of a store, while `doing` something with `place`.
pub(crate) fn from_store(error: object_store::Error, doing: &str, place: &str) -> Error {
    use object_store::Error as E;
    let doing = format!("{doing} {place}");
    if let Some(ours) = find::<Error>(&error) {
        return Error::new(ours.kind(), ours.to_string()).during(doing);
    }
    let said = answer(&error);
    let code = said.trim_start_matches([' ', '(']).split([':', ')']).next().unwrap_or_default();
    match code {
        "NoSuchBucket" => return Error::config("the bucket does not exist").during(doing),
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => {
            return Error::config(format!("the bucket is in another region, name it with --s3-region{said}"))
                .during(doing);
        }
        _ => {}
    }
    // A listing that is refused has no kind of its own.
    let refused = matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. }) || REFUSALS.contains(&code);
    match &error {
        _ if refused && is_remote(&error) => Error::refresh_auth(format!(
            "the store refuses these credentials{said}; they come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             or the other places where AWS's tools look"
        ))
        .during(doing),
        E::NotFound { .. } => Error::config("it does not exist").during(doing),
        _ => match find::<HttpError>(&error).map(HttpError::kind) {
            Some(HttpErrorKind::Connect | HttpErrorKind::Timeout | HttpErrorKind::Request) => {
                Error::unreachable("the store can't be reached").during(doing).caused_by(innermost(&error))
            }
            _ if is_remote(&error) => {
                Error::unreachable(format!("the store answers with a failure{said}")).during(doing)
            }
            _ => Error::fatal(doing).caused_by(error),
        },
    }
}

/// A failure to open a Delta table.
pub(crate) fn from_delta(error: DeltaTableError, place: &str) -> Error {
    let doing = "open the Delta table";
    if let Some(store) = find::<object_store::Error>(&error) {
        // Only the kind and the cause matter, and the original can't be taken out of its wrapping.
        if matches!(store, object_store::Error::NotFound { .. }) {
            return Error::config(format!("{doing} {place}: it does not exist"));
        }
        if let Some(ours) = find::<Error>(store) {
            return Error::new(ours.kind(), ours.to_string()).during(format!("{doing} {place}"));
        }
        let refused =
            matches!(store, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
        let kind = if refused { ErrorKind::RefreshAuth } else { ErrorKind::Unreachable };
        if is_remote(store) || find::<HttpError>(store).is_some() {
            return Error::new(kind, format!("{doing} {place}")).caused_by(innermost(store));
        }
    }
    match error {
        DeltaTableError::NotATable(_) | DeltaTableError::InvalidTableLocation(_) => no_table(place),
        DeltaTableError::InvalidVersion(version) => Error::config(format!("{place} has no version {version}")),
        error => Error::fatal(format!("{doing} {place}")).caused_by(error),
    }
}

/// Where there should be a Delta table.
pub(crate) fn no_table(place: &str) -> Error {
    Error::config(format!(
        "{place} is no Delta table; one has a folder _delta_log and versions, plain files have neither"
    ))
}

/// A failure of a query. `tables` are the names that it could have used.
pub(crate) fn from_datafusion(error: DataFusionError, tables: &[String]) -> Error {
    // Contexts, shared and collected errors wrap the one that says something.
    match error.find_root() {
        DataFusionError::SQL(error, _) => {
            let text = error.to_string();
            Error::config(text.strip_prefix("sql parser error: ").unwrap_or(&text).to_owned())
        }
        DataFusionError::SchemaError(error, _) => Error::config(match error.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: Vec<String> = valid_fields.iter().map(|field| field.flat_name()).collect();
                let bare: Vec<&str> = valid_fields.iter().map(|field| field.name.as_str()).collect();
                let same = bare.iter().find(|name| name.eq_ignore_ascii_case(&field.name) && **name != field.name);
                match same {
                    Some(name) => format!("there is no column {}; write \"{name}\", in double quotes", field.name),
                    None => unknown("column", &field.flat_name(), &names),
                }
            }
            error => error.to_string(),
        }),
        DataFusionError::Plan(text) => match missing_table(text) {
            Some(name) => Error::config(unknown("table", name, tables)),
            None => Error::config(without_prefix(text)),
        },
        DataFusionError::NotImplemented(text) => Error::config(format!("not supported: {text}")),
        DataFusionError::Configuration(text) => Error::config(text.clone()),
        DataFusionError::ResourcesExhausted(text) => Error::fatal(format!(
            "the query needs more memory than --memory-limit allows: {}",
            text.lines().next().unwrap_or_default()
        )),
        DataFusionError::Execution(text) => Error::fatal(text.clone()),
        DataFusionError::ArrowError(error, _) => Error::fatal(error.to_string()),
        root => {
            if let Some(store) = find::<object_store::Error>(root) {
                let missing = matches!(store, object_store::Error::NotFound { .. });
                if !missing && (is_remote(store) || find::<HttpError>(store).is_some()) {
                    return Error::unreachable("read the table's files").caused_by(innermost(store));
                }
            }
            match find::<Error>(root) {
                Some(ours) => Error::new(ours.kind(), ours.to_string()),
                None => Error::fatal(without_prefix(&root.strip_backtrace())),
            }
        }
    }
}

/// `there is no table 'pinn'; did you mean 'pin'? there are: geo, pin, user`.
fn unknown(what: &str, name: &str, known: &[String]) -> String {
    let plain = |name: &str| name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&plain(name), &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= 1 + plain(name).len() / 4)
        .min_by_key(|(distance, _)| *distance);
    let near = near.map_or(String::new(), |(_, near)| format!("; did you mean '{near}'?"));
    let are = if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) };
    let then = if near.is_empty() { ";" } else { "" };
    format!("there is no {what} '{name}'{near}{then} {are}")
}

/// DataFusion has no kind of error for a table that is not there, only this sentence.
fn missing_table(text: &str) -> Option<&str> {
    let name = text.strip_prefix("table '")?.strip_suffix("' not found")?;
    Some(name.strip_prefix("datafusion.public.").unwrap_or(name))
}

fn without_prefix(text: &str) -> String {
    let prefixes = ["Error during planning: ", "Execution error: ", "External error: ", "Arrow error: "];
    // An error is one line.
    prefixes.iter().fold(text, |text, prefix| text.strip_prefix(prefix).unwrap_or(text)).replace('\n', " ")
}

/// The first error of this type, from the outside in.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let cause = |error: &&'a (dyn StdError + 'static)| -> Option<&'a (dyn StdError + 'static)> {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    };
    std::iter::successors(Some(error), cause)
}

/// The innermost cause, as text: the wrappings of an HTTP client repeat each other.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

/// True for what an HTTP request came to. The type that says so is private to the library, its sentence is not.
fn is_remote(error: &object_store::Error) -> bool {
    chain(error).any(|error| error.to_string().contains("Error performing "))
}

/// What S3 said, by its code and sentence alone: the rest of the answer may hold what was signed.
fn answer(error: &(dyn StdError + 'static)) -> String {
    let text = chain(error).map(ToString::to_string).find(|text| text.contains("<Code>")).unwrap_or_default();
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!(" ({code}: {message})"),
        (Some(code), None) => format!(" ({code})"),
        _ => String::new(),
    }
}
