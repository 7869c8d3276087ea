//! Explains why a pattern does not match an event: which fields fail, what the event has there, and what the pattern requires. It is for
//! people who look for a mistake, and takes longer than a match. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{Fields, Found, MatchInput, Node, Pattern, Requirement, Search, Test, Verdict};
use crate::text;

/// The maximum length of a value in an explanation, in characters.
const VALUE: usize = 120;
/// The maximum number of values or names in an explanation.
const SHOWN: usize = 12;

/// A field of the pattern, by the names along its path, with its tests.
type Leaf<'a> = (Vec<&'a str>, &'a Arc<[Test]>);

impl Pattern {
    /// One sentence for each field that does not match, for the alternative of `$or` with the fewest such fields. Empty if the pattern
    /// matches, or may match depending on the tags of the service.
    pub fn mismatches(&self, input: MatchInput<'_>) -> Vec<String> {
        if !matches!(self.evaluate(input), Verdict::No) {
            return Vec::new();
        }
        let all = self.alternatives.iter().map(|alternative| mismatches(&alternative.event, input));
        let mut nearest = all.min_by_key(Vec::len).unwrap_or_default();
        if let (1.., several @ 2..) = (nearest.len(), self.alternatives.len()) {
            nearest[0] += &format!(" (the nearest of the {several} alternatives of $or)");
        }
        nearest
    }
}

fn mismatches(fields: &Fields, input: MatchInput<'_>) -> Vec<String> {
    let mut leaves = Vec::new();
    collect(fields, &mut Vec::new(), &mut leaves);
    let root = [Node::of(input.event)];
    let fails = |(path, tests): &&Leaf<'_>| input.search(fields).all(&only(path, tests), &root) == Found::No;
    let failed: Vec<String> = leaves
        .iter()
        .filter(fails)
        .map(|(path, tests)| {
            let field = path.join(".");
            format!("{} {}", text::line(&field, VALUE), difference(&input.search(fields), root[0], path, tests))
        })
        .collect();
    if !failed.is_empty() {
        return failed;
    }
    let names: Vec<String> = leaves.iter().map(|(path, _)| text::line(&path.join("."), VALUE)).collect();
    vec![format!("no single element of the event's arrays has all of {}", some(&names))]
}

/// Every field with tests below `fields`.
fn collect<'a>(fields: &'a Fields, path: &mut Vec<&'a str>, leaves: &mut Vec<Leaf<'a>>) {
    for (name, Requirement { tests, fields }) in fields {
        path.push(name);
        leaves.extend(tests.as_ref().map(|tests| (path.clone(), tests)));
        collect(fields, path, leaves);
        path.pop();
    }
}

/// A pattern of this field only.
fn only(path: &[&str], tests: &Arc<[Test]>) -> Fields {
    let leaf = Requirement { tests: Some(Arc::clone(tests)), fields: BTreeMap::new() };
    let [above @ .., last] = path else { return BTreeMap::new() };
    above.iter().rev().fold(BTreeMap::from([((*last).to_owned(), leaf)]), |fields, name| {
        BTreeMap::from([((*name).to_owned(), Requirement { tests: None, fields })])
    })
}

/// `is "A"; wanted: "B", "C"`, or `is not in the event; detail has …`.
fn difference(search: &Search, event: Node<'_>, path: &[&str], tests: &[Test]) -> String {
    let mut here = vec![event];
    for (depth, name) in path.iter().enumerate() {
        let at = elements(&here);
        here = search.below(&at, name);
        if here.is_empty() {
            return format!("is not in the event; {}", siblings(&at, &path[..depth]));
        }
    }
    let values: Vec<String> =
        elements(&here).iter().filter_map(Node::scalar).map(|value| text::line(&value.to_string(), VALUE)).collect();
    let wanted: Vec<String> = tests.iter().map(describe).collect();
    match values.as_slice() {
        [] => format!("is an object or an empty array; wanted: {}", some(&wanted)),
        values => format!("is {}; wanted: {}", some(values), some(&wanted)),
    }
}

/// The values in `here`, with the elements in place of each array.
fn elements<'a>(here: &[Node<'a>]) -> Vec<Node<'a>> {
    let mut found = Vec::new();
    let mut rest: Vec<Node<'a>> = here.iter().rev().copied().collect();
    while let Some(at) = rest.pop() {
        match at.elements() {
            Some(elements) => rest.extend(elements.iter().rev().map(Node::of)),
            None => found.push(at),
        }
    }
    found
}

/// The names of the fields that exist beside the missing one.
fn siblings(at: &[Node<'_>], above: &[&str]) -> String {
    let mut names: Vec<String> = Vec::new();
    for fields in at.iter().filter(|at| at.rest.is_none()).filter_map(|at| at.value.as_object()) {
        for name in fields.keys().map(|name| text::line(name, VALUE)) {
            if !names.contains(&name) && names.len() <= SHOWN {
                names.push(name);
            }
        }
    }
    let place = if above.is_empty() { "the event".to_owned() } else { text::line(&above.join("."), VALUE) };
    if names.is_empty() { format!("{place} has no fields") } else { format!("{place} has {}", some(&names)) }
}

fn some(items: &[String]) -> String {
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN { format!("{shown}, …") } else { shown }
}

fn describe(test: &Test) -> String {
    let quoted = |text: &str| text::line(&Value::from(text).to_string(), VALUE);
    match test {
        Test::Exists => "any value".into(),
        Test::Absent => "no value".into(),
        Test::Equals(value) => text::line(&value.to_string(), VALUE),
        Test::Prefix(text) => format!("prefix {}", quoted(text)),
        Test::Suffix(text) => format!("suffix {}", quoted(text)),
        Test::EqualsIgnoreCase(text) => format!("{} in any case", quoted(text)),
        Test::PrefixIgnoreCase(text) => format!("prefix {} in any case", quoted(text)),
        Test::SuffixIgnoreCase(text) => format!("suffix {} in any case", quoted(text)),
        Test::Wildcard(pieces) => format!("wildcard {}", quoted(&pieces.join("*"))),
        Test::Numeric(low, high) => {
            use std::ops::Bound::{Excluded, Included, Unbounded};
            let low = match low {
                Included(low) => Some(format!(">= {low}")),
                Excluded(low) => Some(format!("> {low}")),
                Unbounded => None,
            };
            let high = match high {
                Included(high) => Some(format!("<= {high}")),
                Excluded(high) => Some(format!("< {high}")),
                Unbounded => None,
            };
            format!("a number {}", low.into_iter().chain(high).collect::<Vec<_>>().join(" and "))
        }
        Test::Cidr(network, bits) => format!("an address in {network}/{bits}"),
        Test::AnythingBut(tests) => {
            format!("anything but {}", tests.iter().map(describe).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mismatches(pattern: Value, event: Value) -> Vec<String> {
        Pattern::compile(&pattern).unwrap().mismatches(MatchInput::new(&event))
    }

    fn event() -> Value {
        json!({
            "source": "aws.ecs",
            "resources": ["arn:aws:ecs:eu-west-1:1:service/shop/checkout"],
            "detail": {
                "eventName": "SERVICE_TASK_START_IMPAIRED", "eventType": "WARN", "exitCode": 137,
                "containers": [{ "name": "app", "exitCode": 0 }, { "name": "sidecar", "exitCode": 1 }],
            },
        })
    }

    #[test]
    fn each_field_that_does_not_match_is_named_with_what_is_there_and_what_is_wanted() {
        for (pattern, expected) in [
            (
                json!({ "source": ["aws.ecs"], "detail": { "eventType": ["ERROR", { "prefix": "CRIT" }] } }),
                vec![r#"detail.eventType is "WARN"; wanted: "ERROR", prefix "CRIT""#],
            ),
            (
                json!({ "resources": [{ "wildcard": "*:service/search-*" }], "source": ["aws.ec2"] }),
                vec![
                    r#"resources is "arn:aws:ecs:eu-west-1:1:service/shop/checkout"; wanted: wildcard "*:service/search-*""#,
                    r#"source is "aws.ecs"; wanted: "aws.ec2""#,
                ],
            ),
            (
                json!({ "detail": { "evenName": [{ "exists": true }] } }),
                vec!["detail.evenName is not in the event; detail has containers, eventName, eventType, exitCode"],
            ),
            (
                json!({ "detial": { "eventName": ["x"] } }),
                vec!["detial.eventName is not in the event; the event has detail, resources, source"],
            ),
            (
                json!({ "detail": { "exitCode": [{ "numeric": [">", 0, "<=", 10] }] } }),
                vec!["detail.exitCode is 137; wanted: a number > 0 and <= 10"],
            ),
            (
                json!({ "detail": { "eventName": [{ "anything-but": ["SERVICE_TASK_START_IMPAIRED"] }] } }),
                vec![
                    r#"detail.eventName is "SERVICE_TASK_START_IMPAIRED"; wanted: anything but "SERVICE_TASK_START_IMPAIRED""#,
                ],
            ),
            (
                json!({ "detail": { "eventName": [{ "exists": false }] } }),
                vec![r#"detail.eventName is "SERVICE_TASK_START_IMPAIRED"; wanted: no value"#],
            ),
            (
                json!({ "detail": { "containers": ["app"] } }),
                vec![r#"detail.containers is an object or an empty array; wanted: "app""#],
            ),
            (
                json!({ "detail": { "containers": { "name": ["app"], "exitCode": [1] } } }),
                vec![
                    "no single element of the event's arrays has all of detail.containers.exitCode, detail.containers.name",
                ],
            ),
            (json!({ "source": ["aws.ecs"] }), vec![]),
        ] {
            assert_eq!(mismatches(pattern.clone(), event()), expected, "{pattern}");
        }
    }

    #[test]
    fn if_there_are_alternatives_the_nearest_one_is_explained() {
        let pattern = json!({ "$or": [
            { "source": ["a"], "detail": { "eventType": ["INFO"] } },
            { "source": ["aws.ecs"], "detail": { "eventType": ["INFO"] } },
        ] });
        assert_eq!(
            mismatches(pattern, event()),
            [r#"detail.eventType is "WARN"; wanted: "INFO" (the nearest of the 2 alternatives of $or)"#]
        );
    }

    #[test]
    fn an_explanation_has_no_control_characters_of_the_event() {
        let event = json!({ "source": "\u{1b}[2Jx\u{202e}", "\u{1b}[1m": 1, "b": "a\nb" });
        for said in mismatches(json!({ "source": ["y"], "c": ["z"] }), event) {
            assert!(!said.contains(text::is_display_control), "{said:?}");
        }
    }
}
