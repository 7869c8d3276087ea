//! Whom a message notifies: Slack's markup for a person, a user group or everybody in a channel. Pure.
//!
//! Invariant: a mention comes from the configuration alone. Text from events cannot contain a mention, because it is escaped wherever
//! it is shown.

use crate::alert::Severity;

/// Whom an alert notifies, and from which severity on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Slack's markup, one or several separated by a space.
    pub whom: String,
    /// The least severity that mentions them.
    pub from: Severity,
}

/// Whether a mention is for everybody in the channel. Slack does not send such a notification for a reply that is only in a thread.
pub fn is_for_channel(whom: &str) -> bool {
    whom.split(' ').any(|one| CHANNEL_WIDE.contains(&one))
}

const CHANNEL_WIDE: [&str; 2] = ["<!here>", "<!channel>"];

/// The accepted mentions, for error messages.
const ACCEPTED: &str = "write \"<!subteam^S0123456789>\" for a user group, \"<@U0123456789>\" for a person, \"<!here>\" or \"<!channel>\", \
                        or several of them separated by spaces";

/// Reads one or several mentions, and separates them by one space. Keeps a repeated mention once.
///
/// # Errors
/// What is wrong with the text and what is accepted. The caller adds the name of the key.
pub fn parse(text: &str) -> Result<String, String> {
    let mut whom: Vec<&str> = Vec::new();
    for one in text.split_whitespace() {
        check(one)?;
        if !whom.contains(&one) {
            whom.push(one);
        }
    }
    if whom.is_empty() { Err(format!("names nobody; {ACCEPTED}")) } else { Ok(whom.join(" ")) }
}

fn check(one: &str) -> Result<(), String> {
    if CHANNEL_WIDE.contains(&one) {
        return Ok(());
    }
    let inner = one.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'));
    let is_known = inner.is_some_and(|inner| match inner.strip_prefix("!subteam^") {
        Some(group) => is_id(group, &['S']),
        None => inner.strip_prefix('@').is_some_and(|person| is_id(person, &['U', 'W'])),
    });
    if is_known {
        return Ok(());
    }
    // A URL is not shown: it may be a webhook in the wrong place.
    if one.contains("://") {
        return Err(format!("is a URL; {ACCEPTED}"));
    }
    Err(match one {
        "@here" | "<@here>" | "!here" => format!("{one:?} would be plain text in Slack; write \"<!here>\""),
        "@channel" | "<@channel>" | "!channel" => {
            format!("{one:?} would be plain text in Slack; write \"<!channel>\"")
        }
        "@everyone" | "<!everyone>" | "<@everyone>" => {
            format!("{one:?} would notify everybody in the workspace; {ACCEPTED}")
        }
        _ if one.starts_with('@') => {
            format!("{one:?} is a name, and Slack notifies by ids only; {ACCEPTED}")
        }
        _ => format!("{one:?} is not a mention; {ACCEPTED}"),
    })
}

/// Whether it is one of Slack's ids: a letter for the kind, then capital letters and digits.
fn is_id(id: &str, kinds: &[char]) -> bool {
    id.len() >= 9 && id.starts_with(kinds) && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_people_and_channels_are_mentioned_by_slacks_markup() {
        for whom in ["<!subteam^S0123456789>", "<@U0123456789>", "<@W012345678>", "<!here>", "<!channel>"] {
            assert_eq!(parse(whom).as_deref(), Ok(whom));
        }
        assert_eq!(parse("  <!here>\t<@U0123456789> <!here>").as_deref(), Ok("<!here> <@U0123456789>"));
    }

    #[test]
    fn a_mention_that_slack_would_show_as_plain_text_is_refused_and_the_error_says_what_to_write() {
        for (whom, expected) in [
            ("@here", "write \"<!here>\""),
            ("<!here> @channel", "write \"<!channel>\""),
            ("@oncall", "is a name, and Slack notifies by ids only"),
            ("<!everyone>", "everybody in the workspace"),
            ("U0123456789", "is not a mention; write \"<!subteam^S"),
            ("<@S0123456789>", "is not a mention"),
            ("<!subteam^S0123456789|@oncall>", "is not a mention"),
            ("<!subteam^s0123456789>", "is not a mention"),
            ("<@U0123456789", "is not a mention"),
            ("<@U0123456789>,<!here>", "is not a mention"),
            (" ", "names nobody"),
        ] {
            let error = parse(whom).unwrap_err();
            assert!(error.contains(expected), "{whom}: {error}");
        }
        assert!(!parse("https://hooks.slack.com/services/sesame").unwrap_err().contains("sesame"));
    }

    #[test]
    fn a_mention_of_everybody_in_the_channel_is_recognised() {
        assert!(is_for_channel("<@U0123456789> <!here>") && is_for_channel("<!channel>"));
        assert!(!is_for_channel("<@U0123456789> <!subteam^S0123456789>"));
    }
}
