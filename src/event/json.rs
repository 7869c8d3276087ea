//! Parses any JSON text. If a [`Value`] cannot hold some part of it, this part is replaced, and the rest is kept.
//!
//! Invariant: parsing fails only if the text is not JSON by RFC 8259. No value is more than [`MAX_DEPTH`] levels deep, so that code
//! may read it by recursion.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Error, Number, Value};

/// The maximum depth of objects and arrays in each other. `serde_json` refuses more.
const MAX_DEPTH: usize = 127;

/// Replaces an object or an array that is too deep.
const TOO_DEEP: &str = "\"…\"";

/// Parses a JSON text. A number beyond a float's range becomes the largest float with the same sign. An object or array that is too
/// deep becomes `"…"`. Half of a surrogate pair, without the other half, becomes U+FFFD.
///
/// # Errors
///
/// When the text is not JSON.
pub(super) fn parse(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).or_else(|_| {
        // Checks the grammar and nothing else, without recursion.
        serde_json::from_str::<IgnoredAny>(text)?;
        serde_json::from_str(&representable(text))
    })
}

/// Replaces the parts of a JSON text that a [`Value`] cannot hold. The text must be JSON.
fn representable(text: &str) -> String {
    let mut fitting = String::with_capacity(text.len());
    let mut depth = 0;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let token = token(rest, first);
        rest = &rest[token.len()..];
        let is_kept = depth <= MAX_DEPTH;
        match first {
            '{' | '[' => {
                depth += 1;
                match depth {
                    ..=MAX_DEPTH => fitting.push(first),
                    _ if is_kept => fitting.push_str(TOO_DEEP),
                    _ => {}
                }
            }
            '}' | ']' => {
                depth -= 1;
                if is_kept {
                    fitting.push(first);
                }
            }
            _ if !is_kept => {}
            '"' => fitting.push_str(&with_whole_characters(token)),
            '-' | '0'..='9' => fitting.push_str(&within_range(token)),
            _ => fitting.push_str(token),
        }
    }
    fitting
}

/// The string, the number or the single character that the text begins with.
fn token(text: &str, first: char) -> &str {
    let end = match first {
        '"' => {
            let mut is_escaped = false;
            let closing = text.bytes().skip(1).position(|byte| {
                let closes = byte == b'"' && !is_escaped;
                is_escaped = byte == b'\\' && !is_escaped;
                closes
            });
            closing.map(|index| index + 2)
        }
        '-' | '0'..='9' => text.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')),
        _ => Some(first.len_utf8()),
    };
    &text[..end.unwrap_or(text.len())]
}

fn within_range(number: &str) -> Cow<'_, str> {
    if number.parse::<Number>().is_ok() {
        return Cow::Borrowed(number);
    }
    // A route's pattern compares the largest float with a limit in the same way as the number itself.
    let limit = if number.starts_with('-') { f64::MIN } else { f64::MAX };
    Cow::Owned(Number::from_f64(limit).map_or_else(|| "0".to_owned(), |limit| limit.to_string()))
}

/// Replaces each half of a surrogate pair that stands alone in a string. JSON allows `\ud800` alone, and a text that was cut inside an
/// emoji has it. A Rust string cannot hold it.
fn with_whole_characters(string: &str) -> Cow<'_, str> {
    let unit = |text: &str| text.strip_prefix("\\u").and_then(|hex| u32::from_str_radix(hex.get(..4)?, 16).ok());
    let mut whole = String::new();
    let mut rest = string;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let (kept, length) = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&escape[..12], 12),
            (Some(0xd800..=0xdfff), _) => ("\\ufffd", 6),
            _ => (&escape[..2], 2),
        };
        whole.push_str(before);
        whole.push_str(kept);
        rest = &escape[length..];
    }
    if whole.is_empty() {
        return Cow::Borrowed(string);
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn nested(depth: usize, inner: &str) -> String {
        format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn a_number_out_of_range_becomes_the_largest_float_with_its_sign() {
        let digits = "9".repeat(400);
        for (number, expected) in [
            ("1e999", f64::MAX),
            ("-1E+999", f64::MIN),
            (digits.as_str(), f64::MAX),
            (&format!("-{digits}.5"), f64::MIN),
            (&format!("0.{digits}e4000"), f64::MAX),
            ("1e-999", 0.0),
        ] {
            assert_eq!(parse(&format!("{{\"a\": [{number} ]}}")).unwrap(), json!({ "a": [expected] }), "{number}");
        }
        // A number in a string stays.
        assert_eq!(parse(r#"["1e999", "\"1e999", 1e999]"#).unwrap(), json!(["1e999", "\"1e999", f64::MAX]));
    }

    #[test]
    fn a_value_that_is_too_deep_is_cut_at_the_maximum_depth() {
        let mut value = parse(&format!("{{\"a\": {}, \"b\": [{{}}, 2]}}", nested(100_000, "{\"]\": 1e999}"))).unwrap();
        assert_eq!(value["b"], json!([{}, 2]));
        let mut depth = 1;
        value = value["a"].take();
        while let Some(inner) = value.get_mut(0) {
            depth += 1;
            value = inner.take();
        }
        assert_eq!((depth, value), (MAX_DEPTH, json!("…")));
    }

    #[test]
    fn a_value_of_the_maximum_depth_is_not_cut() {
        let deepest = nested(MAX_DEPTH, "1");
        assert_eq!(parse(&deepest).unwrap().to_string(), deepest);
        assert_eq!(representable(&deepest), deepest);
        assert_eq!(parse(&nested(MAX_DEPTH + 1, "1")).unwrap().to_string(), nested(MAX_DEPTH, "\"…\""));
        assert_eq!(parse(&nested(MAX_DEPTH + 1, "")).unwrap().to_string(), nested(MAX_DEPTH, "\"…\""));
    }

    #[test]
    fn only_wrong_grammar_is_an_error_and_the_error_has_its_position() {
        for (text, error) in [
            ("[1e999, ]", "expected value at line 1 column 9"),
            ("[1e999, 01]", "invalid number at line 1 column 10"),
            ("[1e999] x", "trailing characters at line 1 column 9"),
            (&format!("{}1", "[".repeat(100_000)), "EOF while parsing a list at line 1 column 100001"),
            (&nested(200, "oops"), "expected value at line 1 column 201"),
            (r#"{"a": "\ud800", "b"}"#, "expected `:` at line 1 column 20"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        /// The texts consist of JSON's own characters. Some of them are JSON.
        #[test]
        fn every_json_text_is_parsed(text in r#"([\[\]{},:"\\ a]|-?[0-9]{1,3}|[0-9][eE.][0-9]{1,4}|\\u[dD][0-9a-f]{3}|"[ab]?"|"a":|true){0,12}"#) {
            prop_assert_eq!(parse(&text).is_ok(), serde_json::from_str::<IgnoredAny>(&text).is_ok());
        }

        #[test]
        fn a_representable_text_stays_as_it_is(text in r#""([ -!#-\[\]-~é🦀]|\\["\\/bfnrt]|\\u00[0-9a-f]{2}|\\ud83e\\udd80){0,8}"|-?[1-9][0-9]{0,20}(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?"#) {
            prop_assert_eq!(representable(&text), text);
        }
    }
}
