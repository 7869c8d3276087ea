//! EventBridge event patterns: compiled once, at start; matched against every event. Pure.
//!
//! The language is the one of "Comparison operators for use in event patterns in Amazon EventBridge" (user guide,
//! eb-create-pattern-operators); what that page leaves open follows event-ruler, AWS's own open-source matcher, except
//! where a comment here says otherwise. What would mean one thing here and another there is refused, not guessed at.
//!
//! One field is not the event's: `service-tags`, at the top, is about the tags of its ECS service, which are read later and judged
//! apart. A field of that name in the event is never looked at.
//!
//! Invariant: matching cannot fail, takes time in proportion to the event times the pattern, and allocates nothing for an event
//! without dots in its names.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use serde_json::{Number, Value};

use crate::diagnosis::Tags;

mod compile;
mod mismatch;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

/// A compiled event pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The pattern with every `$or` multiplied out; it matches if one of these does. AWS does it so too: a field inside
    /// `$or` and one beside it must still match in the same element when they share an array.
    alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone)]
struct Alternative {
    event: Fields,
    /// What the tags of the service must have; none where they do not matter.
    tags: Option<Arc<Fields>>,
}

/// What a pattern says of an event.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It does not match.
    No,
    /// It matches if the service's tags do.
    ByTags(TagPattern),
    /// It matches, whatever the tags are.
    Yes,
}

/// What the tags of a service must be like.
#[derive(Debug, Clone)]
pub struct TagPattern(Vec<Arc<Fields>>);

/// An event, ready to be matched with any number of patterns.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    event: &'a Value,
    /// How many values it has, if the name of one holds a dot.
    dotted: Option<usize>,
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
        let alternatives = alternatives.into_iter().map(|mut event| {
            let Some(Requirement { tests, fields }) = event.remove(SERVICE_TAGS) else {
                return Ok(Alternative { event, tags: None });
            };
            if tests.is_some() {
                let example = format!("{{ {SERVICE_TAGS} = {{ team = [\"search\"] }} }}");
                return Err(PatternError(format!("{SERVICE_TAGS}: must be an object of tag keys, such as {example}")));
            }
            Ok(Alternative { event, tags: Some(Arc::new(fields)) })
        });
        Ok(Self { alternatives: alternatives.collect::<Result<_, _>>()? })
    }

    /// Whether an event matches, whatever the tags of its service are.
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        matches!(self.judge(subject), Verdict::Yes)
    }

    /// Whether it is about the tags of services.
    pub fn names_tags(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.tags.is_some())
    }

    /// Whether an event matches, as far as the event alone can say.
    pub fn judge(&self, subject: Subject<'_>) -> Verdict {
        let mut tags = Vec::new();
        for alternative in self.alternatives.iter().filter(|alternative| subject.has(&alternative.event)) {
            match &alternative.tags {
                None => return Verdict::Yes,
                Some(fields) => tags.push(Arc::clone(fields)),
            }
        }
        if tags.is_empty() { Verdict::No } else { Verdict::ByTags(TagPattern(tags)) }
    }
}

impl TagPattern {
    /// Whether these tags match.
    pub fn matches(&self, tags: &Tags) -> bool {
        let subject = Subject::new(tags.as_value());
        self.0.iter().any(|fields| subject.has(fields))
    }
}

impl<'a> Subject<'a> {
    /// The whole of an event, as EventBridge delivers it.
    pub fn new(event: &'a Value) -> Self {
        let (mut size, mut is_dotted) = (0, false);
        let mut rest = vec![event];
        while let Some(value) = rest.pop() {
            size += 1;
            match value {
                Value::Array(elements) => rest.extend(elements),
                Value::Object(fields) => {
                    is_dotted |= fields.keys().any(|name| name.contains('.'));
                    rest.extend(fields.values());
                }
                _ => {}
            }
        }
        Self { event, dotted: is_dotted.then_some(size) }
    }

    fn search(self, fields: &Fields) -> Search {
        Search { steps: self.dotted.map(|size| Cell::new(4 * size * (1 + count(fields)))) }
    }

    fn has(self, fields: &Fields) -> bool {
        self.event.is_object() && self.search(fields).all(fields, &[At::of(self.event)]) != Found::No
    }
}

/// The field of a pattern that is about the tags of the event's service.
const SERVICE_TAGS: &str = "service-tags";

/// Each name up to the next dot: to event-ruler the names along a path, joined by dots, are the field, and neither a pattern
/// nor an event says which dots join and which belong to a name.
type Fields = BTreeMap<String, Requirement>;

/// What a field must have. With both, the field itself has a value and others have names that go on from its own, as in the
/// labels `app` and `app.kubernetes.io/name`.
#[derive(Debug, Clone, Default)]
struct Requirement {
    /// One of these tests passes.
    tests: Option<Arc<[Test]>>,
    /// All of these fields match, in one and the same object where the event has an array of them.
    fields: Fields,
}

fn count(fields: &Fields) -> usize {
    fields.values().map(|requirement| 1 + count(&requirement.fields)).sum()
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

/// A value of the event on the path that is looked for.
#[derive(Clone, Copy)]
struct At<'a> {
    /// What of its name is still ahead, where that has a dot.
    rest: Option<&'a str>,
    value: &'a Value,
}

impl<'a> At<'a> {
    fn of(value: &'a Value) -> Self {
        Self { rest: None, value }
    }

    fn elements(&self) -> Option<&'a Vec<Value>> {
        self.value.as_array().filter(|_| self.rest.is_none())
    }

    fn scalar(&self) -> Option<&'a Value> {
        Some(self.value).filter(|value| self.rest.is_none() && !value.is_object() && !value.is_array())
    }
}

/// One search for one alternative in one event. The slices are all that stands at one path: a single value at most, unless
/// the event has names with dots.
struct Search {
    /// What may still be looked at of an event that has them; beyond that everything is found. Only such an event, and one
    /// that was made to, can need so much, and it is better posted than lost.
    steps: Option<Cell<usize>>,
}

impl Search {
    fn find(&self, requirement: &Requirement, here: &[At<'_>]) -> Found {
        if self.is_spent(here.len()) {
            return Found::Value;
        }
        match here {
            [] => self.find_one(requirement, here),
            [at] => match at.elements() {
                Some(elements) => self.find_any(elements, |element| self.find(requirement, element.as_slice())),
                None => self.find_one(requirement, here),
            },
            _ => {
                let (arrays, others): (Vec<At<'_>>, Vec<At<'_>>) = here.iter().partition(|at| at.elements().is_some());
                match arrays.iter().filter_map(At::elements).collect::<Vec<_>>().as_slice() {
                    [] => self.find_one(requirement, here),
                    [elements] => self.find_any(elements, |element| {
                        let here: Vec<At<'_>> = others.iter().copied().chain(element).collect();
                        self.find(requirement, &here)
                    }),
                    // Two arrays for one field, under different names. Any element of either will do.
                    several => {
                        let elements = several.iter().copied().flatten().map(At::of);
                        self.find(requirement, &others.iter().copied().chain(elements).collect::<Vec<_>>())
                    }
                }
            }
        }
    }

    /// No array is here.
    fn find_one(&self, requirement: &Requirement, here: &[At<'_>]) -> Found {
        let own = requirement.tests.as_ref().map_or(Found::Absent, |tests| {
            let mut scalars = here.iter().filter_map(At::scalar).peekable();
            // `exists` is about leaves: an object is not a value, so to it the field is absent.
            if scalars.peek().is_none() {
                if tests.iter().any(|test| matches!(test, Test::Absent)) { Found::Absent } else { Found::No }
            } else if scalars.any(|value| tests.iter().any(|test| test.passes(value))) {
                Found::Value
            } else {
                Found::No
            }
        });
        match (own, self.all(&requirement.fields, here)) {
            (Found::No, _) | (_, Found::No) => Found::No,
            (Found::Absent, Found::Absent) => Found::Absent,
            _ => Found::Value,
        }
    }

    /// The fields of one object; a scalar has none.
    fn all(&self, fields: &Fields, here: &[At<'_>]) -> Found {
        let mut found = Found::Absent;
        for (name, requirement) in fields {
            let result = match here {
                [At { rest: None, value }] if self.steps.is_none() => {
                    self.find(requirement, value.get(name).map(At::of).as_slice())
                }
                _ => self.find(requirement, &self.below(here, name)),
            };
            match result {
                Found::No => return Found::No,
                Found::Absent => {}
                Found::Value => found = Found::Value,
            }
        }
        found
    }

    /// One element that has what is required is enough; what must be absent, with nothing beside it to choose an element
    /// by, must be absent from all. (In event-ruler only names that sort before an `exists: false` choose; here all do.)
    fn find_any(&self, elements: &[Value], find: impl Fn(Option<At<'_>>) -> Found) -> Found {
        if elements.is_empty() {
            return find(None);
        }
        let mut found = Found::Absent;
        for element in elements {
            match find(Some(At::of(element))) {
                Found::Value => return Found::Value,
                Found::Absent => {}
                Found::No => found = Found::No,
            }
        }
        found
    }

    /// What stands at the field `name` of all that is here, wherever the dots are.
    fn below<'a>(&self, here: &[At<'a>], name: &str) -> Vec<At<'a>> {
        let go_on = |path: &'a str, value| {
            let rest = path.strip_prefix(name)?;
            match rest.strip_prefix('.') {
                Some(rest) => Some(At { rest: Some(rest), value }),
                None => rest.is_empty().then_some(At { rest: None, value }),
            }
        };
        let mut found = Vec::new();
        for at in here {
            match (at.rest, at.value) {
                (Some(rest), value) => found.extend(go_on(rest, value)),
                (None, Value::Object(fields)) if !self.is_spent(fields.len()) => {
                    found.extend(fields.iter().filter_map(|(name, value)| go_on(name, value)));
                }
                _ => {}
            }
        }
        found
    }

    /// Takes steps; whether there were not as many left.
    fn is_spent(&self, steps: usize) -> bool {
        self.steps.as_ref().is_some_and(|left| {
            left.set(left.get().saturating_sub(steps.max(1)));
            left.get() == 0
        })
    }
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
