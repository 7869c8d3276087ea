//! What must be true for every payload, for any event. Pure; for the property tests and the fuzzer.
//!
//! This is stricter than Slack, which accepts a message that mentions the whole channel. The limits and the markup are written here again
//! instead of being imported from the program, because they check the program.

use serde_json::Value;

use super::limits;

/// Slack cuts the top-level text after this many characters.
const TEXT: usize = 40_000;
/// The characters of one text object, as UTF-16 code units. [`limits`] counts Unicode scalar values.
const SECTION: usize = 3_000;
/// The characters of a message, and how many each block adds to its text.
const MESSAGE: usize = 12_000;
const BLOCK: usize = 80;
/// The only hosts of links with a label, each with a region in front.
const CONSOLES: [&str; 4] =
    ["console.aws.amazon.com", "console.amazonaws.cn", "console.amazonaws-us-gov.com", "console.amazonaws-eusc.eu"];

/// The first fault of a payload: Slack would refuse or cut it, or text of an event got into it as markup.
pub fn fault(payload: &Value) -> Option<String> {
    if let Some((_, why)) = limits::refusal(payload) {
        return Some(format!("Slack refuses it: {why}"));
    }
    let text = payload["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Some("there is no top-level text, which the notification shows".into());
    }
    if units(text) > TEXT {
        return Some(format!("the text has {} characters", units(text)));
    }
    let objects: Vec<&Value> = blocks(payload).flat_map(text_objects).collect();
    if let Some(object) = objects.iter().find(|object| object["type"] == "mrkdwn" && object["verbatim"] != true) {
        return Some(format!("Slack makes links and mentions of {object}"));
    }
    let texts: Vec<&str> = objects.iter().filter_map(|object| object["text"].as_str()).collect();
    if let Some(long) = texts.iter().find(|text| units(text) > SECTION) {
        return Some(format!("a block has {} characters", units(long)));
    }
    let whole = texts.iter().map(|text| units(text)).sum::<usize>() + BLOCK * blocks(payload).count();
    if whole > MESSAGE {
        return Some(format!("the blocks have {whole} characters"));
    }
    [text].into_iter().chain(texts).find_map(|text| Some(format!("{}: {text:?}", markup_fault(text)?)))
}

/// All text in the blocks of a payload, with a line for each text object and without Slack's escapes.
pub fn shown(payload: &Value) -> String {
    let texts = blocks(payload).flat_map(text_objects).filter_map(|object| object["text"].as_str());
    let all = texts.collect::<Vec<_>>().join("\n");
    all.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn blocks(payload: &Value) -> impl Iterator<Item = &Value> {
    let attachments = payload["attachments"].as_array().into_iter().flatten();
    attachments.chain([payload]).filter_map(|holder| holder["blocks"].as_array()).flatten()
}

fn text_objects(block: &Value) -> impl Iterator<Item = &Value> {
    let listed = ["elements", "fields"].into_iter().filter_map(|key| block[key].as_array()).flatten();
    block.get("text").into_iter().chain(listed)
}

/// The first part of a text that is neither plain text nor markup of the renderer: a link to a console, a bare address, a date, a
/// quotation, a code span.
fn markup_fault(text: &str) -> Option<&'static str> {
    let mut rest = text;
    let mut at_start = true;
    let mut is_code = false;
    while let Some(c) = rest.chars().next() {
        let mut end = c.len_utf8();
        match c {
            '<' => {
                let Some((inside, _)) = rest[1..].split_once('>') else { return Some("a tag without an end") };
                if !is_console_link(inside) && !is_bare_address(inside) && !is_date(inside) {
                    return Some("a tag that is neither a link to a console, nor a bare address, nor a date");
                }
                end = inside.len() + 2;
            }
            '>' if !(at_start && rest.starts_with("> ")) => return Some("a bare >"),
            '&' if !["&amp;", "&lt;", "&gt;"].iter().any(|entity| rest.starts_with(entity)) => return Some("a bare &"),
            '`' => is_code = !is_code,
            '\n' if is_code => return Some("a code span that does not end"),
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                return Some("a character that changes the direction of writing, or separates lines");
            }
            c if c.is_control() && c != '\n' => return Some("a control character"),
            _ => {}
        }
        at_start = c == '\n';
        rest = &rest[end..];
    }
    is_code.then_some("a code span that does not end")
}

fn is_console_link(inside: &str) -> bool {
    let Some((host, path)) = inside.strip_prefix("https://").and_then(|url| url.split_once('/')) else { return false };
    let Some((path, label)) = path.split_once('|') else { return false };
    let region = CONSOLES.iter().find_map(|console| host.strip_suffix(console)?.strip_suffix('.'));
    region.is_some_and(|region| region.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'))
        && path.bytes().all(|c| c.is_ascii_graphic() && c != b'<')
        && !label.trim().is_empty()
        && !label.contains(['|', '<', '\n'])
        && markup_fault(label).is_none()
}

/// Any address is allowed without a label, because Slack then shows the address itself.
fn is_bare_address(inside: &str) -> bool {
    let Some(rest) = inside.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !host.is_empty()
        && host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-:".contains(&c))
        && rest.bytes().all(|c| c.is_ascii_graphic() && !b"<>|`".contains(&c))
}

fn is_date(inside: &str) -> bool {
    let Some((seconds, rest)) = inside.strip_prefix("!date^").and_then(|date| date.split_once('^')) else {
        return false;
    };
    let Some((format, fallback)) = rest.split_once('|') else { return false };
    seconds.parse::<u64>().is_ok()
        && ["{ago}", "{date_short_pretty} {time_secs}"].contains(&format)
        && fallback.ends_with(" UTC")
        && fallback.bytes().all(|c| c.is_ascii_alphanumeric() || b"-: ".contains(&c))
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(texts: &[&str]) -> Value {
        let section = |text| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } });
        let blocks: Vec<Value> = texts.iter().map(section).collect();
        json!({ "text": "fallback", "attachments": [{ "color": "danger", "blocks": blocks }] })
    }

    #[test]
    fn the_markup_of_the_renderer_is_not_a_fault() {
        for text in [
            "*checkout* is unable to start tasks",
            "> a quotation\n> of two lines with `code`",
            "a &amp; b &lt;!channel&gt;",
            "<https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/a%3Cb?region=eu-west-1&amp;x|`_odd_` &gt;>",
            "<!date^1795316412^{ago}|2026-11-22 03:00:12 UTC>",
            "Runbook: <https://wiki.example.com/a?b=c&amp;d>",
            "```aws ecs list-tasks```\n```aws ecs list-clusters```",
        ] {
            assert_eq!(fault(&message(&[text])), None, "{text}");
        }
        assert_eq!(fault(&json!({ "text": "plain" })), None);
    }

    #[test]
    fn a_mention_a_link_or_broken_markup_is_a_fault() {
        for text in [
            "<!channel>",
            "<!here|x>",
            "<@U012AB3CD>",
            "<#C1>",
            "<https://evil.example/|x>",
            "<https://evil.example/.console.aws.amazon.com/|x>",
            "<https://evil.example#.console.aws.amazon.com/|x>",
            "<https://eu-west-1.console.aws.amazon.com/|a|b>",
            "<https://console.aws.amazon.com@evil.example/>",
            "<http://evil.example/>",
            "<!date^1^{ago}^https://evil.example|2026-11-22 03:00:12 UTC>",
            "a > b",
            "a & b",
            "&nbsp;",
            "a <",
            "an open `code span",
            "an `open\ncode` span",
            "a\u{202e}b",
            "a\tb",
        ] {
            assert!(fault(&message(&[text])).is_some(), "{text:?}");
            assert!(fault(&json!({ "text": text })).is_some(), "{text:?}");
        }
    }

    #[test]
    fn one_character_over_each_limit_is_a_fault() {
        let of = |count: usize| "x".repeat(count);
        assert_eq!(fault(&json!({ "text": of(TEXT) })), None);
        assert!(fault(&json!({ "text": of(TEXT + 1) })).is_some());
        assert!(fault(&json!({ "text": "", "attachments": message(&["x"])["attachments"] })).is_some());
        assert_eq!(fault(&message(&["🔥".repeat(SECTION / 2).as_str()])), None);
        assert!(fault(&message(&["🔥".repeat(SECTION / 2 + 1).as_str()])).is_some());
        let quarter = of(MESSAGE / 4 - BLOCK);
        assert_eq!(fault(&message(&[&*quarter; 4])), None);
        assert!(fault(&message(&[&*quarter, &quarter, &quarter, &(quarter.clone() + "x")])).is_some());
        assert!(fault(&message(&["x"; 51])).is_some());
    }

    #[test]
    fn text_in_which_slack_would_look_for_names_is_a_fault() {
        let mut message = message(&["@channel"]);
        message["attachments"][0]["blocks"][0]["text"]["verbatim"] = false.into();
        assert!(fault(&message).is_some());
    }
}
