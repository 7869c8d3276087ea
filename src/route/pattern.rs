//! EventBridge event patterns: compiled once at start, then matched with every event. Pure.
//!
//! The language is that of "Comparison operators for use in event patterns in Amazon EventBridge" (user guide,
//! eb-create-pattern-operators). Where that page is silent, the behaviour is that of event-ruler, AWS's open-source matcher, except where
//! a comment here says otherwise. A pattern that could mean different things here and in AWS is refused.
//!
//! One top-level field is not about the event: `service-tags` is about the tags of its ECS service, which are read later and matched
//! separately. A field of that name in the event is ignored.
//!
//! Invariant: matching cannot fail, takes time proportional to the size of the event times the size of the pattern, and allocates nothing
//! for an event without dots in its names.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::diagnosis::Tags;
use test::Test;

mod compile;
mod mismatch;
#[cfg(test)]
mod properties;
mod test;
#[cfg(test)]
mod tests;

/// A compiled event pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The pattern with every `$or` multiplied out; it matches if one of these matches. AWS does the same: a field inside `$or` and one
    /// outside it must still match in the same element when they share an array.
    alternatives: Vec<Alternative>,
}

#[derive(Debug, Clone)]
struct Alternative {
    event: Fields,
    /// The requirements for the tags of the service. `None` if the tags do not matter.
    tags: Option<Arc<Fields>>,
}

/// The result of matching an event with a pattern.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It does not match.
    No,
    /// It matches if the tags of the service match this.
    IfTagged(TagPattern),
    /// It matches with any tags.
    Yes,
}

/// The requirements for the tags of a service. The tags must match one of these sets of fields.
#[derive(Debug, Clone)]
pub struct TagPattern(Vec<Arc<Fields>>);

/// An event, ready to be matched with any number of patterns.
#[derive(Debug, Clone, Copy)]
pub struct MatchInput<'a> {
    event: &'a Value,
    /// The number of values in the event, if a name in it contains a dot.
    dotted: Option<usize>,
}

/// Why a pattern is refused: the place in it (`detail.state[0].numeric`), what is wrong there, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl Pattern {
    /// Compiles the JSON of an event pattern.
    ///
    /// # Errors
    ///
    /// If EventBridge does not accept the pattern either. Also if a field is required both outside and inside `$or`: the meaning of such a
    /// pattern depends on the order of its fields, which a parsed object does not keep.
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

    /// Whether an event matches, whatever tags its service has.
    pub fn matches(&self, input: MatchInput<'_>) -> bool {
        matches!(self.evaluate(input), Verdict::Yes)
    }

    /// Whether the pattern names tags of services.
    pub fn names_tags(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.tags.is_some())
    }

    /// Whether an event matches, or which tags its service must have for it to match.
    pub fn evaluate(&self, input: MatchInput<'_>) -> Verdict {
        let mut tags = Vec::new();
        for alternative in self.alternatives.iter().filter(|alternative| input.satisfies(&alternative.event)) {
            match &alternative.tags {
                None => return Verdict::Yes,
                Some(fields) => tags.push(Arc::clone(fields)),
            }
        }
        if tags.is_empty() { Verdict::No } else { Verdict::IfTagged(TagPattern(tags)) }
    }
}

impl TagPattern {
    /// Whether these tags match.
    pub fn matches(&self, tags: &Tags) -> bool {
        let input = MatchInput::new(tags.as_value());
        self.0.iter().any(|fields| input.satisfies(fields))
    }
}

impl<'a> MatchInput<'a> {
    /// Takes the complete JSON of an event, as EventBridge delivers it.
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

    fn satisfies(self, fields: &Fields) -> bool {
        self.event.is_object() && self.search(fields).all(fields, &[Node::of(self.event)]) != Found::No
    }
}

/// The field of a pattern that is about the tags of the event's service.
const SERVICE_TAGS: &str = "service-tags";

/// Requirements by name. A name with dots is split into one level for each part. In event-ruler, a field is the names along its path,
/// joined by dots. So neither a pattern nor an event shows which dots join names and which belong to a name.
type Fields = BTreeMap<String, Requirement>;

/// The requirement for a field. It has both parts if the field itself must have a value, and other fields have names that begin with
/// this name and a dot, as in the labels `app` and `app.kubernetes.io/name`.
#[derive(Debug, Clone, Default)]
struct Requirement {
    /// One of these tests passes.
    tests: Option<Arc<[Test]>>,
    /// All of these fields match: in the same object, if the event has an array of objects here.
    fields: Fields,
}

fn count(fields: &Fields) -> usize {
    fields.values().map(|requirement| 1 + count(&requirement.fields)).sum()
}

/// What a search found for a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    No,
    /// The field is absent, and that is accepted (`exists: false`).
    Absent,
    Value,
}

/// A value of the event on the path that is searched.
#[derive(Clone, Copy)]
struct Node<'a> {
    /// The part of its name that is not matched yet, if the name has a dot.
    rest: Option<&'a str>,
    value: &'a Value,
}

impl<'a> Node<'a> {
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

/// One search for one alternative in one event. The slices in the arguments have all values at one path: at most one, unless the event
/// has names with dots.
struct Search {
    /// How many values the search may still visit, if the event has names with dots. Beyond that, everything counts as found. Only an event
    /// made for this purpose needs so many steps, and it is better to post it than to lose it.
    steps: Option<Cell<usize>>,
}

impl Search {
    fn find(&self, requirement: &Requirement, here: &[Node<'_>]) -> Found {
        if self.is_exhausted(here.len()) {
            return Found::Value;
        }
        match here {
            [] => self.find_one(requirement, here),
            [at] => match at.elements() {
                Some(elements) => self.find_any(elements, |element| self.find(requirement, element.as_slice())),
                None => self.find_one(requirement, here),
            },
            _ => {
                let (arrays, others): (Vec<Node<'_>>, Vec<Node<'_>>) =
                    here.iter().partition(|at| at.elements().is_some());
                match arrays.iter().filter_map(Node::elements).collect::<Vec<_>>().as_slice() {
                    [] => self.find_one(requirement, here),
                    [elements] => self.find_any(elements, |element| {
                        let here: Vec<Node<'_>> = others.iter().copied().chain(element).collect();
                        self.find(requirement, &here)
                    }),
                    // The field has several arrays, under names with dots in different places. An element of any array is enough.
                    several => {
                        let elements = several.iter().copied().flatten().map(Node::of);
                        self.find(requirement, &others.iter().copied().chain(elements).collect::<Vec<_>>())
                    }
                }
            }
        }
    }

    /// As [`Search::find`], for values that are not arrays.
    fn find_one(&self, requirement: &Requirement, here: &[Node<'_>]) -> Found {
        let own = requirement.tests.as_ref().map_or(Found::Absent, |tests| {
            let mut scalars = here.iter().filter_map(Node::scalar).peekable();
            // `exists` is only about leaves. An object is not a leaf, so the field counts as absent.
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

    /// Searches all fields in one object. A scalar has no fields.
    fn all(&self, fields: &Fields, here: &[Node<'_>]) -> Found {
        let mut found = Found::Absent;
        for (name, requirement) in fields {
            let result = match here {
                [Node { rest: None, value }] if self.steps.is_none() => {
                    self.find(requirement, value.get(name).map(Node::of).as_slice())
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

    /// Searches the elements of an array. One element that satisfies the requirement is enough. But if the requirement is only that fields
    /// are absent, they must be absent from all elements. (In event-ruler, only fields whose names sort before an `exists: false` select
    /// an element. Here, all fields do.)
    fn find_any(&self, elements: &[Value], find: impl Fn(Option<Node<'_>>) -> Found) -> Found {
        if elements.is_empty() {
            return find(None);
        }
        let mut found = Found::Absent;
        for element in elements {
            match find(Some(Node::of(element))) {
                Found::Value => return Found::Value,
                Found::Absent => {}
                Found::No => found = Found::No,
            }
        }
        found
    }

    /// The values at the field `name` of all values in `here`, wherever the dots are.
    fn below<'a>(&self, here: &[Node<'a>], name: &str) -> Vec<Node<'a>> {
        let advance = |path: &'a str, value| {
            let rest = path.strip_prefix(name)?;
            match rest.strip_prefix('.') {
                Some(rest) => Some(Node { rest: Some(rest), value }),
                None => rest.is_empty().then_some(Node { rest: None, value }),
            }
        };
        let mut found = Vec::new();
        for at in here {
            match (at.rest, at.value) {
                (Some(rest), value) => found.extend(advance(rest, value)),
                (None, Value::Object(fields)) if !self.is_exhausted(fields.len()) => {
                    found.extend(fields.iter().filter_map(|(name, value)| advance(name, value)));
                }
                _ => {}
            }
        }
        found
    }

    /// Uses some of the steps. True if none are left.
    fn is_exhausted(&self, steps: usize) -> bool {
        self.steps.as_ref().is_some_and(|left| {
            left.set(left.get().saturating_sub(steps.max(1)));
            left.get() == 0
        })
    }
}
