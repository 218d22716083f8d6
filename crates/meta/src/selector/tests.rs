use super::*;
use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn selectors_select() {
    let object = labels(&[("app", "web"), ("tier", "3"), ("empty", "")]);
    for (text, want) in [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app=db", false),
        ("app!=db", true),
        ("none!=db", true),
        ("app in (db, web)", true),
        ("app notin (db,web)", false),
        ("none notin (a)", true),
        ("app", true),
        ("!app", false),
        ("!none", true),
        ("tier>2", true),
        ("tier<3", false),
        ("app>2", false),
        ("empty=", true),
        ("empty in ()", true),
        ("app=web,tier=4", false),
        (" app = web , tier ", true),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), want, "{text}");
    }
    assert!(
        !LabelSelector::parse("app")
            .unwrap()
            .matches(&None::<&BTreeMap<String, String>>)
    );
}

#[test]
fn the_text_is_canonical() {
    for (text, want) in [
        ("b,a", "a,b"),
        ("x in (c,a,b,a)", "x in (a,b,c)"),
        ("x in (,)", "x in ()"),
        ("x in (a,)", "x in (,a)"),
        ("x in (a,,b)", "x in (,a,b)"),
        ("x in ()", "x in ()"),
        ("in in (in,notin)", "in in (in,notin)"),
        ("a=,b=", "a=,b="),
        ("a.io/b==c", "a.io/b==c"),
        ("!a", "!a"),
        ("a!=b", "a!=b"),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), want, "{text}");
    }
}

#[test]
fn messages_are_kubernetes_messages() {
    let texts = [
        "a=b=c",
        "a,",
        ",a",
        "a in b",
        "a in (b",
        "a in (b c)",
        "a~b",
        "a=!",
        "!",
        "a b",
        "a>x",
        "A/=b",
        "a=b c",
    ];
    let lines: Vec<_> = texts
        .iter()
        .map(|t| format!("{t} → {}", LabelSelector::parse(t).unwrap_err()))
        .collect();
    expect![[r#"
        a=b=c → found '=', expected: ',' or 'end of string'
        a, → found '', expected: identifier after ','
        ,a → found ',', expected: !, identifier, or 'end of string'
        a in b → unable to parse requirement: found 'b' expected: '('
        a in (b → unable to parse requirement: found '', expected: ',' or ')'
        a in (b c) → unable to parse requirement: found 'c', expected: ',' or ')'
        a~b → unable to parse requirement: <nil>: Invalid value: "a~b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        a=! → unable to parse requirement: found '!', expected: identifier
        ! → unable to parse requirement: found '', expected: identifier
        a b → unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
        a>x → unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer
        A/=b → unable to parse requirement: <nil>: Invalid value: "A/": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'); name part must be non-empty; name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
        a=b c → found 'c', expected: ',' or 'end of string'"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn the_json_form_reads() {
    let web = labels(&[("app", "web")]);
    let read = |v: Value| LabelSelector::from_json(&v);
    assert!(read(Value::Null).unwrap().is_nothing());
    assert!(!read(Value::Null).unwrap().matches(&web));
    assert!(read(json!({})).unwrap().is_everything());
    let both = read(json!({"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "x", "operator": "DoesNotExist"}, {"key": "app", "operator": "In", "values": ["db", "web"]}]}))
    .unwrap();
    assert_eq!(both.to_string(), "app=web,app in (db,web),!x");
    assert!(both.matches(&web));
    for (bad, want) in [
        (
            json!({"matchExpressions": [{"key": "x", "operator": "Has"}]}),
            "\"Has\" is not a valid label selector operator",
        ),
        (
            json!({"matchExpressions": [{"key": "x", "operator": "In"}]}),
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
        (
            json!({"matchLabels": {"x": 1}}),
            "matchLabels of a label selector has the wrong type",
        ),
    ] {
        assert_eq!(read(bad).unwrap_err().to_string(), want);
    }
}

#[test]
fn field_selectors_select() {
    let selector = FieldSelector::parse(r"metadata.name=x,spec.y!=a\,b,z==").unwrap();
    assert_eq!(selector.to_string(), r"metadata.name=x,spec.y!=a\,b,z=");
    assert_eq!(
        (selector.exact("metadata.name"), selector.exact("spec.y")),
        (Some("x"), None)
    );
    let fields = |y: &'static str| {
        move |f: &str| match f {
            "metadata.name" => "x",
            "spec.y" => y,
            _ => "",
        }
    };
    assert!(selector.matches(fields("a")));
    assert!(!selector.matches(fields("a,b")));
    for (bad, want) in [
        ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
    ] {
        assert_eq!(FieldSelector::parse(bad).unwrap_err().to_string(), want);
    }
}

fn requirements() -> impl Strategy<Value = Requirement> {
    let key = "([a-z]{1,5}\\.io/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,5}[A-Za-z0-9])?|in|notin";
    let value = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,5}[A-Za-z0-9])?)?|in|notin";
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Equals),
        Just(Operator::DoubleEquals),
        Just(Operator::NotEquals),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        Just(Operator::GreaterThan),
        Just(Operator::LessThan),
    ];
    (key, operator, proptest::collection::vec(value, 1..4), any::<u16>()).prop_map(|(key, operator, mut values, n)| {
        match operator {
            Operator::In | Operator::NotIn => {}
            Operator::Exists | Operator::DoesNotExist => values.clear(),
            Operator::GreaterThan | Operator::LessThan => values = vec![n.to_string()],
            _ => values.truncate(1),
        }
        Requirement::new(&key, operator, values).unwrap()
    })
}

proptest! {
    #[test]
    fn label_selectors_read_back(all in proptest::collection::vec(requirements(), 0..5)) {
        let selector = LabelSelector::all(all);
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn field_selectors_read_back(all in proptest::collection::vec(("[a-z.]{1,8}", ".{0,8}", any::<bool>()), 0..5)) {
        let all = all.into_iter().map(|(field, value, negated)| FieldRequirement { field, value, negated }).collect();
        let selector = FieldSelector::all(all);
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn no_text_breaks_the_parsers(text in ".{0,40}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
        let _ = FieldSelector::parse(&text);
    }
}
