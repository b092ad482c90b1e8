//! Guards: what values must look like before they may enter a topic or a stream.

use std::fmt::Write as _;

use bytes::Bytes;
use jsonschema::Validator;
use ottla_api::{Error, Result};
use ottla_runtime::config::{GatewayConfig, Requirement};

use crate::body::{self, Object, Unreadable};

/// How many of a schema's complaints are answered.
const COMPLAINTS_MAX: usize = 5;

/// All guards of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Guards(Vec<Guard>);

#[derive(Debug)]
struct Guard {
    requirement: Requirement,
    schema: Option<Validator>,
}

impl Guards {
    /// Reads and compiles the schemas. They may refer to parts of themselves, and to nothing else.
    ///
    /// # Errors
    ///
    /// A schema that can't be read or is none, with its key.
    pub(crate) fn build(config: &GatewayConfig) -> Result<Self> {
        let (requirements, mistakes) = config.requirements();
        if let Some((key, message)) = mistakes.first() {
            return Err(Error::config(format!("gateway.{key}: {message}")));
        }
        let guards = requirements.into_iter().map(|requirement| {
            let schema = requirement.schema.as_deref().map(|text| {
                compile(text).map_err(|error| error.during(format!("gateway.require.{}.schema", requirement.name)))
            });
            Ok(Guard { schema: schema.transpose()?, requirement })
        });
        Ok(Self(guards.collect::<Result<_>>()?))
    }

    /// Checks a value, compact JSON text, that is to enter this topic or stream. The error says what is wrong, and never
    /// shows the value.
    pub(crate) fn check(&self, name: &str, value: &Bytes) -> std::result::Result<(), String> {
        for guard in self.0.iter().filter(|guard| guard.requirement.covers(name)) {
            guard.fields(name, value)?;
            guard.schema(name, value)?;
        }
        Ok(())
    }

    /// True where values of this topic or stream are looked at.
    pub(crate) fn cover(&self, name: &str) -> bool {
        self.0.iter().any(|guard| guard.requirement.covers(name))
    }
}

impl Guard {
    fn fields(&self, name: &str, value: &Bytes) -> std::result::Result<(), String> {
        let fields = &self.requirement.fields;
        if fields.is_empty() {
            return Ok(());
        }
        let object = Object::parse(value).map_err(|error| match error {
            Unreadable::Other(kind) => format!("'{name}' takes objects with {}, found {kind}", fields.join(", ")),
            Unreadable::NotJson(message) => message,
        })?;
        let missing = fields.iter().filter(|field| object.get(field).is_none()).map(String::as_str).collect::<Vec<_>>();
        match &missing[..] {
            [] => Ok(()),
            [one] => Err(format!("field '{one}' is missing; '{name}' requires {}", fields.join(", "))),
            many => Err(format!("fields {} are missing; '{name}' requires {}", many.join(", "), fields.join(", "))),
        }
    }

    fn schema(&self, name: &str, value: &Bytes) -> std::result::Result<(), String> {
        let Some(schema) = &self.schema else { return Ok(()) };
        // Only here is a tree built: the schema looks at every part of it.
        let value =
            serde_json::from_slice(value).map_err(|error| format!("can't be held against a schema: {error}"))?;
        let mut errors = schema.iter_errors(&value);
        let mut message = String::new();
        for error in errors.by_ref().take(COMPLAINTS_MAX) {
            let separator = if message.is_empty() { "" } else { "; " };
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            let _ = write!(message, "{separator}{place}{}", error.masked());
        }
        if message.is_empty() {
            return Ok(());
        }
        let more = errors.count();
        if more > 0 {
            let _ = write!(message, "; and {more} more");
        }
        Err(format!("{message} (the schema of '{name}')"))
    }
}

fn compile(text: &str) -> Result<Validator> {
    let (text, place) = if text.starts_with('{') {
        (text.to_owned(), "the schema written there".to_owned())
    } else {
        let text = std::fs::read_to_string(text)
            .map_err(|error| Error::config(format!("file '{text}' can't be read")).caused_by(error))?;
        (text, "that file".to_owned())
    };
    let schema = serde_json::from_str(&text).map_err(|error| {
        let found = body::kind(text.as_bytes());
        Error::config(format!("{place} is no JSON (it begins like {found})")).caused_by(error)
    })?;
    // Whoever writes `"format": "uuid"` wants it checked.
    let options = jsonschema::options().offline().should_validate_formats(true);
    options.build(&schema).map_err(|error| Error::config(format!("{place} is no JSON Schema: {error}")))
}

#[cfg(test)]
mod tests {
    use ottla_api::config::{Config as _, Properties};

    use super::*;

    fn guards(options: &[(&str, &str)]) -> Result<Guards> {
        let properties = Properties::from_iter(options.iter().copied());
        Guards::build(&GatewayConfig::from_properties(&properties).expect("valid options"))
    }

    fn check(guards: &Guards, name: &str, value: &'static str) -> String {
        guards.check(name, &Bytes::from_static(value.as_bytes())).err().unwrap_or_default()
    }

    #[test]
    fn a_row_of_a_wrong_table_lacks_fields() {
        let guards = guards(&[("require.u.pin.fields", "index, unique_id"), ("require.u.geo.fields", "ind")]).unwrap();
        assert_eq!(check(&guards, "u.pin", r#"{"index":1,"unique_id":null,"more":2}"#), "");
        assert_eq!(
            check(&guards, "u.pin", r#"{"ind":1,"country":"x"}"#),
            "fields index, unique_id are missing; 'u.pin' requires index, unique_id"
        );
        assert_eq!(check(&guards, "u.geo", r#"{"index":1}"#), "field 'ind' is missing; 'u.geo' requires ind");
        assert_eq!(check(&guards, "u.pin", "null"), "'u.pin' takes objects with index, unique_id, found null");
        assert_eq!(check(&guards, "u.user", "1"), "");
    }

    #[test]
    fn a_name_with_other_characters_is_an_expression_for_whole_names() {
        let guards = guards(&[(r"require..*\.geo.fields", "ind")]).unwrap();
        assert!(guards.cover("x.geo") && guards.cover("streaming.geo"));
        assert!(!guards.cover("x.geo2") && !guards.cover("xgeo"));
    }

    #[test]
    fn a_schema_says_where_and_what_and_never_shows_the_value() {
        let schema = r#"{"type": "object", "required": ["ind"],
            "properties": {"ind": {"type": "integer"}, "password": {"type": "integer"}, "at": {"format": "date-time"}}}"#;
        let guards = guards(&[("require.u.geo.schema", schema)]).unwrap();
        assert_eq!(check(&guards, "u.geo", r#"{"ind":1}"#), "");
        let message = check(&guards, "u.geo", r#"{"password":"hunter2","at":"yesterday"}"#);
        assert!(!message.contains("hunter2") && !message.contains("yesterday"), "{message}");
        assert_eq!(
            message,
            "\"ind\" is a required property; /password: value is not of type \"integer\"; \
             /at: value is not a \"date-time\" (the schema of 'u.geo')"
        );
    }

    #[test]
    fn schemas_that_are_none_or_lead_elsewhere_are_refused() {
        let refused = |schema| guards(&[("require.x.schema", schema)]).unwrap_err().to_string();
        assert!(refused("nowhere.json").starts_with("gateway.require.x.schema: file 'nowhere.json' can't be read"));
        assert!(
            refused(r#"{"type": "nothing"}"#).contains("is no JSON Schema"),
            "{}",
            refused(r#"{"type": "nothing"}"#)
        );
        for elsewhere in [r#"{"$ref": "http://127.0.0.1:1/x"}"#, r#"{"$ref": "file:///etc/passwd"}"#] {
            assert!(refused(elsewhere).contains("is no JSON Schema"), "{}", refused(elsewhere));
        }
    }
}
