//! Extracts the one string that is needed from the value of a secret: the string alone, or a JSON object that holds it. Pure. Errors
//! describe what is wrong and never show a value.

use std::fmt;

use serde_json::Value;

/// How many keys of an object an error shows.
const MAX_SHOWN_KEYS: usize = 10;

/// Invisible characters: a byte order mark, zero-width spaces and joiners, the soft hyphen.
const INVISIBLE: [char; 8] =
    ['\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{00ad}', '\u{200e}', '\u{200f}'];

/// Pairs of characters that people or programs put around a text.
const QUOTES: [(char, char); 7] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’'), ('«', '»'), ('<', '>')];

/// What a secret must hold, as an error phrases it.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The value, with an article: `the webhook's URL`.
    pub what: &'static str,
    /// The configuration key that names an object's key: `webhook_secret_key`.
    pub key_setting: &'static str,
}

/// The secret does not hold what is expected. The text shows none of its values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Extracts a value that `accept` accepts: the text itself, the object's value under `key` or, without a `key`, the only acceptable
/// value of the object.
///
/// # Errors
/// Says what the secret holds instead, or why its only candidate is refused.
pub fn extract<T: PartialEq, E: fmt::Display>(
    secret: &str,
    key: Option<&str>,
    expected: Expected,
    accept: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Unusable> {
    let Expected { what, key_setting } = expected;
    let fields = match Content::parse(secret) {
        Content::Object(fields) => fields,
        Content::Text(text) => {
            // A plain text is used whether or not a key is configured.
            return accept(&text).map_err(|error| match describe(&text) {
                Some(found) => Unusable(format!("it holds {found}; it must hold {what}")),
                None => Unusable(error.to_string()),
            });
        }
        Content::Json(found) => {
            return Err(Unusable(format!("it holds {found}; it must hold {what}, or a JSON object that holds it")));
        }
    };
    let found = describe_object(&fields);
    if let Some(key) = key {
        let value = fields.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        let text = match value {
            Some(Value::String(text)) => clean(text),
            Some(other) => {
                let sort = kind_of(other);
                return Err(Unusable(format!("its key {key:?} ({key_setting}) holds {sort}; it must hold {what}")));
            }
            None => return Err(Unusable(format!("it holds {found}, but no key {key:?} ({key_setting})"))),
        };
        return accept(text).map_err(|error| match describe(text) {
            Some(sort) => Unusable(format!("its key {key:?} ({key_setting}) holds {sort}; it must hold {what}")),
            None => Unusable(format!("its key {key:?} ({key_setting}): {error}")),
        });
    }
    let texts = || fields.iter().filter_map(|(name, value)| Some((name, clean(value.as_str()?))));
    let mut accepted: Vec<T> = Vec::new();
    for (_, text) in texts() {
        if let Ok(value) = accept(text)
            && !accepted.contains(&value)
        {
            accepted.push(value);
        }
    }
    match accepted.len() {
        1 => Ok(accepted.remove(0)),
        0 => {
            // If there is only one candidate, the error says why it is refused.
            let mut candidates = texts().filter(|(_, text)| describe(text).is_none());
            let reason = match (candidates.next(), candidates.next()) {
                (Some((name, text)), None) => accept(text).err().map(|error| format!("; {}: {error}", show(name))),
                _ => None,
            };
            let reason = reason.unwrap_or_default();
            Err(Unusable(format!("it holds {found}, and none of its values is {what}{reason}")))
        }
        several => {
            Err(Unusable(format!("it holds {found}, and {several} of its values could be {what}; set {key_setting}")))
        }
    }
}

/// Removes what often surrounds a text by accident: white space, quotes and invisible characters.
pub fn clean(text: &str) -> &str {
    let mut text = text.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
    while let Some(inner) = QUOTES.iter().find_map(|(open, close)| text.strip_prefix(*open)?.strip_suffix(*close)) {
        text = inner.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
    }
    text
}

/// The value of a secret, by its outer form.
enum Content {
    Text(String),
    Object(Vec<(String, Value)>),
    /// Other JSON, described.
    Json(&'static str),
}

impl Content {
    fn parse(secret: &str) -> Self {
        let bare = secret.trim_matches(|c: char| c.is_whitespace() || INVISIBLE.contains(&c));
        let parsed = serde_json::from_str(bare).or_else(|_| serde_json::from_str(clean(bare)));
        match parsed {
            Ok(Value::Object(fields)) => Self::Object(fields.into_iter().collect()),
            // An object that was encoded as JSON twice.
            Ok(Value::String(inner)) => match serde_json::from_str(clean(&inner)) {
                Ok(Value::Object(fields)) => Self::Object(fields.into_iter().collect()),
                _ => Self::Text(visible(clean(&inner))),
            },
            Ok(value @ (Value::Array(_) | Value::Null | Value::Bool(_))) => Self::Json(kind_of(&value)),
            Ok(Value::Number(_)) | Err(_) => Self::Text(visible(clean(bare))),
        }
    }
}

/// Removes invisible characters from a text. No URL and no token contains any.
fn visible(text: &str) -> String {
    text.chars().filter(|c| !INVISIBLE.contains(c)).collect()
}

/// What a text looks like. `None` for a URL: only the caller can say what is wrong with it.
fn describe(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    Some(match text {
        "" => "nothing".into(),
        _ if starts(&["{", "["]) => "text that begins like JSON, but is not valid JSON".into(),
        _ if starts(&["-----BEGIN "]) => "a key or certificate in PEM form".into(),
        _ if lines > 1 => format!("{lines} lines of text"),
        _ if starts(&["xoxb-"]) => "a Slack bot token (xoxb-…)".into(),
        _ if starts(&["xoxp-", "xoxa-", "xoxr-", "xoxe-", "xoxe.", "xoxs-", "xoxc-", "xoxd-", "xapp-"]) => {
            "a Slack token of another kind than a bot token".into()
        }
        _ if starts(&["arn:"]) => "an ARN".into(),
        _ if starts(&["https://", "http://"]) && !text.contains(char::is_whitespace) => return None,
        _ if starts(&["hooks.slack.com/", "hooks.slack-gov.com/"]) => "a URL without https://".into(),
        _ if is_assignment(text) => "a line of the form NAME=value".into(),
        _ if text.contains("://") => "a URL with other text around it".into(),
        _ => "text that is neither a URL nor a Slack token".into(),
    })
}

fn is_assignment(text: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ' ');
    text.split_once('=').is_some_and(|(left, _)| name(left.trim()))
}

fn describe_object(fields: &[(String, Value)]) -> String {
    let shown = fields.iter().take(MAX_SHOWN_KEYS).map(|(name, _)| show(name)).collect::<Vec<_>>().join(", ");
    let more = fields.len().saturating_sub(MAX_SHOWN_KEYS);
    match (fields.len(), more) {
        (0, _) => "an empty JSON object".into(),
        (1, _) => format!("JSON with the key {shown}"),
        (_, 0) => format!("JSON with the keys {shown}"),
        _ => format!("JSON with the keys {shown} and {more} more"),
    }
}

/// A key of an object, as an error may show it. A key that may be a misplaced secret is not shown.
fn show(key: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' ');
    let harmless = key.len() <= 40 && key.chars().all(is_name) && !key.starts_with("xox") && !key.starts_with("xapp");
    if harmless { format!("{key:?}") } else { "(a key that is not shown)".into() }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a JSON array",
        Value::Object(_) => "a JSON object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://hooks.slack.com/services/T0/B0/sesame";
    const EXPECTED: Expected = Expected { what: "the webhook's URL", key_setting: "webhook_secret_key" };

    fn accept(text: &str) -> Result<String, String> {
        match text.strip_prefix("https://hooks.slack.com/") {
            Some(_) if !text.contains(char::is_whitespace) => Ok(text.to_owned()),
            _ if text.starts_with("https://") => Err("its host is not allowed".into()),
            _ => Err("it is not a URL".into()),
        }
    }

    fn extracted(secret: &str, key: Option<&str>) -> Result<String, String> {
        extract(secret, key, EXPECTED, accept).map_err(|unusable| unusable.to_string())
    }

    #[test]
    fn a_url_is_extracted_from_whatever_people_put_around_it() {
        for secret in [
            URL.to_owned(),
            format!("  {URL}\r\n"),
            format!("\"{URL}\""),
            format!("'{URL}'\n"),
            format!("\u{feff}{URL}"),
            format!("\u{feff}\"{URL}\u{200b}\" "),
            format!("“{URL}”"),
            format!("<{URL}>"),
            URL.replace("services", "ser\u{200b}vices"),
            format!(r#"{{"url":"{URL}"}}"#),
            format!("\u{feff}{{\"url\": \"{URL}\"}}\n"),
            format!(r#"'{{"url":"{URL}"}}'"#),
            format!(r#"{{"url":" \"{URL}\" ","channel":"C0","retries":3,"on":true,"more":{{}}}}"#),
            format!(r#"{{"webhook":"{URL}","url":"{URL}"}}"#),
            serde_json::to_string(&format!(r#"{{"url":"{URL}"}}"#)).unwrap(),
        ] {
            assert_eq!(extracted(&secret, None).as_deref(), Ok(URL), "{secret}");
        }
    }

    #[test]
    fn a_key_chooses_among_several() {
        let several = format!(r#"{{"a":"{URL}","b":"{URL}2","n":1}}"#);
        assert_eq!(extracted(&several, Some("b")), Ok(format!("{URL}2")));
        assert_eq!(extracted(URL, Some("b")).as_deref(), Ok(URL), "a plain URL needs no key");
        for (key, parts) in [
            (None, vec![r#"the keys "a", "b", "n""#, "2 of its values", "webhook_secret_key"]),
            (Some("c"), vec![r#"the keys "a", "b", "n""#, r#"no key "c""#]),
            (Some("n"), vec![r#"its key "n""#, "a number"]),
        ] {
            let error = extracted(&several, key).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn an_unusable_secret_is_described_without_its_values() {
        for (secret, part) in [
            ("".to_owned(), "nothing"),
            (" \u{feff}\"\" ".to_owned(), "nothing"),
            ("{}".into(), "an empty JSON object"),
            (r#"{"a":"sesame","b":1}"#.into(), r#"JSON with the keys "a", "b", and none"#),
            (r#"{"username":"sesame"}"#.into(), r#"JSON with the key "username""#),
            (format!(r#"{{"{URL}":""}}"#), "not shown"),
            (r#"{"xoxb-1-sesame":""}"#.into(), "not shown"),
            (r#"{"u":"https://evil.example/sesame","c":"x"}"#.into(), r#""u": its host is not allowed"#),
            (format!("[\"{URL}\"]"), "a JSON array"),
            ("null".into(), "null"),
            (format!("{{\"url\": \"{URL}\""), "not valid JSON"),
            (format!("{URL}\n{URL}"), "2 lines"),
            ("xoxb-1-2-sesame".into(), "bot token"),
            ("xapp-1-sesame".into(), "token of another kind"),
            ("hooks.slack.com/services/T0/B0/sesame".into(), "a URL without https://"),
            (format!("SLACK_WEBHOOK_URL={URL}"), "NAME=value"),
            (format!("url: {URL}"), "other text around"),
            (format!("{URL} # sesame"), "other text around"),
            ("https://evil.example/sesame".into(), "its host is not allowed"),
            ("sesame".into(), "neither a URL"),
            ("12345".into(), "neither a URL"),
            ("arn:aws:secretsmanager:eu-west-1:1:secret:sesame".into(), "an ARN"),
            ("-----BEGIN PRIVATE KEY-----\nsesame\n".into(), "PEM"),
        ] {
            let error = extracted(&secret, None).unwrap_err();
            assert!(error.contains(part), "{secret}: {error}");
            assert!(!error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn a_token_is_extracted_the_same_way() {
        let expected = Expected { what: "a bot token", key_setting: "a key" };
        let token = |text: &str| text.starts_with("xoxb-").then(|| text.to_owned()).ok_or("it is not a bot token");
        for secret in ["xoxb-1-2-sesame\n", r#"{"token":"xoxb-1-2-sesame","app":"x"}"#] {
            assert_eq!(extract(secret, None, expected, token).as_deref(), Ok("xoxb-1-2-sesame"));
        }
        let error = extract(URL, None, expected, token).unwrap_err().to_string();
        assert!(error.contains("not a bot token") && !error.contains("sesame"), "{error}");
    }
}
