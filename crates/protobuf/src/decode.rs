//! From protobuf to JSON.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use crate::{
    MAGIC, MAX_DEPTH, MAX_VALUES,
    table::{Field, Form, Index, Message, Shape, Table, Type, table},
    wire::{Raw, Reader},
};

/// Why a body could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The body does not begin with Kubernetes' magic number.
    #[error("the body is not Kubernetes protobuf: it does not begin with k8s and a zero byte")]
    NotProtobuf,
    /// The table has no such kind: `apiVersion, Kind=kind`. Custom resources never have one.
    #[error("no protobuf is known for {0}")]
    UnknownKind(String),
    /// The bytes break the wire format, or a value cannot be written as JSON; says where and what.
    #[error("the protobuf body is malformed: {0}")]
    Malformed(String),
}

/// Reads an object as JSON, with `apiVersion` and `kind` first and the rest as Kubernetes' JSON writes it (the crate's documentation says
/// what becomes of zeros).
///
/// # Errors
/// [`DecodeError`]; the caller answers 400, or 415 for [`DecodeError::UnknownKind`].
pub fn decode(body: &[u8]) -> Result<Value, DecodeError> {
    let table = table();
    Decoder {
        table,
        left: MAX_VALUES,
    }
    .envelope(body, 0)
}

struct Decoder {
    table: &'static Table,
    /// How many more values may be made.
    left: usize,
}

impl Decoder {
    /// An object in its envelope: the magic number and `runtime.Unknown`.
    fn envelope(&mut self, body: &[u8], depth: usize) -> Result<Value, DecodeError> {
        let unknown = body.strip_prefix(MAGIC).ok_or(DecodeError::NotProtobuf)?;
        let at = |why: &str| DecodeError::Malformed(format!("the envelope: {why}"));
        let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
        let mut reader = Reader::new(unknown);
        while let Some((tag, value)) = reader.field().map_err(at)? {
            match (tag, value) {
                (1, Raw::Bytes(type_meta)) => {
                    let mut reader = Reader::new(type_meta);
                    while let Some((tag, value)) = reader.field().map_err(at)? {
                        match (tag, value) {
                            (1, Raw::Bytes(value)) => api_version = text(value).map_err(at)?,
                            (2, Raw::Bytes(value)) => kind = text(value).map_err(at)?,
                            _ => {}
                        }
                    }
                }
                (2, Raw::Bytes(value)) => raw = value,
                (3, Raw::Bytes(encoding)) if !encoding.is_empty() => return Err(at("it has a content encoding")),
                _ => {}
            }
        }
        let index = self
            .table
            .kind(api_version, kind)
            .ok_or_else(|| DecodeError::UnknownKind(format!("{api_version}, Kind={kind}")))?;
        let mut object = Map::new();
        object.insert("apiVersion".to_owned(), Value::from(api_version));
        object.insert("kind".to_owned(), Value::from(kind));
        self.fields(index, raw, &mut object, depth)?;
        Ok(Value::Object(object))
    }

    /// Reads the fields of a message into an object. A message that comes twice is merged, as protobuf has it.
    fn fields(
        &mut self,
        index: Index,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let message = self.table.message(index);
        if depth >= MAX_DEPTH {
            return Err(malformed(message, 0, "it nests too deep"));
        }
        let mut reader = Reader::new(bytes);
        while let Some((tag, raw)) = reader.field().map_err(|why| malformed(message, 0, why))? {
            let Some(field) = message.field(tag) else { continue };
            match field.shape {
                Shape::One => self.one(message, field, raw, object, depth)?,
                Shape::List => self.item(message, field, raw, object, depth)?,
                Shape::Map => self.entry(message, field, raw, object, depth)?,
            }
        }
        for field in message.fields.iter().filter(|field| field.required) {
            match field.shape {
                Shape::One => {}
                Shape::List => drop(object.entry(&field.name).or_insert_with(|| Value::Array(Vec::new()))),
                Shape::Map => drop(object.entry(&field.name).or_insert_with(|| Value::Object(Map::new()))),
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        message: &Message,
        field: &Field,
        raw: Raw<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if let (Type::Message(inner), Raw::Bytes(bytes)) = (field.ty, raw) {
            if field.inline {
                return self.fields(inner, bytes, object, depth + 1);
            }
            if self.table.message(inner).form == Form::Object
                && let Some(Value::Object(before)) = object.get_mut(&field.name)
            {
                return self.fields(inner, bytes, before, depth + 1);
            }
        }
        let value = self.value(message, field, raw, depth)?;
        let kept = match &value {
            Value::Null => false,
            Value::String(text) => field.required || !text.is_empty(),
            Value::Bool(value) => field.required || field.pointer || *value || matches!(field.ty, Type::Message(_)),
            Value::Number(value) => {
                field.required || field.pointer || value.as_f64() != Some(0.0) || matches!(field.ty, Type::Message(_))
            }
            Value::Array(_) | Value::Object(_) => true,
        };
        if kept {
            object.insert(field.name.clone(), value);
        } else {
            object.remove(&field.name);
        }
        Ok(())
    }

    fn item(
        &mut self,
        message: &Message,
        field: &Field,
        raw: Raw<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let mut items = Vec::new();
        match (field.ty, raw) {
            // packed: Kubernetes never writes it, but every reader has to take it
            (Type::Bool | Type::Int32 | Type::Int64 | Type::Double, Raw::Bytes(packed)) => {
                let mut reader = Reader::new(packed);
                while !reader.is_empty() {
                    let raw = match field.ty {
                        Type::Double => reader.fixed64().map(Raw::Fixed64),
                        _ => reader.varint().map(Raw::Varint),
                    };
                    let raw = raw.map_err(|why| malformed(message, field.tag, why))?;
                    items.push(self.value(message, field, raw, depth)?);
                }
            }
            _ => items.push(self.value(message, field, raw, depth)?),
        }
        if let Value::Array(list) = object.entry(&field.name).or_insert_with(|| Value::Array(Vec::new())) {
            list.append(&mut items);
        }
        Ok(())
    }

    /// An entry of a map is a message: 1 the key, 2 the value, each its type's zero when absent.
    fn entry(
        &mut self,
        message: &Message,
        field: &Field,
        raw: Raw<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), DecodeError> {
        let at = |why: &str| malformed(message, field.tag, why);
        let Raw::Bytes(entry) = raw else {
            return Err(at("the wire type is wrong"));
        };
        let mut key = "";
        let mut value = match field.ty {
            Type::String | Type::Bytes | Type::Message(_) => Raw::Bytes(&[]),
            Type::Double => Raw::Fixed64(0),
            Type::Bool | Type::Int32 | Type::Int64 => Raw::Varint(0),
        };
        let mut reader = Reader::new(entry);
        while let Some((tag, raw)) = reader.field().map_err(at)? {
            match (tag, raw) {
                (1, Raw::Bytes(bytes)) => key = text(bytes).map_err(at)?,
                (2, raw) => value = raw,
                _ => {}
            }
        }
        let value = self.value(message, field, value, depth)?;
        if let Value::Object(map) = object.entry(&field.name).or_insert_with(|| Value::Object(Map::new())) {
            map.insert(key.to_owned(), value);
        }
        Ok(())
    }

    fn value(&mut self, message: &Message, field: &Field, raw: Raw<'_>, depth: usize) -> Result<Value, DecodeError> {
        let at = |why: &str| malformed(message, field.tag, why);
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| at("the body has too many values"))?;
        Ok(match (field.ty, raw) {
            (Type::String, Raw::Bytes(bytes)) => Value::from(text(bytes).map_err(at)?),
            (Type::Bool, Raw::Varint(value)) => Value::Bool(value != 0),
            // protobuf sends a negative int32 as 64 bits; the low 32 are the number
            (Type::Int32, Raw::Varint(value)) => Value::from(value as i32),
            (Type::Int64, Raw::Varint(value)) => Value::from(value as i64),
            (Type::Double, Raw::Fixed64(bits)) => {
                number(f64::from_bits(bits)).ok_or_else(|| at("it is not a finite number"))?
            }
            (Type::Bytes, Raw::Bytes(bytes)) => Value::from(STANDARD.encode(bytes)),
            (Type::Message(inner), Raw::Bytes(bytes)) => self.message(inner, bytes, depth + 1)?,
            _ => return Err(at("the wire type is wrong")),
        })
    }

    fn message(&mut self, index: Index, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
        let message = self.table.message(index);
        if message.form == Form::Object {
            let mut object = Map::new();
            self.fields(index, bytes, &mut object, depth)?;
            return Ok(Value::Object(object));
        }
        if message.form == Form::Json {
            return self.json(message, bytes, depth);
        }
        // the others are objects of their fields on the wire, and something shorter in JSON
        let mut parts = Map::new();
        self.fields(index, bytes, &mut parts, depth)?;
        let mut part = |tag: u32| {
            message
                .field(tag)
                .and_then(|field| parts.remove(&field.name))
                .unwrap_or_default()
        };
        Ok(match message.form {
            Form::Object | Form::Json => Value::Null,
            Form::Time | Form::MicroTime if bytes.is_empty() => Value::Null,
            Form::Time | Form::MicroTime => {
                let (seconds, nanos) = (
                    part(1).as_i64().unwrap_or_default(),
                    part(2).as_i64().unwrap_or_default(),
                );
                time(message.form, seconds, nanos)
                    .ok_or_else(|| malformed(message, 0, "the time is outside the years 0 to 9999"))?
            }
            Form::Quantity => match part(1) {
                Value::Null => Value::from(""),
                quantity => quantity,
            },
            Form::IntOrString => match part(1).as_i64() {
                None | Some(0) => Value::from(part(2).as_i64().unwrap_or_default()),
                Some(_) => Value::from(part(3).as_str().unwrap_or_default()),
            },
            Form::Items => match part(1) {
                Value::Null => Value::Array(Vec::new()),
                items => items,
            },
            Form::SchemaOrBool => match part(2) {
                Value::Null => Value::Bool(part(1).as_bool().unwrap_or_default()),
                schema => schema,
            },
            Form::SchemaOrArray | Form::SchemaOrStrings => match part(2) {
                Value::Null => part(1),
                list => list,
            },
        })
    }

    /// JSON text in field 1, or an object in its own envelope.
    fn json(&mut self, message: &Message, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
        let mut embedded: &[u8] = &[];
        let mut reader = Reader::new(bytes);
        while let Some((tag, raw)) = reader.field().map_err(|why| malformed(message, 0, why))? {
            if let (1, Raw::Bytes(bytes)) = (tag, raw) {
                embedded = bytes;
            }
        }
        if embedded.is_empty() {
            Ok(Value::Null)
        } else if embedded.starts_with(MAGIC) {
            self.envelope(embedded, depth)
        } else {
            serde_json::from_slice(embedded).map_err(|error| malformed(message, 1, &format!("it is not JSON: {error}")))
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    str::from_utf8(bytes).map_err(|_| "it is not UTF-8")
}

/// As Go writes it: a whole number has no fraction.
fn number(value: f64) -> Option<Value> {
    // 2^53: below it, every whole double is exactly that integer
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}

fn time(form: Form, seconds: i64, nanos: i64) -> Option<Value> {
    let nanos = if form == Form::Time {
        0
    } else {
        i32::try_from(nanos).ok()?
    };
    let time = Timestamp::new(seconds, nanos).ok()?;
    let written = if form == Form::Time {
        format!("{time:.0}")
    } else {
        format!("{time:.6}")
    };
    // RFC 3339 has four digits for the year
    (!written.starts_with(['-', '+'])).then(|| Value::from(written))
}

/// `tag` 0 stands for the message as a whole.
fn malformed(message: &Message, tag: u32, why: &str) -> DecodeError {
    let name = &message.name;
    DecodeError::Malformed(match message.field(tag).map(|field| field.name.as_str()) {
        Some(field) if !field.is_empty() => format!("{name}, field {tag} ({field}): {why}"),
        _ => format!("{name}: {why}"),
    })
}
