//! Types of columns: as Spark writes them, as a Delta table stores them, and as records imply them.
//!
//! The rule for records without a schema, which the README states for users: integers are `long`, a number with a point or
//! exponent is `double`, text `string`, an object a `struct`, an array an `array` of what its items have in common. Where a
//! column is not in the table yet, integers and fractions in one column make it `double`. A null says nothing.

use std::fmt;

use deltalake_core::kernel::{ArrayType, DataType, DecimalType, MapType, PrimitiveType, StructField, StructType};
use ottla_api::data::{SchemaType, logical};
use ottla_api::prelude::*;

/// The most digits that a decimal of Delta has.
pub(crate) const DECIMAL_DIGITS_MAX: u8 = 38;

/// Characters that Delta refuses in a column's name where the table has no column mapping.
const NAME_FORBIDDEN: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

/// The type of a column or of what is inside one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// Nothing but nulls so far.
    Unknown,
    Boolean,
    Byte,
    Short,
    Integer,
    Long,
    Float,
    Double,
    String,
    Binary,
    Date,
    /// Microseconds, UTC.
    Timestamp,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Array(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<Field>),
}

/// A column, or a field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) data_type: Type,
    pub(crate) nullable: bool,
}

impl Field {
    pub(crate) fn new(name: impl Into<String>, data_type: Type) -> Self {
        Self { name: name.into(), data_type, nullable: true }
    }

    /// Why a table can't be divided by this column, or its rows be told apart by it, where they can't: readers and the merge
    /// compare nothing but single values.
    pub(crate) fn check_single(&self) -> Result<(), String> {
        match self.data_type {
            Type::Array(_) | Type::Map(..) | Type::Struct(_) => Err(format!(
                "names '{}', which is {}; only columns of single values will do",
                self.name, self.data_type
            )),
            _ => Ok(()),
        }
    }
}

/// As Spark's DDL writes it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("void"),
            Self::Boolean => f.write_str("boolean"),
            Self::Byte => f.write_str("byte"),
            Self::Short => f.write_str("short"),
            Self::Integer => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Array(items) => write!(f, "array<{items}>"),
            Self::Map(keys, values) => write!(f, "map<{keys},{values}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (index, field) in fields.iter().enumerate() {
                    write!(f, "{}{}:{}", if index > 0 { "," } else { "" }, field.name, field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}

impl Type {
    /// What a value without a schema implies.
    ///
    /// # Errors
    ///
    /// `PoisonRecord` for items of one array that have no type in common, and for a number that neither a `long` nor a
    /// `double` holds exactly.
    pub(crate) fn of_value(value: &Value) -> Result<Self> {
        Ok(match value {
            Value::Null => Self::Unknown,
            Value::Boolean(_) => Self::Boolean,
            Value::Int8(_) => Self::Byte,
            Value::Int16(_) => Self::Short,
            Value::Int32(_) | Value::Time(_) => Self::Integer,
            Value::Int64(_) => Self::Long,
            Value::Float32(_) => Self::Float,
            Value::Float64(_) => Self::Double,
            Value::Number(text) => match exact_double(text) {
                Some(_) => Self::Double,
                None => {
                    return Err(Error::data(format!(
                        "the number {} fits neither long nor double exactly; give its column the type decimal or string \
                         (schema)",
                        shown(text)
                    )));
                }
            },
            Value::String(_) => Self::String,
            Value::Bytes(_) => Self::Binary,
            Value::Date(_) => Self::Date,
            Value::Timestamp(_) => Self::Timestamp,
            Value::Decimal(decimal) => Self::decimal(decimal.scale)?,
            Value::Array(items) => Self::Array(Box::new(Self::of_all(items)?)),
            Value::Map(map) => Self::Struct(Self::fields_of(map.iter())?),
            Value::Struct(fields) => Self::of_schema(fields.schema())?,
            Value::Pairs(pairs) => Self::Map(
                Box::new(Self::of_all(pairs.iter().map(|(key, _)| key))?),
                Box::new(Self::of_all(pairs.iter().map(|(_, value)| value))?),
            ),
        })
    }

    fn of_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<Self> {
        values.into_iter().try_fold(Self::Unknown, |common, value| common.merged(&Self::of_value(value)?))
    }

    fn fields_of<'a>(fields: impl Iterator<Item = (&'a str, &'a Value)>) -> Result<Vec<Field>> {
        fields.map(|(name, value)| Ok(Field::new(name, Self::of_value(value)?))).collect()
    }

    fn decimal(scale: i32) -> Result<Self> {
        match u8::try_from(scale) {
            Ok(scale) if scale <= DECIMAL_DIGITS_MAX => Ok(Self::Decimal { precision: DECIMAL_DIGITS_MAX, scale }),
            _ => Err(Error::data(format!("Delta has no decimal with {scale} digits after the point"))),
        }
    }

    /// What a record's schema says. Every column can be null: others write to the table too.
    pub(crate) fn of_schema(schema: &Schema) -> Result<Self> {
        Ok(match (schema.name(), schema.schema_type()) {
            (Some(logical::DATE), _) => Self::Date,
            (Some(logical::TIME), _) => Self::Integer,
            (Some(logical::TIMESTAMP), _) => Self::Timestamp,
            (Some(logical::DECIMAL), _) => {
                let scale = schema.parameters().get(logical::SCALE_PARAMETER).and_then(|text| text.parse().ok());
                Self::decimal(scale.unwrap_or(0))?
            }
            (_, SchemaType::Boolean) => Self::Boolean,
            (_, SchemaType::Int8) => Self::Byte,
            (_, SchemaType::Int16) => Self::Short,
            (_, SchemaType::Int32) => Self::Integer,
            (_, SchemaType::Int64) => Self::Long,
            (_, SchemaType::Float32) => Self::Float,
            (_, SchemaType::Float64) => Self::Double,
            (_, SchemaType::String) => Self::String,
            (_, SchemaType::Bytes) => Self::Binary,
            (_, SchemaType::Array) => Self::Array(Box::new(Self::of_schema(schema.items())?)),
            (_, SchemaType::Map) => {
                Self::Map(Box::new(Self::of_schema(schema.keys())?), Box::new(Self::of_schema(schema.items())?))
            }
            (_, SchemaType::Struct) => {
                let fields = schema.fields().iter();
                let fields = fields.map(|field| Ok(Field::new(&field.name, Self::of_schema(&field.schema)?)));
                Self::Struct(fields.collect::<Result<_>>()?)
            }
        })
    }

    /// What two types of values have in common, for values that are in no table yet.
    pub(crate) fn merged(&self, other: &Self) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Unknown, known) | (known, Self::Unknown) => known.clone(),
            (one, other) if one == other => one.clone(),
            (one, other) if one.integer_width() > 0 && other.integer_width() > 0 => {
                if one.integer_width() > other.integer_width() { one.clone() } else { other.clone() }
            }
            (one, other) if one.is_number() && other.is_number() => Self::Double,
            (Self::Array(one), Self::Array(other)) => Self::Array(Box::new(one.merged(other)?)),
            (Self::Map(keys, values), Self::Map(other_keys, other_values)) => {
                Self::Map(Box::new(keys.merged(other_keys)?), Box::new(values.merged(other_values)?))
            }
            (Self::Struct(one), Self::Struct(other)) => {
                let mut fields = one.clone();
                for field in other {
                    match find(&fields, &field.name) {
                        Some(index) => fields[index].data_type = fields[index].data_type.merged(&field.data_type)?,
                        None => fields.push(field.clone()),
                    }
                }
                Self::Struct(fields)
            }
            (one, other) => return Err(Error::data(format!("{one} and {other} have no type in common"))),
        })
    }

    fn integer_width(&self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Short => 2,
            Self::Integer => 4,
            Self::Long => 8,
            _ => 0,
        }
    }

    fn is_number(&self) -> bool {
        self.integer_width() > 0 || matches!(self, Self::Float | Self::Double)
    }

    /// The type as a table stores it, or nothing where there is none yet: a column of nothing but nulls, an object without
    /// fields. The items of arrays that were all empty are `string`, as Spark has it.
    pub(crate) fn to_delta(&self) -> Option<DataType> {
        Some(match self {
            Self::Unknown => return None,
            Self::Boolean => DataType::BOOLEAN,
            Self::Byte => DataType::BYTE,
            Self::Short => DataType::SHORT,
            Self::Integer => DataType::INTEGER,
            Self::Long => DataType::LONG,
            Self::Float => DataType::FLOAT,
            Self::Double => DataType::DOUBLE,
            Self::String => DataType::STRING,
            Self::Binary => DataType::BINARY,
            Self::Date => DataType::DATE,
            Self::Timestamp => DataType::TIMESTAMP,
            Self::Decimal { precision, scale } => {
                let decimal = DecimalType::try_new(*precision, *scale).ok()?;
                DataType::Primitive(PrimitiveType::Decimal(decimal))
            }
            Self::Array(items) => ArrayType::new(items.to_delta().unwrap_or(DataType::STRING), true).into(),
            Self::Map(keys, values) => MapType::new(
                keys.to_delta().unwrap_or(DataType::STRING),
                values.to_delta().unwrap_or(DataType::STRING),
                true,
            )
            .into(),
            Self::Struct(fields) => {
                let fields = to_delta_fields(fields);
                if fields.is_empty() {
                    return None;
                }
                DataType::Struct(Box::new(StructType::try_new(fields).ok()?))
            }
        })
    }

    /// The type of a column of an existing table.
    pub(crate) fn of_delta(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Primitive(primitive) => match primitive {
                PrimitiveType::Boolean => Self::Boolean,
                PrimitiveType::Byte => Self::Byte,
                PrimitiveType::Short => Self::Short,
                PrimitiveType::Integer => Self::Integer,
                PrimitiveType::Long => Self::Long,
                PrimitiveType::Float => Self::Float,
                PrimitiveType::Double => Self::Double,
                PrimitiveType::String => Self::String,
                PrimitiveType::Binary => Self::Binary,
                PrimitiveType::Date => Self::Date,
                PrimitiveType::Timestamp => Self::Timestamp,
                PrimitiveType::Decimal(decimal) => {
                    Self::Decimal { precision: decimal.precision(), scale: decimal.scale() }
                }
                other => return Err(Error::config(format!("columns of type {other} can't be written by this sink"))),
            },
            DataType::Array(array) => Self::Array(Box::new(Self::of_delta(array.element_type())?)),
            DataType::Map(map) => {
                Self::Map(Box::new(Self::of_delta(map.key_type())?), Box::new(Self::of_delta(map.value_type())?))
            }
            DataType::Struct(fields) => Self::Struct(of_delta_fields(fields)?),
            other => return Err(Error::config(format!("columns of type {other} can't be written by this sink"))),
        })
    }
}

/// The columns of an existing table.
pub(crate) fn of_delta_fields(schema: &StructType) -> Result<Vec<Field>> {
    let fields = schema.fields().map(|field| {
        let data_type = Type::of_delta(field.data_type()).map_err(|error| error.with("column", field.name()))?;
        Ok(Field { name: field.name().clone(), data_type, nullable: field.is_nullable() })
    });
    fields.collect()
}

/// The columns as a table stores them, without those whose type isn't known yet.
pub(crate) fn to_delta_fields(fields: &[Field]) -> Vec<StructField> {
    let known = fields.iter().filter_map(|field| Some((field, field.data_type.to_delta()?)));
    known.map(|(field, data_type)| StructField::new(&field.name, data_type, field.nullable)).collect()
}

/// Where a column stands: by its name, or by a name that differs in case only, because Delta holds these for the same.
pub(crate) fn find(fields: &[Field], name: &str) -> Option<usize> {
    fields
        .iter()
        .position(|field| field.name == name)
        .or_else(|| fields.iter().position(|field| same_name(&field.name, name)))
}

/// True where Delta holds two names for the same.
pub(crate) fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || (!one.is_ascii() && one.to_lowercase() == other.to_lowercase())
}

/// Makes sure that Delta takes a column of this name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::data("a field without a name can't become a column; rename it with ReplaceField"));
    }
    if name.contains(NAME_FORBIDDEN) {
        return Err(Error::data(format!(
            "the field '{}' can't become a column: Delta refuses ' ,;{{}}()=' and line breaks in names; rename it with \
             ReplaceField (renames)",
            shown(name)
        )));
    }
    Ok(())
}

/// The number that a text means, where a double holds exactly that.
pub(crate) fn exact_double(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && digits(text)? == digits(&format!("{number:e}"))?).then_some(number)
}

/// Sign, digits without zeros around them, and the exponent of the last digit.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let cut = all.trim_end_matches('0');
    if cut.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let exponent = exponent - i64::try_from(fraction.len()).ok()? + i64::try_from(all.len() - cut.len()).ok()?;
    Some((negative, cut.trim_start_matches('0').to_owned(), exponent))
}

/// The beginning of a text, for messages.
pub(crate) fn shown(text: &str) -> String {
    const CHARACTERS: usize = 40;
    match text.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.to_owned(),
    }
}

/// Reads columns as Spark's DDL writes them: `ind long, tags array<string> not null, at struct<x:double,y:double>`.
///
/// # Errors
///
/// What was expected where, in words for the person who wrote the option.
pub(crate) fn parse_ddl(text: &str) -> Result<Vec<Field>, String> {
    let mut parser = Parser { text, at: 0 };
    let fields = parser.fields(None)?;
    if fields.is_empty() { Err("must name at least one column, such as 'ind long'".to_owned()) } else { Ok(fields) }
}

/// Walks over a DDL text.
struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&mut self) -> &str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let before = self.at;
        let found = self.word().is_some_and(|word| word.eq_ignore_ascii_case(wanted));
        if !found {
            self.at = before;
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.takes(wanted) { Ok(()) } else { Err(self.mistake(&format!("'{wanted}'"))) }
    }

    fn mistake(&mut self, expected: &str) -> String {
        let at = self.text[..self.at].chars().count() + 1;
        let found = match self.rest() {
            "" => "the end".to_owned(),
            rest => format!("'{}'", shown(rest)),
        };
        format!(
            "must be columns as in Spark, such as 'ind long, tags array<string>': expected {expected} at character {at}, found {found}"
        )
    }

    fn word(&mut self) -> Option<String> {
        let rest = self.rest();
        let length =
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.' || c == '-')).unwrap_or(rest.len());
        let word = rest[..length].to_owned();
        self.at += length;
        (length > 0).then_some(word)
    }

    fn name(&mut self) -> Result<String, String> {
        let name = if self.takes('`') {
            let length = self.rest().find('`').ok_or_else(|| self.mistake("a closing '`'"))?;
            let name = self.text[self.at..self.at + length].to_owned();
            self.at += length + 1;
            name
        } else {
            self.word().ok_or_else(|| self.mistake("the name of a column"))?
        };
        check_name(&name).map_err(|error| error.message().to_owned())?;
        Ok(name)
    }

    /// Fields up to `end`, or up to the end of the text.
    fn fields(&mut self, end: Option<char>) -> Result<Vec<Field>, String> {
        let mut fields: Vec<Field> = Vec::new();
        loop {
            let name = self.name()?;
            self.takes(':');
            let data_type = self.data_type()?;
            let required = self.takes_word("not");
            if required && !self.takes_word("null") {
                return Err(self.mistake("'null' after 'not'"));
            }
            if find(&fields, &name).is_some() {
                return Err(format!("names the column '{name}' twice"));
            }
            fields.push(Field { name, data_type, nullable: !required });
            if self.takes(',') {
                continue;
            }
            return match end {
                Some(end) => self.expect(end).map(|()| fields),
                None if self.rest().is_empty() => Ok(fields),
                None => Err(self.mistake("',' or the end")),
            };
        }
    }

    fn data_type(&mut self) -> Result<Type, String> {
        let word = self.word().ok_or_else(|| self.mistake("a type"))?;
        Ok(match word.to_ascii_lowercase().as_str() {
            "boolean" | "bool" => Type::Boolean,
            "byte" | "tinyint" => Type::Byte,
            "short" | "smallint" => Type::Short,
            "int" | "integer" => Type::Integer,
            "long" | "bigint" => Type::Long,
            "float" | "real" => Type::Float,
            "double" => Type::Double,
            "string" => Type::String,
            "binary" => Type::Binary,
            "date" => Type::Date,
            "timestamp" => Type::Timestamp,
            "decimal" | "dec" | "numeric" => {
                let (mut precision, mut scale) = (10, 0);
                if self.takes('(') {
                    precision = self.digits()?;
                    if self.takes(',') {
                        scale = self.digits()?;
                    }
                    self.expect(')')?;
                }
                if !(1..=DECIMAL_DIGITS_MAX).contains(&precision) || scale > precision {
                    return Err(format!(
                        "must have decimals of 1 to {DECIMAL_DIGITS_MAX} digits with no more of them after the point, found \
                         decimal({precision},{scale})"
                    ));
                }
                Type::Decimal { precision, scale }
            }
            "array" => {
                self.expect('<')?;
                let items = self.data_type()?;
                self.expect('>')?;
                Type::Array(Box::new(items))
            }
            "map" => {
                self.expect('<')?;
                let keys = self.data_type()?;
                self.expect(',')?;
                let values = self.data_type()?;
                self.expect('>')?;
                Type::Map(Box::new(keys), Box::new(values))
            }
            "struct" => {
                self.expect('<')?;
                Type::Struct(self.fields(Some('>'))?)
            }
            _ => {
                return Err(format!(
                    "has the type '{word}', which is none of boolean, byte, short, int, long, float, double, string, \
                     binary, date, timestamp, decimal(p,s), array<..>, map<..,..>, struct<name:..>"
                ));
            }
        })
    }

    fn digits(&mut self) -> Result<u8, String> {
        let before = self.at;
        self.word().and_then(|word| word.parse().ok()).ok_or_else(|| {
            self.at = before;
            self.mistake("a number of digits")
        })
    }
}

#[cfg(test)]
mod tests {
    use ottla_api::data::json;

    use super::*;

    fn ddl(fields: &[Field]) -> String {
        let written = |field: &Field| {
            format!("{} {}{}", field.name, field.data_type, if field.nullable { "" } else { " not null" })
        };
        fields.iter().map(written).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn ddl_is_read_as_spark_writes_it() {
        for (text, read) in [
            ("ind long, unique_id string", "ind long, unique_id string"),
            ("a BIGINT NOT NULL,b Array<Double>", "a long not null, b array<double>"),
            ("p struct<x:double, y: int not null>", "p struct<x:double,y:int>"),
            ("m map<string,array<decimal(10, 2)>>", "m map<string,array<decimal(10,2)>>"),
            ("`a-b` tinyint, d decimal, é timestamp", "a-b byte, d decimal(10,0), é timestamp"),
        ] {
            assert_eq!(ddl(&parse_ddl(text).unwrap()), read, "{text}");
        }
    }

    #[test]
    fn a_mistake_in_ddl_says_where_and_what() {
        for (text, message) in [
            ("", "expected the name of a column at character 1, found the end"),
            ("a", "expected a type at character 2, found the end"),
            ("a lnog", "has the type 'lnog', which is none of boolean,"),
            ("a array<long", "expected '>' at character 13, found the end"),
            ("a long b long", "expected ',' or the end at character 8, found 'b long'"),
            ("a long, A string", "names the column 'A' twice"),
            ("a decimal(39,1)", "found decimal(39,1)"),
            ("`a b` long", "the field 'a b' can't become a column"),
            ("a long not", "expected 'null' after 'not'"),
        ] {
            let error = parse_ddl(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn values_imply_types() {
        for (value, implied) in [
            (r#"{"a":1,"b":1.5,"c":"x","d":true,"e":null}"#, "struct<a:long,b:double,c:string,d:boolean,e:void>"),
            (r#"[1,2.5,null]"#, "array<double>"),
            (r#"[{"a":1},{"b":"x"}]"#, "array<struct<a:long,b:string>>"),
            ("[]", "array<void>"),
            ("12.30", "double"),
        ] {
            assert_eq!(
                Type::of_value(&json::parse(value.as_bytes()).unwrap()).unwrap().to_string(),
                implied,
                "{value}"
            );
        }
        for (value, message) in [
            (r#"[1,"x"]"#, "long and string have no type in common"),
            ("123456789012345678901", "the number 123456789012345678901 fits neither long nor double exactly"),
        ] {
            let error = Type::of_value(&json::parse(value.as_bytes()).unwrap()).unwrap_err();
            assert!(error.message().starts_with(message), "{value}: {error}");
        }
    }

    #[test]
    fn a_text_is_a_double_where_nothing_is_lost() {
        for (text, number) in [
            ("12.30", Some(12.3)),
            ("1E400", None),
            ("100000000000000000000", Some(1e20)),
            ("123456789012345678901", None),
            ("0.1000000000000000055511151231257827", None),
            ("-0.00", Some(-0.0)),
            ("1e-7", Some(1e-7)),
        ] {
            assert_eq!(exact_double(text), number, "{text}");
        }
    }
}
