//! Expressions over a record: what `map`, `route`, `filter` and the predicate `expression` evaluate.
//!
//! The language is CEL, Google's Common Expression Language, by the crate `cel`: it has no loops without an end, no side effects and
//! no way out of the record, so a configuration may come from anybody. A record's fields are looked at where they lie; nothing is
//! copied that the result does not need.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use cel::common::traits::{self, Container, Indexer, Iterable, Sizer};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelNull, CelOptional, CelString, CelUInt, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Program, extensions};
use ottla_api::config::ConfigValue;
use ottla_api::data::json;
use ottla_api::prelude::*;

/// What an expression may name.
const NAMES: [&str; 7] = ["value", "key", "topic", "partition", "offset", "timestamp", "headers"];

/// The language: CEL's own functions, and its extensions for text, numbers, lists and base64.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    for extension in [extensions::strings, extensions::math, extensions::lists, extensions::encoders] {
        env.add_extension(extension).expect("the extensions of one version fit together");
    }
    Arc::new(env)
});
static MAP: Type = MAP_TYPE;

/// An expression, compiled.
#[derive(Clone)]
pub(crate) struct Expression {
    text: Arc<str>,
    program: Arc<Program>,
    /// It names the key, and the value; what it does not name stays the text it may be.
    looks_at: (bool, bool),
}

impl Expression {
    /// Compiles a text.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where: a name that no record has, too.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        let program = LANGUAGE.compile(text).map_err(|errors| match errors.errors.first() {
            Some(error) => {
                let (line, column) = error.pos;
                let place = if text.contains('\n') { format!("line {line}, ") } else { String::new() };
                // Behind that it lists everything that a language has.
                let what = error.msg.split(" expecting ").next().unwrap_or(&error.msg);
                format!("at {place}column {column}: {what}, in: {text}")
            }
            None => format!("is no expression: {text}"),
        })?;
        let names = program.references();
        let looks_at = (names.has_variable("key"), names.has_variable("value"));
        drop(names);
        let expression = Self { text: text.into(), program: Arc::new(program), looks_at };
        // An empty record shows names and functions that there are not; that it lacks fields says nothing.
        let mut nothing = Record::new("topic", Map::new());
        match expression.evaluate(&mut nothing, |_| Ok(())) {
            Err(Failed::Evaluation(ExecutionError::UndeclaredReference(name))) => {
                Err(format!("there is no name or function '{name}', in: {text}; a record has {}", NAMES.join(", ")))
            }
            _ => Ok(expression),
        }
    }

    /// The answer to a question.
    pub(crate) fn test(&self, record: &mut Record) -> Result<bool> {
        let answer = self.evaluate(record, |result| {
            result
                .downcast_ref::<CelBool>()
                .map(|answer| *answer.inner())
                .ok_or_else(|| Error::data(format!("a condition is true or false, found {}", result.get_type().name())))
        });
        answer.map_err(|failed| self.failure(failed))
    }

    /// What it makes of a record.
    pub(crate) fn value(&self, record: &mut Record) -> Result<Value> {
        self.evaluate(record, |result| value_of(result, 0)).map_err(|failed| self.failure(failed))
    }

    /// Evaluates, and lets `take` have the result, which may lie in the record.
    fn evaluate<T>(&self, record: &mut Record, take: impl FnOnce(&dyn Val) -> Result<T>) -> Result<T, Failed> {
        if self.looks_at.0 {
            record.key.value().map_err(Failed::Record)?;
        }
        if self.looks_at.1 {
            record.value.value().map_err(Failed::Record)?;
        }
        let names = Names(record);
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        context.set_variable_resolver(&names);
        let result = cel::Value::resolve_val(self.program.expression(), &context).map_err(Failed::Evaluation)?;
        take(&*result).map_err(Failed::Record)
    }

    #[cold]
    fn failure(&self, failed: Failed) -> Error {
        let error = match failed {
            Failed::Record(error) => error,
            Failed::Evaluation(ExecutionError::NoSuchKey(name)) => Error::data(format!(
                "there is no field '{name}'; where one may be missing, ask has(x.{name}) first, or write x.?{name}.orValue(..)"
            )),
            // Its other texts may hold the record's values, which no log is to show.
            Failed::Evaluation(ExecutionError::NoSuchOverload(error)) => Error::data(error.to_string()),
            Failed::Evaluation(ExecutionError::FunctionError { function, .. }) => {
                Error::data(format!("{function} can't be worked out for this record"))
            }
            Failed::Evaluation(ExecutionError::UndeclaredReference(name)) => {
                Error::data(format!("there is no name or function '{name}'"))
            }
            Failed::Evaluation(ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_)) => {
                Error::data("division by zero")
            }
            Failed::Evaluation(ExecutionError::Overflow(..)) => Error::data("a number is too large"),
            Failed::Evaluation(_) => Error::data("it can't be worked out for this record's types"),
        };
        error.during(format!("evaluate {}", self.text))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

impl ConfigValue for Expression {
    fn parse(text: &str) -> Result<Self, String> {
        Self::compile(text)
    }

    fn type_name() -> Cow<'static, str> {
        "expression".into()
    }
}

/// Why there is no result.
enum Failed {
    /// The record can't be read, or the result not be used.
    Record(Error),
    /// The evaluation failed.
    Evaluation(ExecutionError),
}

/// A record's parts by name.
struct Names<'a>(&'a Record);

impl VariableResolver for Names<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let record = self.0;
        let data = |payload: &'b Payload| match payload {
            Payload::Data { value, .. } => seen(value),
            Payload::Json(_) => CowVal::owned(CelNull),
        };
        let number = |number: Option<i64>| {
            number.map_or_else(|| CowVal::owned(CelNull), |number| CowVal::owned(CelInt::from(number)))
        };
        Some(match name {
            "value" => data(&record.value),
            "key" => data(&record.key),
            "topic" => CowVal::owned(CelString::from(&*record.topic)),
            "partition" => number(record.partition.map(i64::from)),
            "offset" => number(record.offset),
            "timestamp" => number(record.timestamp),
            "headers" => {
                let headers = record.headers.iter().map(|header| {
                    let key = cel::common::types::CelMapKey::String(CelString::from(header.key.as_str()));
                    (key, seen(&header.value).into_owned())
                });
                CowVal::owned(CelMap::from(headers.collect::<std::collections::HashMap<_, _>>()))
            }
            _ => return None,
        })
    }
}

/// A value as an expression sees it. Dates and times are the numbers that they are; numbers that no `double` holds are the
/// nearest one.
fn seen<'a>(value: &'a Value) -> CowVal<'a, 'a> {
    match value {
        Value::Null => CowVal::owned(CelNull),
        Value::Boolean(flag) => CowVal::owned(CelBool::from(*flag)),
        Value::Int8(number) => CowVal::owned(CelInt::from(i64::from(*number))),
        Value::Int16(number) => CowVal::owned(CelInt::from(i64::from(*number))),
        Value::Int32(number) | Value::Date(number) | Value::Time(number) => {
            CowVal::owned(CelInt::from(i64::from(*number)))
        }
        Value::Int64(number) | Value::Timestamp(number) => CowVal::owned(CelInt::from(*number)),
        Value::Float32(number) => CowVal::owned(CelDouble::from(f64::from(*number))),
        Value::Float64(number) => CowVal::owned(CelDouble::from(*number)),
        Value::Number(text) => CowVal::owned(CelDouble::from(text.parse::<f64>().unwrap_or(f64::NAN))),
        Value::Decimal(_) => {
            let mut text = Vec::new();
            json::write_with(value, &json::WriteOptions { decimal_numeric: true, time_iso: false }, &mut text);
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            CowVal::owned(CelDouble::from(number.unwrap_or(f64::NAN)))
        }
        Value::String(text) => CowVal::owned(CelString::from(text.as_str())),
        Value::Bytes(bytes) => CowVal::owned(CelBytes::from(&bytes[..])),
        Value::Array(items) => {
            CowVal::owned(CelList::from(items.iter().map(|item| seen(item).into_owned()).collect::<Vec<_>>()))
        }
        Value::Pairs(pairs) => {
            let pair = |(key, value): &'a (Value, Value)| -> Box<dyn Val + 'a> {
                Box::new(CelList::from(vec![seen(key).into_owned(), seen(value).into_owned()]))
            };
            CowVal::owned(CelList::from(pairs.iter().map(pair).collect::<Vec<_>>()))
        }
        Value::Map(_) | Value::Struct(_) => CowVal::owned(Fields { of: value, names: OnceLock::new() }),
    }
}

/// A map or struct, where it lies.
struct Fields<'a> {
    of: &'a Value,
    /// The fields' names, where somebody has asked for all of them.
    names: OnceLock<Vec<CelString<'a>>>,
}

impl<'a> Fields<'a> {
    fn names(&self) -> &[CelString<'a>] {
        self.names.get_or_init(|| match self.of {
            Value::Map(map) => map.iter().map(|(name, _)| CelString::from(name)).collect(),
            Value::Struct(fields) => {
                fields.schema().fields().iter().map(|field| CelString::from(field.name.as_str())).collect()
            }
            _ => Vec::new(),
        })
    }

    fn get(&self, name: &dyn Val) -> Option<&'a Value> {
        self.of.field(name.downcast_ref::<CelString<'_>>()?.inner())
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields({})", self.of.type_name())
    }
}

impl Val for Fields<'_> {
    fn get_type(&self) -> &Type {
        &MAP
    }

    fn cel_type() -> &'static Type {
        &MAP
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let same_size = other.as_sizer().is_some_and(|sizer| sizer.size().inner() == self.size().inner());
        let Some(others) = other.as_indexer().filter(|_| same_size) else { return false };
        self.names().iter().all(|name| match (self.get(name), others.get(name)) {
            (Some(value), Ok(other)) => seen(value).equals(&*other),
            _ => false,
        })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(Fields { of: self.of, names: OnceLock::new() })
    }
}

impl Container for Fields<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.get(name).is_some())
    }
}

impl Indexer for Fields<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match Fields::get(self, name) {
            // What lies in the record outlives this view of it.
            Some(value) => Ok(CowVal::Owned(seen(value).into_owned())),
            None => {
                Err(ExecutionError::no_such_key(name.downcast_ref::<CelString<'_>>().map_or("?", |name| name.inner())))
            }
        }
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Indexer::get(&*self, name).map(CowVal::into_owned)
    }
}

impl Iterable for Fields<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(NamesInOrder(self.names().iter()))
    }
}

impl Sizer for Fields<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(self.names().len() as i64)
    }
}

/// The names of a record's fields, in their order.
struct NamesInOrder<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'v, 'a: 'v> traits::Iterator<'b, 'v> for NamesInOrder<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|name| name as &(dyn Val + 'v))
    }
}

/// How deep a result may be nested: as deep as the JSON that comes in.
const DEPTH_MAX: usize = 128;

/// A result as data. The fields of a map that the expression has made come out in the order of their names, those of the record in
/// the record's.
fn value_of(result: &dyn Val, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Err(Error::data(format!("the result is nested more than {DEPTH_MAX} deep")));
    }
    if result.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(flag) = result.downcast_ref::<CelBool>() {
        return Ok(Value::Boolean(*flag.inner()));
    }
    if let Some(number) = result.downcast_ref::<CelInt>() {
        return Ok(Value::Int64(*number.inner()));
    }
    if let Some(number) = result.downcast_ref::<CelUInt>() {
        let number = *number.inner();
        return Ok(i64::try_from(number).map_or_else(|_| Value::Number(number.to_string().into()), Value::Int64));
    }
    if let Some(number) = result.downcast_ref::<CelDouble>() {
        return Ok(Value::Float64(*number.inner()));
    }
    if let Some(text) = result.downcast_ref::<CelString<'_>>() {
        return Ok(Value::from(text.inner()));
    }
    if let Some(bytes) = result.downcast_ref::<CelBytes<'_>>() {
        return Ok(Value::Bytes(bytes.inner().to_vec().into()));
    }
    if let Some(list) = result.downcast_ref::<CelList<'_>>() {
        return list.inner().iter().map(|item| value_of(&**item, depth + 1)).collect::<Result<_>>().map(Value::Array);
    }
    if let Some(optional) = result.downcast_ref::<CelOptional<'_>>() {
        return optional.inner().map_or(Ok(Value::Null), |value| value_of(value, depth + 1));
    }
    let (Some(names), Some(fields)) = (result.as_iterable(), result.as_indexer()) else {
        return Err(Error::data(format!("a result of type {} is no data", result.get_type().name())));
    };
    let (mut names, mut found) = (names.iter(), Vec::new());
    while let Some(name) = names.next() {
        let Some(text) = name.downcast_ref::<CelString<'_>>() else {
            return Err(Error::data(format!("a field's name is text, found {}", name.get_type().name())));
        };
        let value = fields.get(name).map_err(|_| Error::data("a map has lost a field"))?;
        found.push((text.inner().to_owned(), value_of(&*value, depth + 1)?));
    }
    if result.downcast_ref::<CelMap<'_>>().is_some() {
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    let mut map = Map::with_capacity(found.len());
    for (name, value) in found {
        map.insert(name, value);
    }
    Ok(Value::Map(map))
}
