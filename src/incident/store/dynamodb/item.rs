//! Encodes an item's attributes. The names are short, because DynamoDB counts their bytes in every write. An incident with all its
//! 64 events takes about 2 KB.
//!
//! | attribute | type | |
//! |---|---|---|
//! | `pk` | S | the key, see [`Key`] |
//! | `expires` | N | when DynamoDB may delete it, in seconds since 1970 |
//! | `v` | N | version |
//! | `lh`, `lu`, `lr` | B, N, BOOL | lease: holder, until, whether for the recovery |
//! | `sev`, `ca`, `ev`, `ft` | S, L of S, N, N | severity, causes, events, failed tasks |
//! | `t0`, `t1`, `rep`, `seen`, `rec` | N | first and last event, last report, last record, recovery |
//! | `rk`, `rc`, `rt` | S | root: kind, channel, `ts` |
//! | `ro` | L of L of S | the other roots, each with the same three parts; missing parts are empty |
//! | `ids`, `tk` | B | ids of events and failed tasks, 16 bytes each |
//! | `dep`, `dbt` | B | deployments and the put-back recovery: an id and a byte each |
//!
//! Times are in milliseconds since 1970. A missing attribute means "none", so that a later version may add attributes.

use std::{collections::HashMap, sync::Arc};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use time::OffsetDateTime;

use crate::{
    alert::Severity,
    incident::{
        Deployment, Id, Incident, Key, Root,
        store::{Item, Lease, StoreError},
    },
};

pub(super) const PK: &str = "pk";
pub(super) const EXPIRES: &str = "expires";
pub(super) const VERSION: &str = "v";
pub(super) const HOLDER: &str = "lh";
pub(super) const UNTIL: &str = "lu";
pub(super) const RECOVERED: &str = "rec";

/// An item is kept a little longer than it is needed, because clocks differ.
const GRACE: time::Duration = time::Duration::HOUR;

type Attributes = HashMap<String, AttributeValue>;

/// The attributes of the item, with its new version.
pub(super) fn encode(key: &Key, item: &Item, version: u64) -> Attributes {
    let mut attributes = Attributes::from([
        (PK.to_owned(), AttributeValue::S(key.incident())),
        (VERSION.to_owned(), number(version)),
        (EXPIRES.to_owned(), expires(item.expires().unwrap_or_else(OffsetDateTime::now_utc))),
    ]);
    let mut set = |name: &str, value| attributes.insert(name.to_owned(), value);
    if let Some(lease) = &item.lease {
        set(HOLDER, id(lease.holder));
        set(UNTIL, time(lease.until));
        set("lr", AttributeValue::Bool(lease.recovers));
    }
    let Some(incident) = &item.incident else { return attributes };
    set("sev", AttributeValue::S(incident.severity.as_str().to_owned()));
    set("ca", AttributeValue::L(incident.causes.iter().cloned().map(AttributeValue::S).collect()));
    set("ev", number(incident.events));
    set("ft", number(incident.failed_tasks));
    set("t0", time(incident.first_event));
    set("t1", time(incident.last_event));
    set("rep", time(incident.reported));
    set("seen", time(incident.seen));
    if let Some(recovered) = incident.recovered {
        set(RECOVERED, time(recovered));
    }
    if let Some(root) = &incident.root {
        for (name, part) in ["rk", "rc", "rt"].into_iter().zip(parts(root)).filter(|(_, part)| !part.is_empty()) {
            set(name, AttributeValue::S(part.to_owned()));
        }
    }
    if !incident.others.is_empty() {
        let other = |root| AttributeValue::L(parts(root).map(|part| AttributeValue::S(part.to_owned())).into());
        set("ro", AttributeValue::L(incident.others.iter().map(other).collect()));
    }
    set("ids", blob(incident.ids.iter().flat_map(|id| id.0)));
    set("tk", blob(incident.tasks.iter().flat_map(|id| id.0)));
    let flags = |deployment: &Deployment| u8::from(deployment.failed) | u8::from(deployment.rolled_back) << 1;
    set("dep", blob(incident.deployments.iter().flat_map(|one| one.id.0.into_iter().chain([flags(one)]))));
    set("dbt", blob(incident.unconfirmed_recovery.into_iter().flat_map(|(id, count)| id.0.into_iter().chain([count]))));
    attributes
}

/// Kind, channel and `ts` of a root. A version without fallbacks reads a fallback's webhook as the channel's own.
fn parts(root: &Root) -> [&str; 3] {
    match root {
        Root::Message { channel, ts } => ["message", channel, ts],
        Root::Digest { channel, ts } => ["digest", channel, ts],
        Root::Webhook => ["webhook", "", ""],
        Root::FallbackWebhook { channel } => ["webhook", channel, ""],
    }
}

/// The root that has these parts.
fn root([kind, channel, ts]: [String; 3]) -> Option<Root> {
    match (kind.as_str(), !channel.is_empty(), !ts.is_empty()) {
        ("message", true, true) => Some(Root::Message { channel, ts }),
        ("digest", true, true) => Some(Root::Digest { channel, ts }),
        ("webhook", true, _) => Some(Root::FallbackWebhook { channel }),
        ("webhook", false, _) => Some(Root::Webhook),
        _ => None,
    }
}

/// Decodes an item that [`encode`] encoded.
///
/// # Errors
/// Names the attribute that cannot be decoded.
pub(super) fn decode(attributes: &Attributes) -> Result<Item, StoreError> {
    let read = Read(attributes);
    let lease = match (read.bytes(HOLDER)?.as_chunks::<16>(), read.time(UNTIL)?) {
        (([holder], []), Some(until)) => {
            let recovers = attributes.get("lr").is_some_and(|value| value.as_bool() == Ok(&true));
            Some(Lease { holder: Id(*holder), until, recovers })
        }
        _ => None,
    };
    let incident = if attributes.contains_key("sev") { Some(Arc::new(read.incident()?)) } else { None };
    Ok(Item { version: read.number(VERSION)?, lease, incident })
}

/// A time, if the attribute exists.
///
/// # Errors
/// When it is not a time.
pub(super) fn decode_time(attributes: &Attributes, name: &str) -> Result<Option<OffsetDateTime>, StoreError> {
    Read(attributes).time(name)
}

pub(super) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn id(id: Id) -> AttributeValue {
    blob(id.0)
}

pub(super) fn time(time: OffsetDateTime) -> AttributeValue {
    AttributeValue::N(time.unix_timestamp_nanos().div_euclid(1_000_000).to_string())
}

/// The value of [`EXPIRES`] for an item that is needed until then.
pub(super) fn expires(counts_until: OffsetDateTime) -> AttributeValue {
    AttributeValue::N((counts_until + GRACE).unix_timestamp().to_string())
}

fn blob(bytes: impl IntoIterator<Item = u8>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes.into_iter().collect::<Vec<u8>>()))
}

struct Read<'a>(&'a Attributes);

impl Read<'_> {
    fn incident(&self) -> Result<Incident, StoreError> {
        let severity = self.text("sev")?;
        let severity = Severity::ALL.into_iter().find(|one| one.as_str() == severity).ok_or_else(|| wrong("sev"))?;
        let causes = self.0.get("ca").and_then(|causes| causes.as_l().ok()).map(Vec::as_slice).unwrap_or_default();
        let root = match self.0.get("rk") {
            None => None,
            Some(_) => {
                let rest = |name| self.0.get(name).map_or_else(|| Ok(String::new()), |_| self.text(name));
                Some(root([self.text("rk")?, rest("rc")?, rest("rt")?]).ok_or_else(|| wrong("rk"))?)
            }
        };
        let other = |value: &AttributeValue| {
            let [kind, channel, ts] = value.as_l().ok()?.as_slice() else { return None };
            let text = |part: &AttributeValue| part.as_s().ok().cloned();
            self::root([text(kind)?, text(channel)?, text(ts)?])
        };
        let others = self.0.get("ro").and_then(|others| others.as_l().ok()).map(Vec::as_slice).unwrap_or_default();
        let deployment = |(id, flags)| Deployment { id, failed: flags & 1 != 0, rolled_back: flags & 2 != 0 };
        let time = |name| self.time(name)?.ok_or_else(|| wrong(name));
        Ok(Incident {
            severity,
            causes: causes.iter().filter_map(|cause| cause.as_s().ok().cloned()).collect(),
            deployments: self.tagged_ids("dep")?.map(deployment).collect(),
            events: self.number("ev")?,
            failed_tasks: self.number("ft")?,
            first_event: time("t0")?,
            last_event: time("t1")?,
            reported: time("rep")?,
            seen: time("seen")?,
            recovered: self.time(RECOVERED)?,
            root,
            others: others.iter().filter_map(other).collect(),
            ids: self.bytes("ids")?.as_chunks().0.iter().copied().map(Id).collect(),
            tasks: self.bytes("tk")?.as_chunks().0.iter().copied().map(Id).collect(),
            unconfirmed_recovery: self.tagged_ids("dbt")?.next(),
        })
    }

    fn text(&self, name: &str) -> Result<String, StoreError> {
        self.0.get(name).and_then(|value| value.as_s().ok()).cloned().ok_or_else(|| wrong(name))
    }

    fn number(&self, name: &str) -> Result<u64, StoreError> {
        let number = self.0.get(name).and_then(|value| value.as_n().ok());
        number.and_then(|number| number.parse().ok()).ok_or_else(|| wrong(name))
    }

    fn time(&self, name: &str) -> Result<Option<OffsetDateTime>, StoreError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let millis = value.as_n().ok().and_then(|number| number.parse::<i64>().ok());
        let time =
            millis.and_then(|millis| OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok());
        time.map(Some).ok_or_else(|| wrong(name))
    }

    /// A missing attribute is empty.
    fn bytes(&self, name: &str) -> Result<&[u8], StoreError> {
        let Some(value) = self.0.get(name) else { return Ok(&[]) };
        value.as_b().map(|blob| blob.as_ref()).map_err(|_| wrong(name))
    }

    /// Ids, each followed by a byte.
    fn tagged_ids(&self, name: &str) -> Result<impl Iterator<Item = (Id, u8)>, StoreError> {
        let (chunks, _) = self.bytes(name)?.as_chunks::<17>();
        Ok(chunks.iter().map(|chunk| {
            let mut id = [0; 16];
            id.copy_from_slice(&chunk[..16]);
            (Id(id), chunk[16])
        }))
    }
}

fn wrong(name: &str) -> StoreError {
    StoreError::Foreign(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Subject;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_790_000_000 + seconds).unwrap() + time::Duration::milliseconds(7)
    }

    fn key() -> Key {
        Key::new("ops", "123456789012", "eu-west-1", "prod", Subject::Service, "checkout")
    }

    fn full() -> Incident {
        Incident {
            severity: Severity::Critical,
            causes: vec!["image_missing".into(), "oom".into()],
            deployments: vec![
                Deployment { id: Id::of("d1"), failed: true, rolled_back: false },
                Deployment { id: Id::of("d2"), failed: false, rolled_back: true },
            ],
            events: 1_234_567,
            failed_tasks: 24,
            first_event: at(0),
            last_event: at(50),
            reported: at(60),
            seen: at(70),
            recovered: Some(at(55)),
            root: Some(Root::Message { channel: "C0123".into(), ts: "1790000000.000100".into() }),
            others: vec![
                Root::Webhook,
                Root::FallbackWebhook { channel: "platform-alerts".into() },
                Root::Digest { channel: "C4567".into(), ts: "1790000000.000200".into() },
            ],
            ids: (0..64).map(|number| Id::of(&format!("event {number}"))).collect(),
            tasks: (0..32).map(|number| Id::of(&format!("task {number}"))).collect(),
            unconfirmed_recovery: Some((Id::of("recovery"), 2)),
        }
    }

    #[test]
    fn a_written_item_is_read_back() {
        let lease = Lease { holder: Id::of("me"), until: at(80), recovers: true };
        let bare = Incident {
            causes: vec![],
            deployments: vec![],
            recovered: None,
            root: None,
            others: vec![],
            ids: vec![],
            tasks: vec![],
            unconfirmed_recovery: None,
            ..full()
        };
        let digest = Some(Root::Digest { channel: "C1".into(), ts: "1.2".into() });
        for (lease, incident) in [
            (None, None),
            (Some(lease), None),
            (None, Some(bare.clone())),
            (Some(Lease { recovers: false, ..lease }), Some(full())),
            (None, Some(Incident { root: digest, ..bare.clone() })),
            (
                None,
                Some(Incident {
                    root: Some(Root::FallbackWebhook { channel: "platform-alerts".into() }),
                    ..bare.clone()
                }),
            ),
            (None, Some(Incident { root: Some(Root::Webhook), severity: Severity::Info, ..bare })),
        ] {
            let item = Item { version: 6, lease, incident: incident.map(Arc::new) };
            assert_eq!(decode(&encode(&key(), &item, 7)), Ok(Item { version: 7, ..item }));
        }
    }

    #[test]
    fn an_item_expires_when_nothing_in_it_is_needed() {
        let item = Item { version: 0, lease: None, incident: Some(full().into()) };
        let encoded = encode(&key(), &item, 1);
        // A day after the latest event, and an hour.
        let expected = 1_790_000_000 + 70 + 25 * 3600;
        assert_eq!(encoded[EXPIRES], AttributeValue::N(expected.to_string()));
    }

    #[test]
    fn an_incident_fits_into_three_write_units() {
        let encoded = encode(&key(), &Item { version: 0, lease: None, incident: Some(full().into()) }, 1);
        let bytes: usize = encoded
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    AttributeValue::B(blob) => blob.as_ref().len(),
                    AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
                    // The other roots.
                    AttributeValue::L(items) => 60 * items.len(),
                    _ => 30,
                };
                name.len() + value
            })
            .sum();
        assert!(bytes < 3 * 1024, "{bytes}");
    }

    #[test]
    fn an_unknown_item_is_an_error() {
        let item = Item { version: 0, lease: None, incident: Some(full().into()) };
        for name in [VERSION, "sev", "ev", "t0", "seen", "rk", "ids", "dep", RECOVERED] {
            let mut attributes = encode(&key(), &item, 1);
            attributes.insert(name.to_owned(), AttributeValue::S("?".into()));
            let error = decode(&attributes).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
        }
    }
}
