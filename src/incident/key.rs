//! The key of an incident: a text of limited length, the same in every replica and after every restart.

use std::{borrow::Cow, fmt};

use sha2::{Digest, Sha256};

use crate::alert::Subject;

/// A 128-bit hash of a text, such as an event's id, a task's ARN or a deployment's id. It is the same in every version of the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// The first half of the text's SHA-256.
    pub fn of(text: &str) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(text)[..16]);
        Self(id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({self})")
    }
}

/// The subject's name in keys. Never change a name, because stored incidents have it in their keys.
const fn name_of(subject: Subject) -> &'static str {
    match subject {
        Subject::Service => "service",
        Subject::Daemon => "daemon",
        Subject::Family => "family",
        Subject::Instance => "instance",
        Subject::Alarm => "alarm",
    }
}

/// The key of an incident: its subject and its channel.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    channel: String,
    subject: String,
}

impl Key {
    /// The key of `name` in the channel with this name in the configuration. Unknown parts are empty, such as the cluster of an
    /// alarm.
    pub fn new(channel: &str, account: &str, region: &str, cluster: &str, subject: Subject, name: &str) -> Self {
        let parts = [account, region, cluster, name_of(subject), name].map(segment);
        Self { channel: channel.to_owned(), subject: parts.join("/") }
    }

    /// The item of an incident: `platform-alerts/123456789012/eu-west-1/prod/service/checkout`. At most about 800 bytes;
    /// DynamoDB accepts 2,048.
    pub fn incident(&self) -> String {
        format!("incident/{}/{}", segment(&self.channel), self.subject)
    }

    /// The item of the latest recovery of the same subject, for all channels.
    pub fn recovery(&self) -> String {
        format!("recovery/{}", self.subject)
    }

    /// The channel's name in the configuration.
    pub fn channel(&self) -> &str {
        &self.channel
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.incident())
    }
}

/// The maximum length of a part in bytes. A longer part is hashed.
const MAX_BYTES: usize = 128;

/// A part without `/`, so that different subjects have different keys. A hashed part begins with `#`.
fn segment(text: &str) -> Cow<'_, str> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':' | b' ');
    let is_kept = text.len() <= MAX_BYTES && text.bytes().all(is_plain);
    if is_kept { Cow::Borrowed(text) } else { Cow::Owned(format!("#{}", Id::of(text))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(channel: &str, cluster: &str, name: &str) -> String {
        Key::new(channel, "123456789012", "eu-west-1", cluster, Subject::Service, name).incident()
    }

    #[test]
    fn a_key_is_readable() {
        assert_eq!(service("ops", "prod", "checkout"), "incident/ops/123456789012/eu-west-1/prod/service/checkout");
        let alarm = Key::new("ops", "123456789012", "eu-west-1", "", Subject::Alarm, "CPU > 90 %");
        assert!(alarm.recovery().starts_with("recovery/123456789012/eu-west-1//alarm/#"), "{alarm:?}");
    }

    #[test]
    fn no_two_subjects_share_a_key() {
        let long = "x".repeat(300);
        let longer = "x".repeat(301);
        let names = [("a", "b/c"), ("a/b", "c"), ("a", "b#c"), ("", "a"), ("a", ""), (&long, "a"), (&longer, "a")];
        let mut keys: Vec<String> = names.iter().map(|(cluster, name)| service("ops", cluster, name)).collect();
        keys.extend(["ops/a", "ops-a", "öps"].map(|channel| service(channel, "a", "b")));
        // A name that looks like a hashed part is hashed, too.
        keys.push(service("ops", &format!("#{}", Id::of(&long)), "a"));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count, "{keys:#?}");
    }

    #[test]
    fn a_key_is_bounded() {
        let huge = "ü/".repeat(5_000);
        let key = Key::new(&huge, &huge, &huge, &huge, Subject::Instance, &huge);
        assert!(key.incident().len() < 800, "{key:?}");
        let longest = "x".repeat(MAX_BYTES);
        let key = Key::new(&longest, &longest, &longest, &longest, Subject::Instance, &longest);
        assert!(key.incident().len() < 800, "{key:?}");
    }

    #[test]
    fn the_id_of_a_text_never_changes() {
        // `printf checkout | sha256sum`
        assert_eq!(Id::of("checkout").to_string(), "c7761e58969f7edd498186641b2021e8");
    }
}
