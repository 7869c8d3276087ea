//! A slow and simple implementation of EventBridge patterns. The property tests and the fuzzer compare the program's matcher with it. Pure.
//!
//! It follows the description of how event-ruler works. An event is the list of its scalar values. Each value has a path, which is its names
//! joined by dots, and the array elements that contain it. A pattern matches if a value can be chosen for each of its fields so that the
//! chosen values agree on the array elements. The operators are those of "Comparison operators for use in event patterns" in the
//! EventBridge user guide.

use std::net::IpAddr;

use serde_json::{Map, Value};

/// Whether `event` matches `pattern`, which must be one that EventBridge accepts.
pub fn matches(pattern: &Value, event: &Value) -> bool {
    let Some(fields) = pattern.as_object().filter(|_| event.is_object()) else { return false };
    let mut leaves = Vec::new();
    flatten(event, &mut Vec::new(), &mut Vec::new(), &mut 0, &mut leaves);
    clauses(fields, &[]).iter().any(|clause| can_be_met(clause, &leaves, &[], &[]))
}

/// A scalar of the event.
struct Leaf<'a> {
    path: Vec<&'a str>,
    value: &'a Value,
    /// The array elements that contain it.
    elements: Vec<Element>,
}

impl Leaf<'_> {
    /// event-ruler compares paths as text: the names joined by dots.
    fn is_at(&self, path: &[&str]) -> bool {
        self.path.join(".") == path.join(".")
    }
}

/// Whether one path leads to several places of the event, because of dots in its names, and one of them contains an array. The rules do not
/// say which elements then belong together.
pub fn is_ambiguous(event: &Value) -> bool {
    let mut places = vec![(Vec::new(), event)];
    let mut next = 0;
    while let Some((path, value)) = places.get(next).cloned() {
        match value {
            Value::Object(fields) => {
                places.extend(fields.iter().map(|(name, value)| ([&path[..], &[name.as_str()]].concat(), value)));
            }
            Value::Array(elements) => places.extend(elements.iter().map(|element| (path.clone(), element))),
            _ => {}
        }
        next += 1;
    }
    let arrays = || places.iter().filter(|(_, value)| value.is_array());
    places.iter().any(|(path, _)| {
        let joined = path.join(".") + ".";
        arrays().any(|(array, _)| joined.starts_with(&(array.join(".") + ".")) && !path.starts_with(array))
    })
}

/// The number of the array, and the index of the element in it.
type Element = (usize, usize);

fn flatten<'a>(
    value: &'a Value,
    path: &mut Vec<&'a str>,
    within: &mut Vec<Element>,
    arrays: &mut usize,
    leaves: &mut Vec<Leaf<'a>>,
) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                path.push(name);
                flatten(value, path, within, arrays, leaves);
                path.pop();
            }
        }
        Value::Array(elements) => {
            *arrays += 1;
            let array = *arrays;
            for (index, element) in elements.iter().enumerate() {
                within.push((array, index));
                flatten(element, path, within, arrays, leaves);
                within.pop();
            }
        }
        scalar => leaves.push(Leaf { path: path.clone(), value: scalar, elements: within.clone() }),
    }
}

/// The path of a field, and its tests (values and operators). The field must pass one of them.
type Required<'a> = (Vec<&'a str>, &'a [Value]);

/// The pattern without `$or`: the event must meet all fields of one of these lists.
fn clauses<'a>(fields: &'a Map<String, Value>, path: &[&'a str]) -> Vec<Vec<Required<'a>>> {
    let mut all = vec![Vec::new()];
    for (name, value) in fields {
        let here: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        let options = match value {
            Value::Array(options) if name == "$or" => {
                options.iter().filter_map(Value::as_object).flat_map(|option| clauses(option, path)).collect()
            }
            Value::Array(tests) => vec![vec![(here, tests.as_slice())]],
            Value::Object(inner) => clauses(inner, &here),
            _ => Vec::new(),
        };
        all = all.iter().flat_map(|clause| options.iter().map(|option| [&clause[..], &option[..]].concat())).collect();
    }
    all
}

/// Tries every value for the first field, then does the same for the other fields.
fn can_be_met(clause: &[Required], leaves: &[Leaf], chosen: &[Element], absent: &[&[&str]]) -> bool {
    let agrees =
        |leaf: &&Leaf| leaf.elements.iter().all(|(array, index)| chosen.iter().all(|(a, i)| a != array || i == index));
    let Some(((path, tests), rest)) = clause.split_first() else {
        return absent.iter().all(|path| !leaves.iter().filter(agrees).any(|leaf| leaf.is_at(path)));
    };
    let of_field = leaves.iter().filter(agrees).filter(|leaf| leaf.is_at(path));
    let passing = of_field.filter(|leaf| tests.iter().any(|test| passes(test, leaf.value)));
    let may_be_absent = tests.iter().any(|test| test["exists"] == false);
    passing.into_iter().any(|leaf| can_be_met(rest, leaves, &[chosen, &leaf.elements].concat(), absent))
        || (may_be_absent && can_be_met(rest, leaves, chosen, &[absent, &[path]].concat()))
}

fn passes(test: &Value, value: &Value) -> bool {
    let Some((operator, operand)) = test.as_object().and_then(|operator| operator.iter().next()) else {
        return equal(test, value);
    };
    let text = value.as_str();
    let with = |holds: fn(&str, &str) -> bool| text.zip(operand.as_str()).is_some_and(|(text, with)| holds(text, with));
    match (operator.as_str(), operand) {
        ("exists", _) => operand == true,
        ("anything-but", Value::Array(none)) => !none.iter().any(|not| passes(not, value)),
        ("anything-but", Value::Object(not)) => !not.iter().any(|(operator, operand)| {
            let operands = operand.as_array().map_or(std::slice::from_ref(operand), Vec::as_slice);
            operands.iter().any(|operand| passes(&Value::from_iter([(operator.clone(), operand.clone())]), value))
        }),
        ("anything-but", not) => !equal(not, value),
        ("prefix", Value::Object(folded)) => text
            .zip(folded["equals-ignore-case"].as_str())
            .is_some_and(|(text, with)| lower(text).starts_with(&lower(with))),
        ("suffix", Value::Object(folded)) => text
            .zip(folded["equals-ignore-case"].as_str())
            .is_some_and(|(text, with)| lower(text).ends_with(&lower(with))),
        ("prefix", _) => with(|text, with| text.starts_with(with)),
        ("suffix", _) => with(|text, with| text.ends_with(with)),
        ("equals-ignore-case", _) => with(|text, with| lower(text) == lower(with)),
        ("wildcard", _) => {
            with(|text, with| is_like(&text.chars().collect::<Vec<_>>(), &with.chars().collect::<Vec<_>>()))
        }
        ("numeric", Value::Array(limits)) => value.is_number() && limits.chunks(2).all(|limit| is_within(limit, value)),
        ("cidr", _) => with(is_in_block),
        _ => false,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    let whole = |value: &Value| value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a == b,
        _ if a.is_number() && b.is_number() => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn is_like(text: &[char], pattern: &[char]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        (['*', rest @ ..], _) => (0..=text.len()).any(|skipped| is_like(&text[skipped..], rest)),
        (['\\', wanted, pattern @ ..], [first, text @ ..]) | ([wanted, pattern @ ..], [first, text @ ..]) => {
            first == wanted && is_like(text, pattern)
        }
        (_, []) => false,
    }
}

fn is_within(limit: &[Value], value: &Value) -> bool {
    let (Some(value), Some(limit), Some(operator)) = (value.as_f64(), limit[1].as_f64(), limit[0].as_str()) else {
        return false;
    };
    match operator {
        "=" => value == limit,
        "<" => value < limit,
        "<=" => value <= limit,
        ">" => value > limit,
        ">=" => value >= limit,
        _ => false,
    }
}

fn is_in_block(address: &str, block: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    };
    let Some((network, length)) = block.split_once('/') else { return false };
    let (Ok(address), Ok(network), Ok(length)) = (address.parse::<IpAddr>(), network.parse::<IpAddr>(), length.parse())
    else {
        return false;
    };
    let (address, network) = (bits(address), bits(network));
    address.len() == network.len() && address.get(..length) == network.get(..length)
}
