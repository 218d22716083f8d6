use super::*;
use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

fn decode(text: &str) -> Value {
    decode_json(text.as_bytes()).unwrap().0
}

#[test]
fn values_are_what_go_makes_of_them() {
    for (text, want) in [
        (" null\n", json!(null)),
        ("[true , false]", json!([true, false])),
        ("-0", json!(0)),
        ("9223372036854775807", json!(i64::MAX)),
        ("18446744073709551615", json!(u64::MAX)),
        ("18446744073709551616", json!(18446744073709551616.0)),
        ("1.0", json!(1.0)),
        ("1e3", json!(1000.0)),
        (
            r#""\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
            json!("\"\\/\u{8}\u{c}\n\r\té😀"),
        ),
        (r#""\ud83dx\udc00\ud83d\u0041""#, json!("\u{fffd}x\u{fffd}\u{fffd}A")),
        ("{\"a\":{},\"b\":[]}", json!({"a": {}, "b": []})),
    ] {
        let value = decode(text);
        assert_eq!(value, want, "{text}");
        assert_eq!(value.is_f64(), want.is_f64(), "{text}");
    }
    assert_eq!(decode_json(b"\"\xff\"").unwrap().0, json!("\u{fffd}"));
}

#[test]
fn errors_say_what_was_found_and_where() {
    let deep = "[".repeat(MAX_DEPTH + 1);
    let texts = [
        "",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "[1 2]",
        "[1,]",
        "1 2",
        "{\n  \"a\": x\n}",
        "tru",
        "trux",
        "01",
        "-",
        "1.",
        "1e",
        "1e999",
        "\"a",
        "\"a\nb\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\u{feff}1",
        "'a'",
        &deep,
    ];
    let lines: Vec<_> = texts
        .iter()
        .map(|text| {
            let short: String = text.chars().take(12).collect();
            format!("{short:?} → {}", decode_json(text.as_bytes()).unwrap_err())
        })
        .collect();
    expect![[r#"
        "" → unexpected end of JSON input at line 1, column 1
        "{" → unexpected end of JSON input at line 1, column 2
        "{\"a\"" → unexpected end of JSON input at line 1, column 5
        "{\"a\":" → unexpected end of JSON input at line 1, column 6
        "{\"a\":1" → unexpected end of JSON input at line 1, column 7
        "{\"a\":1,}" → invalid character '}' looking for beginning of object key string at line 1, column 8
        "{a:1}" → invalid character 'a' looking for beginning of object key string at line 1, column 2
        "{\"a\" 1}" → invalid character '1' after object key at line 1, column 6
        "[1 2]" → invalid character '2' after array element at line 1, column 4
        "[1,]" → invalid character ']' looking for beginning of value at line 1, column 4
        "1 2" → invalid character '2' after top-level value at line 1, column 3
        "{\n  \"a\": x\n}" → invalid character 'x' looking for beginning of value at line 2, column 8
        "tru" → unexpected end of JSON input at line 1, column 4
        "trux" → invalid character 'x' in literal true (expecting 'e') at line 1, column 4
        "01" → invalid character '1' after top-level value at line 1, column 2
        "-" → unexpected end of JSON input at line 1, column 2
        "1." → unexpected end of JSON input at line 1, column 3
        "1e" → unexpected end of JSON input at line 1, column 3
        "1e999" → json: cannot unmarshal number 1e999 into Go value of type float64 at line 1, column 1
        "\"a" → unexpected end of JSON input at line 1, column 3
        "\"a\nb\"" → invalid character '\n' in string literal at line 1, column 3
        "\"\\x\"" → invalid character 'x' in string escape code at line 1, column 3
        "\"\\u12g4\"" → invalid character 'g' in \u hexadecimal character escape at line 1, column 6
        "\u{feff}1" → invalid character '\xef' looking for beginning of value at line 1, column 1
        "'a'" → invalid character '\'' looking for beginning of value at line 1, column 1
        "[[[[[[[[[[[[" → exceeded max depth of 100 at line 1, column 101"#]]
    .assert_eq(&lines.join("\n"));
    let error = decode_json(b"{\n  \"a\": x\n}").unwrap_err();
    assert_eq!((error.offset, error.line, error.column), (9, 2, 8));
}

#[test]
fn depth_is_bounded_and_not_by_the_number_of_siblings() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(decode_json(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert!(decode_json(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    assert!(decode_json(format!("[{}{{}}]", "{},".repeat(3 * MAX_DEPTH)).as_bytes()).is_ok());
}

#[test]
fn duplicates_are_named_once_and_the_last_wins() {
    let (value, duplicates) = decode_json(br#"{"a":1,"b":[{"c":1,"c":2}],"a":2,"a":3}"#).unwrap();
    assert_eq!(value, json!({"a": 3, "b": [{"c": 2}]}));
    let texts: Vec<_> = duplicates.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["duplicate field \"b[0].c\"", "duplicate field \"a\""]);
    let many: Vec<String> = (0..300).map(|i| format!("\"k{i}\":1,\"k{i}\":1")).collect();
    assert_eq!(
        decode_json(format!("{{{}}}", many.join(",")).as_bytes())
            .unwrap()
            .1
            .len(),
        MAX_DUPLICATES
    );
}

pub(crate) fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_itself(value in json_values()) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            prop_assert_eq!(decode_json(text.as_bytes()), Ok((value.clone(), vec![])));
        }
    }

    #[test]
    fn we_accept_exactly_what_another_decoder_accepts(text in r#"([\[\]{},:]|"[a\\"]{0,3}"|-?[0-9]{1,2}|\.5|e1|true|null| ){0,12}"#) {
        let (ours, theirs) = (decode_json(text.as_bytes()), serde_json::from_str::<Value>(&text));
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
        if let (Ok((ours, _)), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Err(error) = decode_json(&bytes) {
            prop_assert!(error.offset <= bytes.len() && error.line >= 1 && error.column >= 1);
        }
    }
}
