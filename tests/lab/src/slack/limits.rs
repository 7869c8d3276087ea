//! The payloads that Slack refuses, with the status and body of its answer. Pure.
//!
//! Only blocks and properties that alerts may use are modelled. Any other one is refused, like an unknown one.
//! Limits: <https://docs.slack.dev/reference/block-kit/blocks/> and `…/composition-objects/text-object/`.

use serde_json::{Map, Value};

const BLOCKS: usize = 50;
const ATTACHMENTS: usize = 100;
const SECTION_TEXT: usize = 3_000;
const FIELDS: usize = 10;
const FIELD_TEXT: usize = 2_000;
const HEADER_TEXT: usize = 150;
const CONTEXT_ELEMENTS: usize = 10;
const ACTION_ELEMENTS: usize = 25;
const BUTTON_TEXT: usize = 75;
const URL: usize = 3_000;
const BLOCK_ID: usize = 255;
const ALT_TEXT: usize = 2_000;

type Refusal = (u16, &'static str);

const INVALID_PAYLOAD: Refusal = (400, "invalid_payload");
const INVALID_BLOCKS: Refusal = (400, "invalid_blocks");
const NO_TEXT: Refusal = (400, "no_text");
const TOO_MANY_ATTACHMENTS: Refusal = (400, "too_many_attachments");

/// The first fault of a payload; `None` if Slack would post it.
pub(super) fn refusal(payload: &Value) -> Option<Refusal> {
    judge(payload).err()
}

fn judge(payload: &Value) -> Result<(), Refusal> {
    let payload = payload.as_object().ok_or(INVALID_PAYLOAD)?;
    // Slack cuts a text of more than 40,000 characters, and does not refuse it.
    let text = string(payload, "text")?;
    let blocks = list(payload, "blocks")?;
    let attachments = list(payload, "attachments")?;
    if text.is_empty() && blocks.is_empty() && attachments.is_empty() {
        return Err(NO_TEXT);
    }
    if attachments.len() > ATTACHMENTS {
        return Err(TOO_MANY_ATTACHMENTS);
    }
    let mut count = blocks.len();
    require(blocks.iter().all(block))?;
    for attachment in attachments {
        let attachment = attachment.as_object().ok_or(INVALID_PAYLOAD)?;
        let texts = ["color", "fallback", "pretext", "title", "title_link", "text", "footer"];
        for key in texts {
            string(attachment, key)?;
        }
        let inner = list(attachment, "blocks")?;
        let shown = ["fallback", "pretext", "title", "text"];
        if inner.is_empty() && shown.iter().all(|key| attachment.get(*key).is_none_or(|text| text == "")) {
            return Err(NO_TEXT);
        }
        count += inner.len();
        require(inner.iter().all(block))?;
    }
    require(count <= BLOCKS)
}

fn block(block: &Value) -> bool {
    let Some(block) = block.as_object() else { return false };
    let known = |keys: &[&str]| {
        block.keys().all(|key| ["type", "block_id"].contains(&key.as_str()) || keys.contains(&key.as_str()))
    };
    let elements = |most: usize, of: fn(&Value) -> bool| {
        block
            .get("elements")
            .and_then(Value::as_array)
            .is_some_and(|all| (1..=most).contains(&all.len()) && all.iter().all(of))
    };
    let id = block.get("block_id").is_none_or(|id| text_within(id, BLOCK_ID));
    id && match block.get("type").and_then(Value::as_str) {
        Some("divider") => known(&[]),
        Some("header") => known(&["text"]) && block.get("text").is_some_and(|text| plain_text(text, HEADER_TEXT)),
        Some("section") => {
            known(&["text", "fields", "accessory", "expand"])
                && (block.contains_key("text") || block.contains_key("fields"))
                && block.get("text").is_none_or(|text| text_object(text, SECTION_TEXT))
                && block.get("fields").is_none_or(fields)
                && block.get("accessory").is_none_or(|accessory| button(accessory) || image(accessory))
                && block.get("expand").is_none_or(Value::is_boolean)
        }
        Some("context") => {
            known(&["elements"])
                && elements(CONTEXT_ELEMENTS, |element| text_object(element, SECTION_TEXT) || image(element))
        }
        Some("actions") => known(&["elements"]) && elements(ACTION_ELEMENTS, button),
        Some("image") => {
            known(&["image_url", "alt_text", "title"])
                && image_source(block)
                && block.get("title").is_none_or(|title| plain_text(title, ALT_TEXT))
        }
        _ => false,
    }
}

fn fields(fields: &Value) -> bool {
    fields.as_array().is_some_and(|fields| {
        (1..=FIELDS).contains(&fields.len()) && fields.iter().all(|field| text_object(field, FIELD_TEXT))
    })
}

fn text_object(object: &Value, most: usize) -> bool {
    let option = match object["type"].as_str() {
        Some("mrkdwn") => "verbatim",
        Some("plain_text") => "emoji",
        _ => return false,
    };
    let known = object.as_object().is_some_and(|object| {
        object.iter().all(|(key, value)| match key.as_str() {
            "type" | "text" => true,
            key => key == option && value.is_boolean(),
        })
    });
    known && text_within(&object["text"], most)
}

fn plain_text(object: &Value, most: usize) -> bool {
    object["type"] == "plain_text" && text_object(object, most)
}

fn button(element: &Value) -> bool {
    let known = ["type", "text", "url", "action_id", "value", "style", "accessibility_label"];
    element["type"] == "button"
        && element.as_object().is_some_and(|element| element.keys().all(|key| known.contains(&key.as_str())))
        && plain_text(&element["text"], BUTTON_TEXT)
        && element.get("url").is_none_or(|url| text_within(url, URL))
        && element.get("action_id").is_none_or(|id| text_within(id, BLOCK_ID))
        && element.get("value").is_none_or(|value| text_within(value, ALT_TEXT))
        && element.get("style").is_none_or(|style| style == "primary" || style == "danger")
}

fn image(element: &Value) -> bool {
    element["type"] == "image" && element.as_object().is_some_and(|element| element.len() == 3 && image_source(element))
}

fn image_source(image: &Map<String, Value>) -> bool {
    image.get("image_url").is_some_and(|url| text_within(url, URL))
        && image.get("alt_text").is_some_and(|text| text_within(text, ALT_TEXT))
}

/// Counts characters after escaping. Slack does not say whether it counts before or after; this is the stricter way.
fn text_within(text: &Value, most: usize) -> bool {
    text.as_str().is_some_and(|text| (1..=most).contains(&text.chars().count()))
}

/// An optional string.
fn string<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, Refusal> {
    object.get(key).map_or(Ok(""), |value| value.as_str().ok_or(INVALID_PAYLOAD))
}

/// An optional list.
fn list<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], Refusal> {
    object.get(key).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or(INVALID_PAYLOAD))
}

fn require(right: bool) -> Result<(), Refusal> {
    if right { Ok(()) } else { Err(INVALID_BLOCKS) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(text: &str) -> Value {
        json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
    }

    fn blocks(blocks: Value) -> Option<Refusal> {
        refusal(&json!({ "text": "fallback", "attachments": [{ "color": "danger", "blocks": blocks }] }))
    }

    #[test]
    fn an_alert_with_every_kind_of_block_is_accepted() {
        let alert = json!([
            { "type": "header", "text": { "type": "plain_text", "text": "h", "emoji": true } },
            section(&"é".repeat(3_000)),
            { "type": "section", "fields": vec![json!({ "type": "mrkdwn", "text": "f".repeat(2_000) }); 10] },
            { "type": "divider" },
            { "type": "context", "elements": vec![json!({ "type": "plain_text", "text": "c" }); 10] },
            { "type": "actions", "elements": [
                { "type": "button", "text": { "type": "plain_text", "text": "Log" }, "url": "https://example.com/" },
            ] },
        ]);
        assert_eq!(blocks(alert), None);
        assert_eq!(refusal(&json!({ "text": "plain" })), None);
        assert_eq!(refusal(&json!({ "text": "x".repeat(50_000) })), None);
    }

    #[test]
    fn a_payload_without_text_is_refused_as_no_text() {
        for nothing in [json!({}), json!({ "text": "" }), json!({ "text": "", "blocks": [], "attachments": [] })] {
            assert_eq!(refusal(&nothing), Some(NO_TEXT), "{nothing}");
        }
        assert_eq!(refusal(&json!({ "text": "t", "attachments": [{ "color": "danger" }] })), Some(NO_TEXT));
    }

    #[test]
    fn wrong_types_are_refused_as_invalid_payload() {
        for wrong in [json!(null), json!([]), json!({ "text": 1 }), json!({ "text": "t", "blocks": {} })] {
            assert_eq!(refusal(&wrong), Some(INVALID_PAYLOAD), "{wrong}");
        }
    }

    #[test]
    fn one_over_each_limit_is_refused() {
        let text = |length: usize| json!({ "type": "mrkdwn", "text": "x".repeat(length) });
        let button = |url: usize| json!({ "type": "button", "text": { "type": "plain_text", "text": "b" }, "url": "u".repeat(url) });
        let cases = [
            ("blocks", json!(vec![section("x"); 51])),
            ("section text", json!([section(&"x".repeat(3_001))])),
            ("empty section text", json!([section("")])),
            ("fields", json!([{ "type": "section", "fields": vec![text(1); 11] }])),
            ("no fields", json!([{ "type": "section", "fields": [] }])),
            ("field text", json!([{ "type": "section", "fields": [text(2_001)] }])),
            ("header", json!([{ "type": "header", "text": { "type": "plain_text", "text": "x".repeat(151) } }])),
            ("header with mrkdwn", json!([{ "type": "header", "text": text(1) }])),
            ("context elements", json!([{ "type": "context", "elements": vec![text(1); 11] }])),
            ("no context elements", json!([{ "type": "context", "elements": [] }])),
            ("buttons", json!([{ "type": "actions", "elements": vec![button(1); 26] }])),
            ("button URL", json!([{ "type": "actions", "elements": [button(3_001)] }])),
            ("section with nothing", json!([{ "type": "section" }])),
            ("unknown block", json!([{ "type": "sektion", "text": text(1) }])),
            ("unknown property", json!([{ "type": "divider", "text": text(1) }])),
            ("not an object", json!(["section"])),
            ("not a string", json!([{ "type": "section", "text": { "type": "mrkdwn", "text": 1 } }])),
        ];
        for (what, case) in cases {
            assert_eq!(blocks(case), Some(INVALID_BLOCKS), "{what}");
        }
        let attachments = vec![json!({ "text": "a" }); 101];
        assert_eq!(refusal(&json!({ "attachments": attachments })), Some(TOO_MANY_ATTACHMENTS));
    }
}
