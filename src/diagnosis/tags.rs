//! The tags of a service, such as its owner and the address of its runbook. Pure.

use serde_json::{Map, Value};

use crate::event::{list, text};

/// The most tags that a resource can have. <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>
const MAX_TAGS: usize = 50;

/// The tags of one service. Keys and values are case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags(Value);

impl Tags {
    /// Reads the tags of a service from an answer of DescribeServices with `include = ["TAGS"]`.
    pub fn of(described: &Value) -> Self {
        let tags = list(described, "tags").take(MAX_TAGS).filter_map(|tag| {
            // A tag without a value has an empty one.
            let value = tag.get("value").and_then(Value::as_str).unwrap_or_default();
            Some((text(tag, "key")?.to_owned(), value.into()))
        });
        Self(Value::Object(tags.collect::<Map<_, _>>()))
    }

    /// The value of a tag; `None` if the service does not have the tag.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// A JSON object of keys and values, which patterns are matched against.
    pub fn as_value(&self) -> &Value {
        &self.0
    }
}
