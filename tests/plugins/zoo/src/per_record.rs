//! The tame ones that see one record, or one setting, at a time.

use bytes::Bytes;
use ottla_api::config_provider::ConfigProvider;
use ottla_api::data::SchemaType;
use ottla_api::prelude::*;

/// Options of `zoo-shout` and `zoo-has`.
#[derive(Debug, Clone, Config)]
pub(crate) struct FieldConfig {
    /// The field.
    #[config(name = "field")]
    pub field: String,
}

/// `zoo-shout`.
pub(crate) struct Shout(FieldConfig);

impl Shout {
    pub(crate) fn new(properties: &Properties) -> Result<Self> {
        Ok(Self(FieldConfig::from_properties(properties)?))
    }
}

impl Transformation for Shout {
    fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
        if record.is_tombstone() {
            return Ok(Some(record));
        }
        match record.value.value_mut()? {
            Value::Map(map) => {
                if let Some(Value::String(text)) = map.get_mut(&self.0.field) {
                    *text = text.to_uppercase();
                }
            }
            Value::Struct(fields) => {
                if let Some(Value::String(text)) = fields.get(&self.0.field) {
                    let text = text.to_uppercase();
                    fields.put(&self.0.field, Value::String(text))?;
                }
            }
            other => return Err(Error::data(format!("zoo-shout needs fields, found {}", other.type_name()))),
        }
        Ok(Some(record))
    }
}

/// `zoo-has`.
pub(crate) struct Has(FieldConfig);

impl Has {
    pub(crate) fn new(properties: &Properties) -> Result<Self> {
        Ok(Self(FieldConfig::from_properties(properties)?))
    }
}

impl Predicate for Has {
    fn test(&mut self, record: &mut Record) -> Result<bool> {
        Ok(record.value.value()?.field(&self.0.field).is_some())
    }
}

/// `zoo-reversed`.
pub(crate) struct Reversed;

impl Converter for Reversed {
    fn to_connect(&self, _topic: &str, bytes: Option<&Bytes>) -> Result<Payload> {
        let schema = Schema::optional(SchemaType::String);
        let Some(bytes) = bytes else { return Ok(Payload::with_schema(schema, Value::Null)) };
        let text = std::str::from_utf8(bytes).map_err(|error| Error::data("not UTF-8").caused_by(error))?;
        Ok(Payload::with_schema(schema, text.chars().rev().collect::<String>()))
    }

    fn from_connect(&self, _topic: &str, payload: &Payload) -> Result<Option<Bytes>> {
        match &*payload.decoded()? {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.chars().rev().collect::<String>().into())),
            other => Err(Error::data(format!("zoo-reversed takes texts, found {}", other.type_name()))),
        }
    }
}

/// `zoo-words`.
pub(crate) struct Words;

impl ConfigProvider for Words {
    fn get(&self, path: &str, key: &str) -> Result<Option<String>> {
        Ok(["lion", "zebra"].contains(&key).then(|| format!("{path}-{key}")))
    }
}
