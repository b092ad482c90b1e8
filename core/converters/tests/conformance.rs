//! The converters against the public suite: every schema, every edge, hostile bytes.

use ottla_api::data::SchemaType;
use ottla_api::prelude::*;
use ottla_converters::{
    ByteArrayConverter, DecimalFormat, JsonConverter, JsonConverterConfig, NumberConverter, StringConverter,
    StringConverterConfig, plugins,
};
use ottla_testkit::config_suite;
use ottla_testkit::converter_suite::ConverterSuite;

#[test]
fn json_with_schemas_keeps_every_schema_and_value() {
    for decimal_format in [DecimalFormat::Base64, DecimalFormat::Numeric] {
        for schemas_cache_size in [0, 3, 1000] {
            let config = JsonConverterConfig { decimal_format, schemas_cache_size, ..Default::default() };
            ConverterSuite::new(Box::new(JsonConverter::new(config))).run();
        }
    }
}

#[test]
fn json_without_schemas_keeps_what_json_can_say() {
    let config = JsonConverterConfig { schemas_enable: false, ..Default::default() };
    let text = r#"{"a":[1,-2.5,12.30,1E400,true,null,"é\n",{}],"b":{"c":[]},"":"empty"}"#.as_bytes();
    let mut values = vec![ottla_api::data::json::parse(text).unwrap(), Value::from("x"), Value::Int64(i64::MIN)];
    values.extend(
        ["0.1", "1.0E10", "-0", "18446744073709551616"].map(|n| ottla_api::data::json::parse(n.as_bytes()).unwrap()),
    );
    ConverterSuite::new(Box::new(JsonConverter::new(config))).schemaless(values).run();
}

#[test]
fn plain_formats_keep_the_one_type_they_have() {
    let suite = |converter: Box<dyn Converter>, schema_type| {
        let supported =
            |schema: &Schema| schema.schema_type() == schema_type && schema.is_optional() && !schema.is_logical();
        ConverterSuite::new(converter).supporting(supported).run();
    };
    let text = StringConverterConfig::from_properties(&Properties::new()).unwrap();
    suite(Box::new(StringConverter::new(&text)), SchemaType::String);
    suite(Box::new(ByteArrayConverter), SchemaType::Bytes);
    suite(Box::new(NumberConverter::<i16>::new()), SchemaType::Int16);
    suite(Box::new(NumberConverter::<i32>::new()), SchemaType::Int32);
    suite(Box::new(NumberConverter::<i64>::new()), SchemaType::Int64);
    suite(Box::new(NumberConverter::<f32>::new()), SchemaType::Float32);
    suite(Box::new(NumberConverter::<f64>::new()), SchemaType::Float64);
    suite(Box::new(NumberConverter::<bool>::new()), SchemaType::Boolean);
}

#[test]
fn options_and_plugins_are_described_and_valid() {
    config_suite::check::<JsonConverterConfig>(&Properties::new());
    config_suite::check::<StringConverterConfig>(&Properties::new());
    let plugins = plugins();
    config_suite::check_plugins(&plugins);
    for name in
        ["json", "JsonConverter", "org.apache.kafka.connect.storage.StringConverter", "LongConverter", "boolean"]
    {
        assert!(plugins.iter().any(|plugin| plugin.answers_to(name)), "{name}");
    }
}
