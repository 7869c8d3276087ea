//! Compares the matcher with a direct implementation of the rules. The patterns and events are small, so that they often match.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{MatchInput, Pattern};

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_global_rejects: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pattern_matches_an_event_if_and_only_if_the_rules_say_so(pattern in pattern(), event in event()) {
        let compiled = Pattern::compile(&pattern);
        // A pattern with a field outside and inside `$or` is refused.
        prop_assume!(compiled.is_ok() && !lab::pattern::is_ambiguous(&event));
        prop_assert_eq!(compiled.unwrap().matches(MatchInput::new(&event)), lab::pattern::matches(&pattern, &event));
    }

    #[test]
    fn every_operator_follows_the_rules(test in test(), value in scalar()) {
        let (pattern, event) = (json!({ "a": [test] }), json!({ "a": value }));
        prop_assert_eq!(Pattern::compile(&pattern).unwrap().matches(MatchInput::new(&event)), lab::pattern::matches(&pattern, &event));
    }

    #[test]
    fn any_json_follows_the_rules_or_is_refused(pattern in anything(), event in event()) {
        if let Ok(compiled) = Pattern::compile(&pattern) && !lab::pattern::is_ambiguous(&event) {
            prop_assert_eq!(compiled.matches(MatchInput::new(&event)), lab::pattern::matches(&pattern, &event));
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    select(&["a", "b", "c", "a", "b", "c", "a.b", "b.c", "b.c.a", "a.", ""][..]).prop_map(String::from)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        1 => (0..3).prop_map(Value::from),
        1 => select(vec![json!(1.0), json!(1.5), json!(true), json!(false), json!(null)]),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[xyX]{0,5}",
        1 => select(&["10.0.0.1", "10.0.1.1", "2001:db8::1", "x*", "É", "é"][..]).prop_map(String::from),
    ]
}

fn event() -> impl Strategy<Value = Value> {
    let inner = scalar().prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((name(), inner), 0..4).prop_map(|fields| fields.into_iter().collect()),
        ]
    });
    vec((name(), inner), 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn pattern() -> impl Strategy<Value = Value> {
    let values = vec(test(), 1..3).prop_map(Value::from);
    let required = values.prop_recursive(2, 8, 2, |inner| fields(inner).prop_map(Value::from));
    let or = vec(fields(required.clone()), 2..4).prop_map(Value::from);
    (fields(required), prop::option::weighted(0.3, or)).prop_map(|(mut fields, or)| {
        fields.extend(or.map(|or| ("$or".to_owned(), or)));
        Value::from(fields)
    })
}

fn fields(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    vec((name(), value), 1..3).prop_map(|fields| fields.into_iter().collect())
}

/// One entry of an array of values.
fn test() -> impl Strategy<Value = Value> {
    let numeric = prop_oneof![
        (select(&["=", "<", "<=", ">", ">="][..]), 0..3).prop_map(|(operator, number)| json!([operator, number])),
        (select(&[">", ">="][..]), select(&["<", "<="][..])).prop_map(|(from, to)| json!([from, 0, to, 2])),
    ];
    let wildcard = select(&["*", "x*", "*x", "x*y*", "*x*y", "*x*y*", "*xy*x*", r"x\*", "xy"][..]);
    let none = prop_oneof![
        text().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        vec(text(), 1..3).prop_map(Value::from),
        (select(&["prefix", "suffix", "equals-ignore-case"][..]), "[xy]{1,2}")
            .prop_map(|(name, text)| json!({ name: text })),
        vec(wildcard.clone(), 1..3).prop_map(|texts| json!({ "wildcard": texts })),
    ];
    prop_oneof![
        4 => scalar(),
        2 => any::<bool>().prop_map(|exists| json!({ "exists": exists })),
        2 => (select(&["prefix", "suffix", "equals-ignore-case"][..]), text()).prop_map(|(name, text)| json!({ name: text })),
        1 => (select(&["prefix", "suffix"][..]), text()).prop_map(|(name, text)| json!({ name: { "equals-ignore-case": text } })),
        3 => wildcard.prop_map(|text| json!({ "wildcard": text })),
        1 => numeric.prop_map(|limits| json!({ "numeric": limits })),
        1 => select(&["10.0.0.0/24", "10.0.0.0/0", "10.0.0.1/32", "2001:db8::/32"][..]).prop_map(|block| json!({ "cidr": block })),
        2 => none.prop_map(|none| json!({ "anything-but": none })),
    ]
}

/// Any JSON made of the words of patterns. Most of it is not a valid pattern.
fn anything() -> impl Strategy<Value = Value> {
    const OPERATORS: &[&str] =
        &["exists", "prefix", "suffix", "numeric", "cidr", "wildcard", "anything-but", "equals-ignore-case"];
    let word = prop_oneof![4 => name(), 1 => Just("$or".to_owned()), 2 => select(OPERATORS).prop_map(String::from)];
    let scalar = prop_oneof![
        scalar(),
        any::<f64>().prop_map(Value::from),
        test(),
        test(),
        vec(test(), 1..3).prop_map(Value::from)
    ];
    let inner = scalar.prop_recursive(4, 16, 3, {
        let word = word.clone();
        move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Value::from),
                vec((word.clone(), inner), 0..3).prop_map(|fields| fields.into_iter().collect()),
            ]
        }
    });
    vec((word, inner), 0..3).prop_map(|fields| fields.into_iter().collect())
}
