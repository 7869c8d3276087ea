//! The tests of one value: exact values and operators.

use std::{
    net::IpAddr,
    ops::{Bound, RangeBounds},
};

use serde_json::{Number, Value};

/// One entry of a pattern's array of values.
#[derive(Debug)]
pub(super) enum Test {
    Exists,
    /// `exists: false`: no value passes it, only an absent field.
    Absent,
    Equals(Value),
    Prefix(String),
    Suffix(String),
    /// The texts of the three `IgnoreCase` tests are already folded.
    EqualsIgnoreCase(String),
    PrefixIgnoreCase(String),
    SuffixIgnoreCase(String),
    /// The text between the asterisks: at least one piece, and empty pieces only at the ends.
    Wildcard(Vec<String>),
    Numeric(Bound<f64>, Bound<f64>),
    Cidr(IpAddr, u32),
    AnythingBut(Vec<Test>),
}

impl Test {
    /// Whether `value`, which must be a scalar, passes the test.
    pub(super) fn passes(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Exists, _) => true,
            (Self::Absent, _) => false,
            // Numbers are compared by value, as in event-ruler. In AWS's documentation, 300 and 300.0 differ, but a parsed number does
            // not keep its spelling.
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

/// Folds each character without regard to its context (a final sigma). So a part of a text folds in the same way as in the whole text.
pub(super) fn fold(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

fn starts_with(mut text: impl Iterator<Item = char>, mut prefix: impl Iterator<Item = char>) -> bool {
    prefix.all(|wanted| text.next() == Some(wanted))
}

/// Each middle piece is taken at its first occurrence. That leaves the most text for the others, so no backtracking is needed.
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
    // With a /0, no bit is compared: `checked_shr` returns `None`.
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0,
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

fn same_number(a: &Number, b: &Number) -> bool {
    // Integers are compared exactly, because above 2^53 two neighbours can be the same f64.
    a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
}
