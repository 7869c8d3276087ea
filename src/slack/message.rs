//! A message for Slack: its limits, text, blocks and JSON body. Does not know alerts.
//!
//! Invariant: external text enters a message only through [`Text`], which escapes it and limits its length. So no event can
//! mention people, forge a link, or make a message too long.

mod text;

use serde_json::{Value, json};

pub use text::{Text, visible};

/// Blocks in one message. <https://docs.slack.dev/reference/block-kit/blocks>
pub const MAX_BLOCKS: usize = 50;
/// Characters in one text object, for example of a section.
/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>
pub const MAX_SECTION: usize = 3_000;
/// Characters in one URL. Slack documents the limit for buttons; we apply it to links too.
/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>
pub const MAX_URL: usize = 3_000;
/// Characters in the top-level `text`. Slack truncates a longer one.
/// <https://api.slack.com/changelog/2018-04-truncating-really-long-messages>
pub const MAX_TEXT: usize = 40_000;
/// Characters in all blocks of one message, plus [`BLOCK`] for each block: our own budget. Slack refuses longer messages
/// (`msg_blocks_too_long`) but documents no number. People found 12,000 characters of text, and some more for the blocks' JSON.
/// <https://github.com/slackapi/bolt-js/issues/2509>
pub const MAX_MESSAGE: usize = 12_000;
/// Characters that a block adds to a message besides its text: its JSON.
pub const BLOCK: usize = 80;

/// The JSON body of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Payload(Value);

impl Payload {
    /// A phone's notification shows `text`. The blocks are in an attachment, because only attachments have a colour.
    /// `color` is `good`, `warning`, `danger` or `#RRGGBB`.
    pub fn new(text: Text, color: &str, blocks: Vec<Value>) -> Self {
        debug_assert!(blocks.len() <= MAX_BLOCKS);
        Self(json!({"text": text.markup, "attachments": [{"color": color, "blocks": blocks}]}))
    }

    /// Only text.
    pub fn plain(text: Text) -> Self {
        Self(json!({"text": text.markup}))
    }

    /// Appends markup from the configuration to the text that a notification shows.
    pub fn append_text(&mut self, markup: &str) {
        let text = self.0["text"].as_str().unwrap_or_default();
        self.0["text"] = format!("{text}{markup}").into();
    }

    /// The text of the JSON body.
    pub fn body(&self) -> String {
        self.0.to_string()
    }

    /// The same as a JSON value.
    pub fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A section block.
pub fn section(text: Text) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// A context block: one line in small grey letters.
pub fn context(text: Text) -> Value {
    json!({"type": "context", "elements": [mrkdwn(text)]})
}

/// With `verbatim`, Slack does not turn external names into links and mentions.
fn mrkdwn(text: Text) -> Value {
    json!({"type": "mrkdwn", "text": text.markup, "verbatim": true})
}
