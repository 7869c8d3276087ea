//! Compiles the JSON of a pattern, or says why it is refused.
//!
//! Invariant: neither the depth of a pattern nor its number of `$or`s can overflow the stack or use unbounded time or memory.

use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Fields, PatternError, Test, test::fold};

/// The depth of nested fields, parts of their names between dots, and `$or`s. AWS limits a pattern to 2,048 characters; this limits the
/// recursion.
const MAX_DEPTH: usize = 32;
/// `$or`s next to each other or nested multiply the alternatives.
const MAX_ALTERNATIVES: usize = 1000;

const OR: &str = "$or";
const OPERATORS: [&str; 8] =
    ["anything-but", "cidr", "equals-ignore-case", "exists", "numeric", "prefix", "suffix", "wildcard"];
const ANYTHING_BUT_OPERATORS: [&str; 4] = ["equals-ignore-case", "prefix", "suffix", "wildcard"];

/// The pattern with every `$or` multiplied out.
pub(super) fn alternatives(pattern: &Value) -> Result<Vec<Fields>, PatternError> {
    let Value::Object(fields) = pattern else {
        return refuse("", format!("an event pattern must be an object of fields, not {}", kind(pattern)));
    };
    let mut compiler = Compiler { alternatives: vec![Fields::new()], parents: Vec::new(), depth: 0, within_or: 0 };
    compiler.object(fields, "")?;
    Ok(compiler.alternatives)
}

struct Compiler {
    alternatives: Vec<Fields>,
    /// The names of the fields around the current one.
    parents: Vec<String>,
    depth: usize,
    within_or: usize,
}

impl Compiler {
    fn object(&mut self, fields: &Map<String, Value>, at: &str) -> Result<(), PatternError> {
        if fields.is_empty() {
            return refuse(at, "an object of a pattern must name at least one field");
        }
        if self.depth == MAX_DEPTH {
            return refuse(at, format!("a pattern may be at most {MAX_DEPTH} levels deep"));
        }
        self.depth += 1;
        for (name, value) in fields {
            let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let around = self.parents.len();
            if around + name.split('.').count() > MAX_DEPTH {
                return refuse(&at, format!("a pattern may be at most {MAX_DEPTH} levels deep"));
            }
            match value {
                _ if name == OR => self.or(value, &at)?,
                // AWS reserves these names inside `$or`, to catch values where fields belong.
                _ if self.within_or > 0 && OPERATORS.contains(&name.as_str()) => {
                    return refuse(&at, format!("an operator cannot be a field inside {OR}; name the field it is for"));
                }
                Value::Array(values) => self.require(name, tests(values, &at)?, &at)?,
                Value::Object(inner) => {
                    self.parents.extend(name.split('.').map(str::to_owned));
                    self.object(inner, &at)?;
                    self.parents.truncate(around);
                }
                _ => {
                    let fault = "must be an array of values and operators, or an object of fields, not";
                    return refuse(&at, format!("{fault} {}", kind(value)));
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// `$or` is always the operator. Event-ruler's README says that it may be a field's name in old rules, but its compiler refuses that.
    fn or(&mut self, value: &Value, at: &str) -> Result<(), PatternError> {
        let Value::Array(options) = value else {
            return refuse(at, format!("must be an array of at least 2 objects, not {}", kind(value)));
        };
        if options.len() < 2 {
            return refuse(at, format!("must be an array of at least 2 objects, not of {}", options.len()));
        }
        let before = std::mem::take(&mut self.alternatives);
        let mut after = Vec::new();
        self.within_or += 1;
        for (index, option) in options.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let Value::Object(fields) = option else {
                return refuse(&at, format!("must be an object of fields, not {}", kind(option)));
            };
            self.alternatives.clone_from(&before);
            self.object(fields, &at)?;
            after.append(&mut self.alternatives);
            if after.len() > MAX_ALTERNATIVES {
                return refuse(&at, format!("the {OR}s of a pattern may make at most {MAX_ALTERNATIVES} combinations"));
            }
        }
        self.within_or -= 1;
        self.alternatives = after;
        Ok(())
    }

    /// Adds a requirement for the field `name`, within the present parents, to every alternative.
    fn require(&mut self, name: &str, tests: Arc<[Test]>, at: &str) -> Result<(), PatternError> {
        for alternative in &mut self.alternatives {
            let path = self.parents.iter().map(String::as_str).chain(name.split('.'));
            if !insert(alternative, path, tests.clone()) {
                // AWS uses the one written last; a parsed object does not keep that order.
                let fault = "is required twice: name a field once, beside or inside $or, with dots or without";
                return refuse(at, fault);
            }
        }
        Ok(())
    }
}

/// Adds tests for the field at `path`. False if the field has tests already.
fn insert<'a>(mut fields: &mut Fields, path: impl Iterator<Item = &'a str>, tests: Arc<[Test]>) -> bool {
    let mut path = path.peekable();
    while let Some(name) = path.next() {
        let requirement = fields.entry(name.to_owned()).or_default();
        if path.peek().is_none() {
            return requirement.tests.replace(tests).is_none();
        }
        fields = &mut requirement.fields;
    }
    false
}

fn tests(values: &[Value], at: &str) -> Result<Arc<[Test]>, PatternError> {
    if values.is_empty() {
        return refuse(at, "must hold at least one value or operator");
    }
    let test = |(index, value): (usize, &Value)| {
        let at = format!("{at}[{index}]");
        match value {
            Value::Object(operator) => operator_test(operator, &at),
            Value::Array(_) => refuse(&at, "must be a string, number, true, false, null or an operator, not an array"),
            scalar => Ok(Test::Equals(scalar.clone())),
        }
    };
    values.iter().enumerate().map(test).collect()
}

/// One of `OPERATORS`.
fn operator_test(operator: &Map<String, Value>, at: &str) -> Result<Test, PatternError> {
    let (name, operand, at) = sole_entry(operator, &OPERATORS, at)?;
    match (name, operand) {
        ("exists", Value::Bool(true)) => Ok(Test::Exists),
        ("exists", Value::Bool(false)) => Ok(Test::Absent),
        ("exists", _) => refuse(&at, format!("must be true or false, not {}", kind(operand))),
        ("anything-but", _) => anything_but(operand, &at).map(Test::AnythingBut),
        ("numeric", _) => numeric(operand, &at),
        ("cidr", Value::String(block)) => cidr(block, &at),
        ("prefix" | "suffix", Value::Object(inner)) => {
            let (_, operand, at) = sole_entry(inner, &["equals-ignore-case"], &at)?;
            match operand {
                Value::String(text) if name == "prefix" => Ok(Test::PrefixIgnoreCase(fold(text).collect())),
                Value::String(text) => Ok(Test::SuffixIgnoreCase(fold(text).collect())),
                _ => refuse(&at, format!("must be a string, not {}", kind(operand))),
            }
        }
        ("prefix" | "suffix", Value::String(text)) => text_test(name, text, &at),
        ("prefix" | "suffix", _) => {
            refuse(&at, format!("must be a string or {{\"equals-ignore-case\": string}}, not {}", kind(operand)))
        }
        (_, Value::String(text)) => text_test(name, text, &at),
        _ => refuse(&at, format!("must be a string, not {}", kind(operand))),
    }
}

/// One of `ANYTHING_BUT_OPERATORS` and a text.
fn text_test(name: &str, text: &str, at: &str) -> Result<Test, PatternError> {
    match name {
        "prefix" => Ok(Test::Prefix(text.to_owned())),
        "suffix" => Ok(Test::Suffix(text.to_owned())),
        "equals-ignore-case" => Ok(Test::EqualsIgnoreCase(fold(text).collect())),
        _ => wildcard(text, at).map(Test::Wildcard),
    }
}

/// The operand of `anything-but`: a value, values of one type, or an operator with one or several strings.
fn anything_but(operand: &Value, at: &str) -> Result<Vec<Test>, PatternError> {
    match operand {
        Value::String(_) | Value::Number(_) => Ok(vec![Test::Equals(operand.clone())]),
        Value::Array(values) if values.is_empty() => refuse(at, "must hold at least one string or number"),
        Value::Array(values) if values.iter().all(Value::is_string) || values.iter().all(Value::is_number) => {
            Ok(values.iter().cloned().map(Test::Equals).collect())
        }
        Value::Array(_) => refuse(at, "must hold only strings or only numbers"),
        Value::Object(inner) => {
            let (name, operand, at) = sole_entry(inner, &ANYTHING_BUT_OPERATORS, at)?;
            let test = |text: &Value| match text {
                Value::String(text) if text.is_empty() && matches!(name, "prefix" | "suffix") => {
                    refuse(&at, "must not be empty: nothing would be left to match")
                }
                Value::String(text) => text_test(name, text, &at),
                _ => refuse(&at, format!("must be a string or an array of strings, not {}", kind(text))),
            };
            match operand {
                Value::Array(texts) if texts.is_empty() => refuse(&at, "must hold at least one string"),
                Value::Array(texts) => texts.iter().map(test).collect(),
                text => Ok(vec![test(text)?]),
            }
        }
        _ => refuse(
            at,
            format!("must be a string, a number, an array of either, or an operator object, not {}", kind(operand)),
        ),
    }
}

/// `["=", n]`, `["<", n]` …, or a range from low to high: `[">", n, "<=", m]`.
fn numeric(operand: &Value, at: &str) -> Result<Test, PatternError> {
    const FORM: &str = r#"must be a comparison such as ["<", 10] or a range such as [">", 0, "<=", 5]"#;
    match operand.as_array().map(Vec::as_slice) {
        Some([operator, number]) => {
            let number = limit(number, &format!("{at}[1]"))?;
            match operator.as_str() {
                Some("=") => Ok(Test::Numeric(Bound::Included(number), Bound::Included(number))),
                Some("<") => Ok(Test::Numeric(Bound::Unbounded, Bound::Excluded(number))),
                Some("<=") => Ok(Test::Numeric(Bound::Unbounded, Bound::Included(number))),
                Some(">") => Ok(Test::Numeric(Bound::Excluded(number), Bound::Unbounded)),
                Some(">=") => Ok(Test::Numeric(Bound::Included(number), Bound::Unbounded)),
                _ => refuse(&format!("{at}[0]"), "must be one of =, <, <=, >, >="),
            }
        }
        Some([from, low, to, high]) => {
            let (low, high) = (limit(low, &format!("{at}[1]"))?, limit(high, &format!("{at}[3]"))?);
            let from = match from.as_str() {
                Some(">") => Bound::Excluded(low),
                Some(">=") => Bound::Included(low),
                _ => return refuse(&format!("{at}[0]"), "a range must begin with > or >="),
            };
            let to = match to.as_str() {
                Some("<") => Bound::Excluded(high),
                Some("<=") => Bound::Included(high),
                _ => return refuse(&format!("{at}[2]"), "a range must end with < or <="),
            };
            if low >= high {
                return refuse(at, "the lower end of a range must be less than the upper");
            }
            Ok(Test::Numeric(from, to))
        }
        _ => refuse(at, FORM),
    }
}

/// AWS's documentation limits numeric matching to ±5.0e9, but event-ruler accepts any f64. Here, the limits in a pattern follow the
/// documentation, and they are compared with any value of an event.
fn limit(value: &Value, at: &str) -> Result<f64, PatternError> {
    match value.as_f64() {
        Some(number) if number.abs() <= 5.0e9 => Ok(number),
        Some(_) => refuse(at, "must be between -5.0e9 and 5.0e9"),
        None => refuse(at, format!("must be a number, not {}", kind(value))),
    }
}

/// Event-ruler stops at /31 and /127. A single address (/32, /128) is accepted here, because its meaning is clear.
fn cidr(block: &str, at: &str) -> Result<Test, PatternError> {
    let parsed = block.split_once('/').and_then(|(address, bits)| {
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Test::Cidr(address, bits))
    });
    parsed.map_or_else(|| refuse(at, "must be an address block such as 10.0.0.0/8 or 2001:db8::/32"), Ok)
}

/// Cuts a wildcard at its asterisks.
fn wildcard(text: &str, at: &str) -> Result<Vec<String>, PatternError> {
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '*' if characters.peek() == Some(&'*') => return refuse(at, "must not have two asterisks in a row"),
            '*' => pieces.push(std::mem::take(&mut piece)),
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '\\')) => piece.push(escaped),
                _ => return refuse(at, r"a backslash must be followed by * or another backslash"),
            },
            _ => piece.push(character),
        }
    }
    pieces.push(piece);
    Ok(pieces)
}

/// The name, the operand and the path of an operator object, which has exactly one entry.
fn sole_entry<'a>(
    operator: &'a Map<String, Value>,
    accepted: &[&str],
    at: &str,
) -> Result<(&'a str, &'a Value, String), PatternError> {
    let mut entries = operator.iter();
    match (entries.next(), entries.next()) {
        (Some((name, operand)), None) if accepted.contains(&name.as_str()) => {
            Ok((name, operand, format!("{at}.{name}")))
        }
        (Some((name, _)), None) => {
            refuse(at, format!("{name:?} is not an operator here; accepted: {}", accepted.join(", ")))
        }
        _ => refuse(at, format!("must have exactly one operator; accepted: {}", accepted.join(", "))),
    }
}

fn refuse<T>(at: &str, fault: impl Into<String>) -> Result<T, PatternError> {
    let fault = fault.into();
    Err(PatternError(if at.is_empty() { fault } else { format!("{at}: {fault}") }))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
