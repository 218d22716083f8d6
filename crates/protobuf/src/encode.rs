//! From JSON to protobuf.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{
    MAGIC, MAX_DEPTH,
    table::{Field, Form, Index, Shape, Table, Type, table},
    wire::{put_bytes, put_double, put_number},
};

/// Why an object could not be written. Objects that passed their kind's validation are always written, unless the kind is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The table has no such kind: `apiVersion, Kind=kind`. The caller answers 406, or in JSON when the client takes it.
    #[error("no protobuf is known for {0}")]
    UnknownKind(String),
    /// A value does not have the type that its field has.
    #[error("{path}: {why}")]
    Mismatch {
        /// The field, such as `metadata.generation`; list items and map values are under the name of their field.
        path: String,
        /// What it should have been.
        why: &'static str,
    },
}

/// Writes an object, envelope included. Fields are in the order of their tags and maps in the order of their keys, so that equal objects
/// give equal bytes. Nulls and fields that the table does not have are left out.
///
/// # Errors
/// [`EncodeError`].
pub fn encode(object: &Value) -> Result<Vec<u8>, EncodeError> {
    let (api_version, kind) = (read(object, "apiVersion"), read(object, "kind"));
    let table = table();
    let index = table
        .kind(api_version, kind)
        .ok_or_else(|| EncodeError::UnknownKind(format!("{api_version}, Kind={kind}")))?;
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let raw = Encoder {
        table,
        path: Vec::new(),
        depth: 0,
    }
    .message(index, object)?;
    let mut out = Vec::with_capacity(raw.len() + type_meta.len() + 32);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, &raw);
    // Go writes both, empty
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

fn read<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

struct Encoder {
    table: &'static Table,
    /// The fields around.
    path: Vec<&'static str>,
    /// How many messages are around, counted as the decoder counts them.
    depth: usize,
}

impl Encoder {
    fn mismatch(&self, why: &'static str) -> EncodeError {
        EncodeError::Mismatch {
            path: self.path.join("."),
            why,
        }
    }

    fn message(&mut self, index: Index, value: &Value) -> Result<Vec<u8>, EncodeError> {
        let message = self.table.message(index);
        if self.depth >= MAX_DEPTH {
            return Err(self.mismatch("it nests too deep"));
        }
        self.depth += 1;
        let mut out = Vec::new();
        match message.form {
            Form::Object => {
                let object = value
                    .as_object()
                    .ok_or_else(|| self.mismatch("an object is expected"))?;
                self.fields(index, object, &mut out)?;
            }
            Form::Time | Form::MicroTime => self.time(message.form, value, &mut out)?,
            Form::Quantity => match value {
                Value::String(text) => put_bytes(&mut out, 1, text.as_bytes()),
                // JSON may have a bare number
                Value::Number(number) => put_bytes(&mut out, 1, number.to_string().as_bytes()),
                _ => return Err(self.mismatch("a quantity is expected")),
            },
            Form::IntOrString => {
                let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
                let (ty, number, text) = match (number, value.as_str()) {
                    (Some(number), _) => (0, number, ""),
                    (None, Some(text)) => (1, 0, text),
                    (None, None) => return Err(self.mismatch("a 32-bit number or a string is expected")),
                };
                put_number(&mut out, 1, ty);
                put_number(&mut out, 2, i64::from(number) as u64);
                put_bytes(&mut out, 3, text.as_bytes());
            }
            Form::Json => put_bytes(&mut out, 1, value.to_string().as_bytes()),
            Form::Items => self.part(index, 1, value, &mut out)?,
            Form::SchemaOrBool => match value {
                Value::Bool(allows) => put_number(&mut out, 1, u64::from(*allows)),
                schema => {
                    put_number(&mut out, 1, 1);
                    self.part(index, 2, schema, &mut out)?;
                }
            },
            Form::SchemaOrArray | Form::SchemaOrStrings => {
                let tag = if value.is_array() { 2 } else { 1 };
                self.part(index, tag, value, &mut out)?;
            }
        }
        self.depth -= 1;
        Ok(out)
    }

    fn fields(&mut self, index: Index, object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        for field in &self.table.message(index).fields {
            if let (true, Type::Message(inner)) = (field.inline, field.ty) {
                let mut embedded = Vec::new();
                self.fields(inner, object, &mut embedded)?;
                put_bytes(out, field.tag, &embedded);
            } else if let Some(value) = object.get(&field.name).filter(|value| !value.is_null()) {
                self.path.push(&field.name);
                self.field(field, value, out)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// One field of a message that JSON writes as that field alone.
    fn part(&mut self, index: Index, tag: u32, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self.table.message(index).field(tag) {
            Some(field) => self.field(field, value, out),
            None => Ok(()),
        }
    }

    fn field(&mut self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match field.shape {
            Shape::One => self.value(field.ty, field.tag, value, out),
            Shape::List => {
                let items = value.as_array().ok_or_else(|| self.mismatch("a list is expected"))?;
                items
                    .iter()
                    .try_for_each(|item| self.value(field.ty, field.tag, item, out))
            }
            Shape::Map => {
                let map = value.as_object().ok_or_else(|| self.mismatch("a map is expected"))?;
                let mut entries: Vec<(&String, &Value)> = map.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    self.value(field.ty, 2, value, &mut entry)?;
                    put_bytes(out, field.tag, &entry);
                }
                Ok(())
            }
        }
    }

    fn value(&mut self, ty: Type, tag: u32, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match ty {
            Type::String => {
                let text = value.as_str().ok_or_else(|| self.mismatch("a string is expected"))?;
                put_bytes(out, tag, text.as_bytes());
            }
            Type::Bool => {
                let value = value.as_bool().ok_or_else(|| self.mismatch("a boolean is expected"))?;
                put_number(out, tag, u64::from(value));
            }
            Type::Int32 => {
                let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
                let number = number.ok_or_else(|| self.mismatch("a 32-bit number is expected"))?;
                put_number(out, tag, i64::from(number) as u64);
            }
            Type::Int64 => {
                let number = value
                    .as_i64()
                    .ok_or_else(|| self.mismatch("a 64-bit number is expected"))?;
                put_number(out, tag, number as u64);
            }
            Type::Double => {
                let number = value.as_f64().ok_or_else(|| self.mismatch("a number is expected"))?;
                put_double(out, tag, number);
            }
            Type::Bytes => {
                let text = value.as_str().ok_or_else(|| self.mismatch("base64 is expected"))?;
                let bytes = STANDARD.decode(text).map_err(|_| self.mismatch("base64 is expected"))?;
                put_bytes(out, tag, &bytes);
            }
            Type::Message(inner) => {
                let message = self.message(inner, value)?;
                put_bytes(out, tag, &message);
            }
        }
        Ok(())
    }

    fn time(&self, form: Form, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let time: Timestamp = value
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.mismatch("an RFC 3339 time is expected"))?;
        // jiff counts the fraction away from 1970; protobuf always forwards
        let nanos = time.as_nanosecond();
        let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
        put_number(out, 1, seconds as i64 as u64);
        put_number(out, 2, if form == Form::Time { 0 } else { fraction as u64 });
        Ok(())
    }
}
