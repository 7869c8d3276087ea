//! EventBridge event patterns: compiled once, at start; matched against every event. Pure.
//!
//! The language is the one of "Comparison operators for use in event patterns in Amazon EventBridge" (user guide,
//! eb-create-pattern-operators); what that page leaves open follows event-ruler, AWS's own open-source matcher, except
//! where a comment here says otherwise. What would mean one thing here and another there is refused, not guessed at.
//!
//! Invariant: matching cannot fail, allocates nothing, and takes time in proportion to the event times the pattern.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use serde_json::{Number, Value};

mod compile;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// A compiled event pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The pattern with every `$or` multiplied out; it matches if one of these does. AWS does it so too: a field inside
    /// `$or` and one beside it must still match in the same element when they share an array.
    alternatives: Vec<Fields>,
}

/// Why a pattern was refused: where in it (`detail.state[0].numeric`), what is wrong there, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Compiles the JSON of an event pattern.
    ///
    /// # Errors
    ///
    /// When EventBridge would not accept it either; and when a field is required both beside and inside `$or`, which is
    /// ambiguous once the order of the fields is lost.
    pub fn compile(pattern: &Value) -> Result<Self, PatternError> {
        let alternatives = compile::alternatives(pattern)?;
        Ok(Self { alternatives })
    }

    /// Whether `event`, the whole of it as EventBridge delivers it, matches.
    pub fn matches(&self, event: &Value) -> bool {
        event.is_object() && self.alternatives.iter().any(|fields| find_all(fields, Some(event)) != Found::No)
    }
}

/// Names are taken as they stand; event-ruler also takes `"a.b"` for `b` within `a`, which its README says may change.
type Fields = BTreeMap<String, Requirement>;

#[derive(Debug, Clone)]
enum Requirement {
    /// One of these tests passes.
    Value(Arc<[Test]>),
    /// All of these fields match, in one and the same object where the event has an array of them.
    Object(Fields),
}

/// One entry of a pattern's array of values.
#[derive(Debug)]
enum Test {
    Exists,
    /// `exists: false`: no value passes it, only a field without any.
    Absent,
    Equals(Value),
    Prefix(String),
    Suffix(String),
    /// The `IgnoreCase` texts are folded already.
    EqualsIgnoreCase(String),
    PrefixIgnoreCase(String),
    SuffixIgnoreCase(String),
    /// The text between the asterisks: at least one piece, and no empty ones but at the ends.
    Wildcard(Vec<String>),
    Numeric(Bound<f64>, Bound<f64>),
    Cidr(IpAddr, u32),
    AnythingBut(Vec<Test>),
}

/// What an event has of what is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    No,
    /// Nothing is there, and that is accepted (`exists: false`).
    Absent,
    Value,
}

impl Requirement {
    fn find(&self, value: Option<&Value>) -> Found {
        match (self, value) {
            (_, Some(Value::Array(elements))) => find_any(elements, |element| self.find(element)),
            (Self::Object(fields), _) => find_all(fields, value),
            // `exists` is about leaves: an object is not a value, so to it the field is absent.
            (Self::Value(tests), None | Some(Value::Object(_))) => {
                if tests.iter().any(|test| matches!(test, Test::Absent)) { Found::Absent } else { Found::No }
            }
            (Self::Value(tests), Some(value)) => {
                if tests.iter().any(|test| test.passes(value)) {
                    Found::Value
                } else {
                    Found::No
                }
            }
        }
    }
}

/// The fields of one object; a scalar has none.
fn find_all(fields: &Fields, object: Option<&Value>) -> Found {
    let mut found = Found::Absent;
    for (name, requirement) in fields {
        match requirement.find(object.and_then(|object| object.get(name))) {
            Found::No => return Found::No,
            Found::Absent => {}
            Found::Value => found = Found::Value,
        }
    }
    found
}

/// One element that has what is required is enough; what must be absent, with nothing beside it to choose an element
/// by, must be absent from all. (In event-ruler only names that sort before an `exists: false` choose; here all do.)
fn find_any(elements: &[Value], find: impl Fn(Option<&Value>) -> Found) -> Found {
    let mut found = find(None);
    for element in elements {
        match find(Some(element)) {
            Found::Value => return Found::Value,
            Found::Absent => {}
            Found::No => found = Found::No,
        }
    }
    found
}

impl Test {
    /// `value` is a scalar.
    fn passes(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Absent, _) => false,
            // By value, as event-ruler does; in the documentation 300 and 300.0 differ, but a parsed number does not
            // tell how it was written.
            (Self::Equals(Value::Number(wanted)), Value::Number(value)) => same_number(wanted, value),
            (Self::Equals(wanted), _) => wanted == value,
            (Self::AnythingBut(tests), _) => !tests.iter().any(|test| test.passes(value)),
            (Self::Numeric(low, high), Value::Number(value)) => {
                value.as_f64().is_some_and(|value| (*low, *high).contains(&value))
            }
            (_, Value::String(text)) => self.passes_text(text),
            _ => false,
        }
    }

    fn passes_text(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::EqualsIgnoreCase(wanted) => fold(text).eq(wanted.chars()),
            Self::PrefixIgnoreCase(prefix) => starts_with(fold(text), prefix.chars()),
            Self::SuffixIgnoreCase(suffix) => starts_with(fold(text).rev(), suffix.chars().rev()),
            Self::Wildcard(pieces) => matches_wildcard(pieces, text),
            Self::Cidr(network, bits) => text.parse().is_ok_and(|address| in_network(*network, *bits, address)),
            _ => false,
        }
    }
}

/// Character by character, without regard to context (a final sigma), so that a part of a text folds as in the whole.
fn fold(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn starts_with(mut text: impl Iterator<Item = char>, mut prefix: impl Iterator<Item = char>) -> bool {
    prefix.all(|wanted| text.next() == Some(wanted))
}

/// Taking each middle piece at its first occurrence leaves the most for the others, so there is nothing to go back for.
fn matches_wildcard(pieces: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_some_and(|only| only == text);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    middle.iter().all(|piece| match rest.split_once(piece.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn in_network(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    // Nothing is left of the difference when a /0 shifts it out altogether.
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    // Whole numbers exactly: above 2^53 an f64 would take neighbours for the same.
    a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
}
