//! Schemas as JSON: `{"type":"int32","optional":false,..}`.

use std::sync::Arc;

use ottla_api::data::{SchemaBuilder, SchemaType, json};
use ottla_api::prelude::*;

use super::{JsonConverterConfig, value};

/// Appends the JSON of a schema; that of a struct's field also says the field's name, at the end as Kafka does.
pub(super) fn write(
    schema: &Arc<Schema>,
    field: Option<&str>,
    config: &JsonConverterConfig,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(type_name(schema.schema_type()).as_bytes());
    out.push(b'"');
    match schema.schema_type() {
        SchemaType::Array => {
            out.extend_from_slice(b",\"items\":");
            write(schema.items(), None, config, out)?;
        }
        SchemaType::Map => {
            out.extend_from_slice(b",\"keys\":");
            write(schema.keys(), None, config, out)?;
            out.extend_from_slice(b",\"values\":");
            write(schema.items(), None, config, out)?;
        }
        SchemaType::Struct => {
            out.extend_from_slice(b",\"fields\":[");
            for (index, field) in schema.fields().iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(&field.schema, Some(&field.name), config, out)?;
            }
            out.push(b']');
        }
        _ => {}
    }
    out.extend_from_slice(if schema.is_optional() { b",\"optional\":true" } else { b",\"optional\":false" });
    if let Some(name) = schema.name() {
        out.extend_from_slice(b",\"name\":");
        json::write_text(name, out);
    }
    if let Some(version) = schema.version() {
        out.extend_from_slice(b",\"version\":");
        json::write(&Value::Int32(version), out);
    }
    if let Some(doc) = schema.doc() {
        out.extend_from_slice(b",\"doc\":");
        json::write_text(doc, out);
    }
    if !schema.parameters().is_empty() {
        let parameters: Map =
            schema.parameters().iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        out.extend_from_slice(b",\"parameters\":");
        json::write(&Value::Map(parameters), out);
    }
    if let Some(default) = schema.default() {
        out.extend_from_slice(b",\"default\":");
        value::write(Some(schema), default, config, out)?;
    }
    if let Some(field) = field {
        out.extend_from_slice(b",\"field\":");
        json::write_text(field, out);
    }
    out.push(b'}');
    Ok(())
}

/// Reads a schema.
pub(super) fn read(schema: Value, config: &JsonConverterConfig) -> Result<Arc<Schema>> {
    let Some(Value::String(type_name)) = schema.field("type") else {
        return Err(Error::data("Schema must contain 'type' field"));
    };
    let inner = |name: &str, missing: &str| match schema.field(name) {
        None | Some(Value::Null) => Err(Error::data(missing)),
        Some(inner) => read(inner.clone(), config),
    };
    let mut builder = match type_name.as_str() {
        "array" => Schema::array(inner("items", "Array schema did not specify the element type")?),
        "map" => Schema::map(
            inner("keys", "Map schema did not specify the key type")?,
            inner("values", "Map schema did not specify the value type")?,
        ),
        "struct" => {
            let Some(Value::Array(fields)) = schema.field("fields") else {
                return Err(Error::data("Struct schema's \"fields\" argument is not an array."));
            };
            fields.iter().try_fold(Schema::structure(), |builder, field| read_field(builder, field, config))?
        }
        primitive => match PRIMITIVES.iter().find(|(_, name)| *name == primitive) {
            Some((schema_type, _)) => Schema::builder(*schema_type),
            None => return Err(Error::data(format!("Unknown schema type: {primitive}"))),
        },
    };
    builder = builder.optional_if(schema.field("optional") == Some(&Value::Boolean(true)));
    if let Some(Value::String(name)) = schema.field("name") {
        builder = builder.name(name);
    }
    if let Some(Value::Int64(version)) = schema.field("version") {
        let version = i32::try_from(*version);
        builder = builder.version(version.map_err(|_| Error::data("a schema's version is not an INT32"))?);
    }
    if let Some(Value::String(doc)) = schema.field("doc") {
        builder = builder.doc(doc);
    }
    if let Some(Value::Map(parameters)) = schema.field("parameters") {
        for (name, parameter) in parameters.iter() {
            let Value::String(parameter) = parameter else {
                return Err(Error::data("Schema parameters must have string values."));
            };
            builder = builder.parameter(name, parameter);
        }
    }
    match schema.field("default") {
        None | Some(Value::Null) => Ok(builder.build()),
        Some(default) => {
            let without = builder.build();
            let default = value::read(&without, default.clone(), config)?;
            Ok(without.to_builder().default_value(default).build())
        }
    }
}

fn read_field(builder: SchemaBuilder, field: &Value, config: &JsonConverterConfig) -> Result<SchemaBuilder> {
    let Some(Value::String(name)) = field.field("field") else {
        return Err(Error::data("Struct schema's field name not specified properly"));
    };
    let schema = read(field.clone(), config).map_err(|error| error.with("field", name))?;
    Ok(builder.field(name, schema))
}

const PRIMITIVES: [(SchemaType, &str); 9] = [
    (SchemaType::Boolean, "boolean"),
    (SchemaType::Int8, "int8"),
    (SchemaType::Int16, "int16"),
    (SchemaType::Int32, "int32"),
    (SchemaType::Int64, "int64"),
    (SchemaType::Float32, "float"),
    (SchemaType::Float64, "double"),
    (SchemaType::String, "string"),
    (SchemaType::Bytes, "bytes"),
];

/// The name that Kafka's JSON has for a type, which for two of them is not the usual one.
fn type_name(schema_type: SchemaType) -> &'static str {
    match schema_type {
        SchemaType::Float32 => "float",
        SchemaType::Float64 => "double",
        other => other.name(),
    }
}
