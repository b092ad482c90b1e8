//! Schemas: the type of a value, its name and version, and what is inside.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::value::{Value, check};
use crate::error::Result;

/// Names of the logical types, as Kafka Connect spells them in a schema's `name`.
pub mod logical {
    /// `bytes` that are an unscaled number; the parameter `scale` says where the point goes.
    pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
    /// `int32`, days since 1970-01-01.
    pub const DATE: &str = "org.apache.kafka.connect.data.Date";
    /// `int32`, milliseconds since midnight.
    pub const TIME: &str = "org.apache.kafka.connect.data.Time";
    /// `int64`, milliseconds since 1970-01-01T00:00:00Z.
    pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";
    /// The parameter of [`DECIMAL`] that holds the scale.
    pub const SCALE_PARAMETER: &str = "scale";
}

/// The physical type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The names say it all.
pub enum SchemaType {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    String,
    Bytes,
    Array,
    Map,
    Struct,
}

impl SchemaType {
    /// Kafka Connect's name of the type in lower case: `int32`, `struct`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Array => "array",
            Self::Map => "map",
            Self::Struct => "struct",
        }
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// The type of its value.
    pub schema: Arc<Schema>,
}

/// The type of a value. Built by [`Schema::builder`] and the shorthands; never changed afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    schema_type: SchemaType,
    optional: bool,
    name: Option<String>,
    version: Option<i32>,
    doc: Option<String>,
    parameters: BTreeMap<String, String>,
    default: Option<Value>,
    fields: Vec<Field>,
    keys: Option<Arc<Schema>>,
    items: Option<Arc<Schema>>,
}

impl Schema {
    /// Starts a schema of this type.
    pub fn builder(schema_type: SchemaType) -> SchemaBuilder {
        SchemaBuilder(Schema {
            schema_type,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: BTreeMap::new(),
            default: None,
            fields: Vec::new(),
            keys: None,
            items: None,
        })
    }

    /// A required value of a type without inner types.
    pub fn of(schema_type: SchemaType) -> Arc<Self> {
        Self::builder(schema_type).build()
    }

    /// An optional value of a type without inner types.
    pub fn optional(schema_type: SchemaType) -> Arc<Self> {
        Self::builder(schema_type).optional().build()
    }

    /// Starts a struct.
    pub fn structure() -> SchemaBuilder {
        Self::builder(SchemaType::Struct)
    }

    /// Starts an array of `items`.
    pub fn array(items: Arc<Schema>) -> SchemaBuilder {
        let mut builder = Self::builder(SchemaType::Array);
        builder.0.items = Some(items);
        builder
    }

    /// Starts a map from `keys` to `values`.
    pub fn map(keys: Arc<Schema>, values: Arc<Schema>) -> SchemaBuilder {
        let mut builder = Self::builder(SchemaType::Map);
        builder.0.keys = Some(keys);
        builder.0.items = Some(values);
        builder
    }

    /// Starts the logical type Timestamp.
    pub fn timestamp() -> SchemaBuilder {
        Self::builder(SchemaType::Int64).name(logical::TIMESTAMP).version(1)
    }

    /// Starts the logical type Date.
    pub fn date() -> SchemaBuilder {
        Self::builder(SchemaType::Int32).name(logical::DATE).version(1)
    }

    /// Starts the logical type Time.
    pub fn time() -> SchemaBuilder {
        Self::builder(SchemaType::Int32).name(logical::TIME).version(1)
    }

    /// Starts the logical type Decimal with `scale` digits after the point.
    pub fn decimal(scale: i32) -> SchemaBuilder {
        let builder = Self::builder(SchemaType::Bytes).name(logical::DECIMAL).version(1);
        builder.parameter(logical::SCALE_PARAMETER, scale.to_string())
    }

    /// The physical type.
    pub fn schema_type(&self) -> SchemaType {
        self.schema_type
    }

    /// True where null is allowed.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// Name of a struct or logical type.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Version of the named type.
    pub fn version(&self) -> Option<i32> {
        self.version
    }

    /// What the type is for.
    pub fn doc(&self) -> Option<&str> {
        self.doc.as_deref()
    }

    /// Parameters of a logical type, and whatever else producers put there.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// The value that stands for a missing one.
    pub fn default(&self) -> Option<&Value> {
        self.default.as_ref()
    }

    /// The fields of a struct, in order; empty for other types.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field `name` of a struct.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Where field `name` stands among the fields.
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }

    /// The type of a map's keys.
    ///
    /// # Panics
    ///
    /// If this is no map.
    pub fn keys(&self) -> &Arc<Schema> {
        self.keys.as_ref().expect("only a map has a schema of keys")
    }

    /// The type of an array's items or a map's values.
    ///
    /// # Panics
    ///
    /// If this is neither.
    pub fn items(&self) -> &Arc<Schema> {
        self.items.as_ref().expect("only arrays and maps have a schema of items")
    }

    /// True for Decimal, Date, Time and Timestamp.
    pub fn is_logical(&self) -> bool {
        matches!(self.name(), Some(logical::DECIMAL | logical::DATE | logical::TIME | logical::TIMESTAMP))
    }

    /// Checks that a value fits: null only where allowed, the right type, the same for what is inside
    /// (Kafka: `ConnectSchema.validateValue`).
    pub fn check(&self, value: &Value) -> Result<()> {
        check(self, value)
    }

    /// The type in a word or two, for messages: `int32`, or the last part of a logical type's name.
    pub fn describe(&self) -> &str {
        match self.name() {
            Some(name) if self.is_logical() => name.rsplit('.').next().unwrap_or(name),
            _ => self.schema_type.name(),
        }
    }

    /// A builder that starts as this schema is.
    pub fn to_builder(&self) -> SchemaBuilder {
        SchemaBuilder(self.clone())
    }
}

/// Makes a [`Schema`].
#[derive(Debug, Clone)]
pub struct SchemaBuilder(Schema);

impl SchemaBuilder {
    /// Null is allowed.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.0.optional = true;
        self
    }

    /// Null is allowed, or not.
    #[must_use]
    pub fn optional_if(mut self, optional: bool) -> Self {
        self.0.optional = optional;
        self
    }

    /// Name of the type.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.0.name = Some(name.into());
        self
    }

    /// Version of the named type.
    #[must_use]
    pub fn version(mut self, version: i32) -> Self {
        self.0.version = Some(version);
        self
    }

    /// What the type is for.
    #[must_use]
    pub fn doc(mut self, doc: impl Into<String>) -> Self {
        self.0.doc = Some(doc.into());
        self
    }

    /// A parameter of the type.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.parameters.insert(name.into(), value.into());
        self
    }

    /// The value that stands for a missing one.
    #[must_use]
    pub fn default_value(mut self, value: Value) -> Self {
        self.0.default = Some(value);
        self
    }

    /// Appends a field of a struct.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, schema: Arc<Schema>) -> Self {
        self.0.fields.push(Field { name: name.into(), schema });
        self
    }

    /// Ends the building.
    pub fn build(self) -> Arc<Schema> {
        Arc::new(self.0)
    }
}
