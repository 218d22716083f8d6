//! Properties that hold for every kind of the table.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    DecodeError, MAGIC, decode, encode,
    table::{Field, Form, Index, Shape, Type, table},
    wire::put_bytes,
};

/// Makes objects from the table, in the form that `decode` gives them: no nulls, no empty optional lists, no zeros that are left out.
struct Maker {
    /// State of xorshift64: proptest shrinks the seed, the rest follows.
    state: u64,
}

impl Maker {
    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % bound
    }

    fn object(&mut self, index: Index, depth: usize, object: &mut Map<String, Value>) {
        for field in &table().message(index).fields {
            if let (true, Type::Message(inner)) = (field.inline, field.ty) {
                self.object(inner, depth, object);
                continue;
            }
            // deep down only what has to be there
            if !field.required && (depth > 5 || self.below(3) == 0) {
                continue;
            }
            let count = 1 + self.below(2);
            let value = match field.shape {
                Shape::One => self.value(field, depth),
                Shape::List => (0..count).map(|_| self.value(field, depth)).collect(),
                Shape::Map => Value::Object(
                    (0..count)
                        .map(|i| (format!("key-{i}"), self.value(field, depth)))
                        .collect(),
                ),
            };
            object.insert(field.name.clone(), value);
        }
    }

    fn value(&mut self, field: &Field, depth: usize) -> Value {
        let zero = field.required || field.pointer;
        let number = self.below(1000) as i64 + i64::from(!zero);
        let negative = self.below(4) == 0 && number != 0;
        let number = if negative { -number } else { number };
        match field.ty {
            Type::String => json!(format!("é-{number}")),
            Type::Bool => json!(!zero || number % 2 == 0),
            Type::Int32 => json!(number as i32),
            Type::Int64 => json!(number << 33),
            Type::Double => json!(number as f64 + 0.5),
            Type::Bytes => json!(["AA==", "AQI=", "//79"][number.unsigned_abs() as usize % 3]),
            Type::Message(inner) => self.message(inner, depth + 1),
        }
    }

    fn message(&mut self, index: Index, depth: usize) -> Value {
        let message = table().message(index);
        let part = |maker: &mut Self, tag: u32| maker.value(message.field(tag).unwrap(), depth);
        match message.form {
            Form::Object => {
                let mut object = Map::new();
                self.object(index, depth, &mut object);
                Value::Object(object)
            }
            Form::Time => json!(format!("20{:02}-02-28T23:59:59Z", self.below(100))),
            Form::MicroTime => json!(format!(
                "19{:02}-12-31T00:00:00.{:06}Z",
                self.below(100),
                self.below(1_000_000)
            )),
            Form::Quantity => json!(format!("{}Mi", self.below(100))),
            Form::IntOrString if self.below(2) == 0 => json!("25%"),
            Form::IntOrString => json!(self.below(100)),
            Form::Json => json!({"f:spec": {"a": [null, 1.5, "x"]}}),
            Form::Items => json!(["a", "b"]),
            Form::SchemaOrBool if self.below(2) == 0 => json!(false),
            Form::SchemaOrBool => part(self, 2),
            Form::SchemaOrArray | Form::SchemaOrStrings if self.below(2) == 0 => part(self, 1),
            Form::SchemaOrArray | Form::SchemaOrStrings => json!([part(self, 2)]),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_kind_comes_back(seed in 1u64..) {
        for (name, index) in table().kinds() {
            let (api_version, kind) = name.rsplit_once('/').unwrap();
            let api_version = api_version.replace('*', "v1");
            let mut object = Map::new();
            object.insert("apiVersion".to_owned(), json!(api_version));
            object.insert("kind".to_owned(), json!(kind));
            Maker { state: seed }.object(index, 0, &mut object);
            let object = Value::Object(object);
            let body = encode(&object).unwrap();
            prop_assert_eq!(decode(&body).unwrap(), object);
        }
    }

    #[test]
    fn a_broken_body_is_an_error_and_no_panic(seed in 1u64.., at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (name, index) in table().kinds().filter(|(name, _)| !name.starts_with('*')) {
            let (api_version, kind) = name.rsplit_once('/').unwrap();
            let mut object = Map::new();
            Maker { state: seed }.object(index, 3, &mut object);
            object.insert("apiVersion".to_owned(), json!(api_version));
            object.insert("kind".to_owned(), json!(kind));
            let mut body = encode(&Value::Object(object)).unwrap();
            let at = at.index(body.len());
            let _ = decode(&body[..at]);
            body[at] = byte;
            let _ = decode(&body);
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode(&garbage), Err(DecodeError::NotProtobuf));
        for (name, _) in table().kinds() {
            let (api_version, kind) = name.rsplit_once('/').unwrap();
            let _ = decode(&envelope(api_version, kind, &garbage));
        }
    }
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let (mut type_meta, mut out) = (Vec::new(), MAGIC.to_vec());
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    put_bytes(&mut out, 1, &type_meta);
    put_bytes(&mut out, 2, raw);
    out
}

fn malformed(body: &[u8]) -> String {
    match decode(body) {
        Err(DecodeError::Malformed(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn depth_is_bounded_both_ways() {
    // objects within objects, through RawExtension
    let event = |object: &[u8]| {
        let (mut extension, mut raw) = (Vec::new(), Vec::new());
        put_bytes(&mut extension, 1, object);
        put_bytes(&mut raw, 2, &extension);
        envelope("v1", "WatchEvent", &raw)
    };
    let mut body = event(b"{}");
    assert!(decode(&body).is_ok());
    for _ in 0..200 {
        body = event(&body);
    }
    assert!(malformed(&body).contains("too deep"));

    let mut schema = json!({});
    for _ in 0..200 {
        schema = json!({"not": schema});
    }
    let versions = json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {"versions": versions}});
    assert!(encode(&object).unwrap_err().to_string().ends_with("it nests too deep"));
}

#[test]
fn values_are_bounded() {
    // a Role's rules, two bytes each
    let raw = [0x12, 0].repeat(crate::MAX_VALUES + 1);
    assert!(malformed(&envelope("rbac.authorization.k8s.io/v1", "Role", &raw)).contains("too many values"));
}

#[test]
fn errors_say_what_and_where() {
    let unknown = envelope("inference.setpoint.dev/v1alpha1", "Model", b"");
    assert_eq!(
        decode(&unknown),
        Err(DecodeError::UnknownKind(
            "inference.setpoint.dev/v1alpha1, Kind=Model".to_owned()
        ))
    );
    let text = malformed(&envelope("v1", "Secret", &[0x1a, 1, 0xff]));
    assert_eq!(text, "io.k8s.api.core.v1.Secret, field 3 (type): it is not UTF-8");
    let error = encode(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"labels": {"a": 1}}})).unwrap_err();
    assert_eq!(error.to_string(), "metadata.labels: a string is expected");
    let error = encode(&json!({"apiVersion": "v1", "kind": "Secret", "data": {"a": "%"}})).unwrap_err();
    assert_eq!(error.to_string(), "data: base64 is expected");
    assert!(encode(&json!(null)).is_err());
}
