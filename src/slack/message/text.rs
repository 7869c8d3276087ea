//! Text in Slack's markup, made of our own markup and of text from outside.
//!
//! Invariant: text from outside gets in only escaped, and nothing is longer than it may be.

use time::{OffsetDateTime, UtcOffset};

use super::MAX_URL;
use crate::text;

/// Slack markup (mrkdwn) of at most so many characters, made of our own markup and escaped text from outside.
///
/// Characters are counted as UTF-16 code units, after escaping: Slack does not say how it counts, and no way of counting
/// characters finds more than this one.
#[derive(Debug, Clone)]
pub struct Text {
    pub(super) markup: String,
    units: usize,
    limit: usize,
}

impl Text {
    /// Empty, and never longer than `limit` characters.
    pub const fn with_limit(limit: usize) -> Self {
        Self { markup: String::new(), units: 0, limit }
    }

    /// Its length in characters, as Slack may count them.
    pub const fn units(&self) -> usize {
        self.units
    }

    /// How many characters still fit.
    pub const fn room(&self) -> usize {
        self.limit - self.units
    }

    /// Whether nothing was written yet.
    pub const fn is_empty(&self) -> bool {
        self.units == 0
    }

    /// Appends markup of our own; all of it or, if it does not fit, nothing.
    pub fn markup(&mut self, markup: &str) -> &mut Self {
        let units = utf16_len(markup);
        if units <= self.room() {
            self.markup.push_str(markup);
            self.units += units;
        }
        self
    }

    /// Appends another text; all of it or, if it does not fit, nothing.
    pub fn append(&mut self, other: &Self) -> &mut Self {
        if other.units <= self.room() {
            self.markup.push_str(&other.markup);
            self.units += other.units;
        }
        self
    }

    /// Appends text from outside as one line: escaped, and cut with an ellipsis to at most `max` characters.
    pub fn outside(&mut self, text: &str, max: usize) -> &mut Self {
        let start = self.markup.len();
        let end = self.units + max.min(self.room());
        let mut cut = None;
        let mut piece = String::new();
        for character in text::characters(visible(text)) {
            piece.clear();
            for c in character.chars() {
                match inert(c) {
                    '&' => piece.push_str("&amp;"),
                    '<' => piece.push_str("&lt;"),
                    '>' => piece.push_str("&gt;"),
                    c => piece.push(c),
                }
            }
            if self.units < end {
                cut = Some((self.markup.len(), self.units));
            }
            let units = utf16_len(&piece);
            if self.units + units > end {
                if let Some((len, units)) = cut {
                    self.markup.truncate(len);
                    self.units = units;
                    while self.markup.len() > start && self.markup.ends_with(' ') {
                        self.markup.pop();
                        self.units -= 1;
                    }
                    self.markup(text::ELLIPSIS.encode_utf8(&mut [0; 4]));
                }
                return self;
            }
            self.markup.push_str(&piece);
            self.units += units;
        }
        self
    }

    /// Appends a name from outside. One that Slack would read as formatting (`*bold*`, `_x_`) comes in a code span.
    pub fn name(&mut self, name: &str, max: usize) -> &mut Self {
        let max = max.min(self.room());
        match reads_as_formatting(name, max) {
            true if max > 2 => self.markup("`").outside(name, max - 2).markup("`"),
            true => self,
            false => self.outside(name, max),
        }
    }

    /// Appends a link whose label is text from outside, cut to `max` characters. A link that does not fit, or whose URL could
    /// break out of it, is not appended at all: then the answer is false.
    pub fn link(&mut self, url: &str, label: &str, max: usize) -> bool {
        let breaks_out = |c: char| matches!(c, '<' | '>' | '|') || c.is_whitespace() || inert(c) != c;
        if !url.starts_with("https://") || url.len() > MAX_URL || url.contains(breaks_out) {
            return false;
        }
        // Escaping keeps `>` out of a label; what a `|` would do there Slack does not say.
        let mut name = Self::with_limit(max);
        name.name(&label.replace('|', "¦"), max);
        let opening = format!("<{}|", url.replace('&', "&amp;"));
        let fits = !name.is_empty() && utf16_len(&opening) + name.units < self.room();
        if fits {
            self.markup(&opening).append(&name).markup(">");
        }
        fits
    }

    /// Appends text from outside as one line, in which each whole https address is a link that shows itself: what a reader sees
    /// is where it leads. Anything else that looks like a link stays text.
    pub fn linking(&mut self, text: &str, max: usize) -> &mut Self {
        let end = self.units + max.min(self.room());
        let mut rest = visible(text);
        while let Some(at) = rest.find("https://") {
            let (before, found) = rest.split_at(at);
            let url = address(found);
            let link = format!("<{}>", url.replace('&', "&amp;"));
            if !self.words(before, end) {
                return self;
            }
            let room = end.saturating_sub(self.units);
            if is_plain_address(url) && utf16_len(&link) < room {
                self.markup(&link);
            } else {
                self.outside(url, room);
                if utf16_len(url) >= room {
                    return self;
                }
            }
            rest = found.get(url.len()..).unwrap_or_default();
        }
        self.words(rest, end);
        self
    }

    /// [`Text::outside`], with a space where the text has one at either end. Whether it was appended whole.
    fn words(&mut self, text: &str, end: usize) -> bool {
        let space = |is_there: bool| if is_there { " " } else { "" };
        let whole = visible(text);
        if !whole.is_empty() {
            self.markup(space(text.starts_with(char::is_whitespace)));
            // What follows needs two characters at least, if only to say that there is more.
            let room = end.saturating_sub(self.units + 2);
            self.outside(whole, room);
            if room == 0 || (self.markup.ends_with('…') && !whole.ends_with('…')) {
                return false;
            }
        }
        if self.units < end {
            self.markup(space(text.ends_with(char::is_whitespace)));
        }
        true
    }

    /// Appends a command on a line of its own, as code to copy; all of it or, if it does not fit or could break out, nothing.
    pub fn command(&mut self, command: &str) -> &mut Self {
        let is_plain = |c: u8| matches!(c, b' '..=b'~') && !b"<>&`".contains(&c);
        let start = if self.is_empty() { "" } else { "\n" };
        if !command.is_empty() && command.bytes().all(is_plain) {
            self.markup(&format!("{start}```{command}```"));
        }
        self
    }

    /// Appends text from outside as a quotation of at most `lines` lines and `max` characters; blank lines are left out.
    pub fn quote(&mut self, text: &str, lines: usize, max: usize) -> &mut Self {
        let end = self.units + max.min(self.room());
        let mut rest = text.lines().map(visible).filter(|line| !line.is_empty()).peekable();
        let mut prefix = "> ";
        for _ in 0..lines {
            // Two characters are kept for the sign that there is more.
            let room = end.saturating_sub(self.units + prefix.len() + 2);
            if room == 0 {
                break;
            }
            let Some(line) = rest.next() else { break };
            self.markup(prefix).outside(line, room);
            prefix = "\n> ";
        }
        if rest.peek().is_some() && !self.markup.ends_with('…') {
            self.markup(" …");
        }
        self
    }

    /// Appends a time, shown in the reader's zone after `format` (`{ago}`, `{time_secs}` …); where Slack cannot do that, in UTC.
    /// <https://docs.slack.dev/messaging/formatting-message-text#date-formatting>
    pub fn date(&mut self, time: OffsetDateTime, format: &str) -> &mut Self {
        let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
        let (year, month, day) = utc.to_calendar_date();
        let (hour, minute, second) = utc.to_hms();
        let month = u8::from(month);
        let fallback = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC");
        match utc.unix_timestamp() {
            // Slack knows no time before 1970.
            ..0 => self.markup(&fallback),
            seconds => self.markup(&format!("<!date^{seconds}^{format}|{fallback}>")),
        }
    }
}

/// Text from outside without what shows nothing at either end; empty if there is nothing to see in it.
pub fn visible(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || inert(c) == ' ')
}

/// What a character from outside may become without harm: controls and direction overrides would break or reverse the line,
/// and an open backtick would make code of all that follows.
fn inert(c: char) -> char {
    match c {
        '`' => '\'',
        c if text::is_inert(c) => ' ',
        c => c,
    }
}

/// Whether Slack would take part of this name for formatting; `my_service` it does not, an underscore counts at a word's edge.
fn reads_as_formatting(name: &str, max: usize) -> bool {
    let mut before = ' ';
    let mut chars = visible(name).chars().take(max).peekable();
    while let Some(c) = chars.next() {
        let at_edge = |next: Option<&char>| !before.is_alphanumeric() || !next.is_some_and(|c| c.is_alphanumeric());
        if matches!(c, '*' | '~') || (c == '_' && at_edge(chars.peek())) {
            return true;
        }
        before = c;
    }
    false
}

/// The address at the start of a text, without the punctuation after it.
fn address(text: &str) -> &str {
    let ends =
        |c: char| !c.is_ascii_graphic() || matches!(c, '<' | '>' | '|' | '`' | '"' | '\'' | '\\' | '^' | '{' | '}');
    let mut address = text.split(ends).next().unwrap_or_default();
    loop {
        let closes =
            !address.contains('(') && address.ends_with(')') || !address.contains('[') && address.ends_with(']');
        match address.strip_suffix(|c: char| closes || ".,;:!?*_~".contains(c)) {
            Some(shorter) => address = shorter,
            None => return address,
        }
    }
}

/// Whether it has a host in ASCII, and no user's name before it that could pass for the host.
fn is_plain_address(url: &str) -> bool {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    url.len() <= MAX_URL
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-:".contains(&c))
}

fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slack::message::MAX_SECTION;

    fn outside(text: &str, max: usize) -> String {
        Text::with_limit(MAX_SECTION).outside(text, max).markup.clone()
    }

    #[test]
    fn text_from_outside_can_neither_page_nor_link() {
        assert_eq!(outside("<!channel> & <@U1>", 100), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
        assert_eq!(outside("<https://evil|x>", 100), "&lt;https://evil|x&gt;");
        assert_eq!(outside("&lt;!here&gt;", 100), "&amp;lt;!here&amp;gt;");
    }

    #[test]
    fn control_characters_overrides_and_backticks_lose_their_power() {
        assert_eq!(outside("a\nb\tc\u{0}d\u{1b}[31m\u{202e}e\u{2028}f```", 100), "a b c d [31m e f'''");
        assert_eq!(outside("خدمة البحث 🔥", 100), "خدمة البحث 🔥");
    }

    #[test]
    fn a_cut_never_falls_inside_an_entity_or_a_character() {
        for max in 0..=40 {
            let text = outside("a&&<>🔥🔥é&&&&&", max);
            assert!(text.encode_utf16().count() <= max, "{max}: {text}");
            let bare = ["&amp;", "&lt;", "&gt;"].iter().fold(text.clone(), |text, entity| text.replace(entity, ""));
            assert!(!bare.contains('&') && !bare.contains(';'), "{max}: {text}");
        }
        assert_eq!(outside("ab&cd", 8), "ab&amp;…");
        assert_eq!(outside("ab&cd", 7), "ab…");
        assert_eq!(outside("ab&cd", 9), "ab&amp;cd");
        assert_eq!(outside("🔥🔥🔥", 5), "🔥🔥…");
        assert_eq!(outside("🔥🔥🔥", 4), "🔥…");
        assert_eq!(outside("ab 👩\u{200d}🚀", 7), "ab…");
        assert_eq!(outside("abc", 1), "…");
        assert_eq!(outside("abc", 0), "");
    }

    #[test]
    fn names_that_look_like_formatting_come_as_code() {
        let name = |name: &str| Text::with_limit(100).name(name, 12).markup.clone();
        assert_eq!(name("my_service_x"), "my_service_x");
        assert_eq!(name("*bold*"), "`*bold*`");
        assert_eq!(name("_x_"), "`_x_`");
        assert_eq!(name("a-_b_-c"), "`a-_b_-c`");
        assert_eq!(name("```"), "'''");
        assert_eq!(name("~a-very-long-name~"), "`~a-very-l…`");
    }

    #[test]
    fn a_link_is_whole_or_absent() {
        let link = |limit, url: &str, label: &str| {
            let mut text = Text::with_limit(limit);
            let linked = text.link(url, label, 50);
            assert_eq!(linked, !text.is_empty());
            text.markup.clone()
        };
        assert_eq!(link(100, "https://a/?b=c&d", "x|y>\nz"), "<https://a/?b=c&amp;d|x¦y&gt; z>");
        assert_eq!(link(16, "https://a/", "name"), "");
        assert_eq!(link(17, "https://a/", "name"), "<https://a/|name>");
        for bad in ["http://a/", "javascript:x", "https://a|b", "https://a>", "https://a b", "https://a\u{202e}"] {
            assert_eq!(link(100, bad, "x"), "", "{bad}");
        }
        assert_eq!(link(9_000, &format!("https://a/{}", "x".repeat(MAX_URL)), "x"), "");
        assert_eq!(link(100, "https://a/", " "), "");
    }

    #[test]
    fn an_address_in_a_text_can_be_tapped_and_shows_where_it_leads() {
        let linking = |text: &str, max: usize| {
            let text = Text::with_limit(MAX_SECTION).linking(text, max).clone();
            assert!(text.units() <= max, "{max}: {}", text.markup);
            text.markup
        };
        assert_eq!(
            linking("Runbook: https://wiki.example.com/x?a=1&b=2#c, then call <@U1>.", 200),
            "Runbook: <https://wiki.example.com/x?a=1&amp;b=2#c>, then call &lt;@U1&gt;."
        );
        assert_eq!(
            linking("(see https://a.example/b) or https://a.example/c_(d)", 200),
            "(see <https://a.example/b>) or <https://a.example/c_(d)>"
        );
        assert_eq!(linking("https://a.example/ https://b.example", 200), "<https://a.example/> <https://b.example>");
        for text in [
            "http://a.example/",
            "https://",
            "https:// a",
            "javascript:alert(1)",
            "https://console.aws.amazon.com@evil.example/",
            "https://аws.example/",
            "https://`x`/",
        ] {
            assert!(!linking(text, 200).contains('<'), "{text}");
        }
        assert_eq!(
            linking("<https://evil.example|x>", 200),
            "&lt;<https://evil.example>|x&gt;",
            "its label shows beside it"
        );
        for max in 0..70 {
            let cut = linking("Look at https://wiki.example.com/a/long/way and think", max);
            assert!(!cut.contains('<') || cut.contains("<https://wiki.example.com/a/long/way>"), "{cut}");
        }
    }

    #[test]
    fn a_command_is_whole_and_plain_or_absent() {
        let command = |command: &str| Text::with_limit(30).command(command).markup.clone();
        assert_eq!(command("aws ecs --action ROLLBACK"), "");
        assert_eq!(command("aws ecs list-tasks"), "```aws ecs list-tasks```");
        for bad in ["", "a`b", "a<b", "a&b", "a\nb", "é"] {
            assert_eq!(command(bad), "", "{bad}");
        }
    }

    #[test]
    fn a_quotation_stays_one() {
        let quote = |text: &str, lines, max| Text::with_limit(100).quote(text, lines, max).markup.clone();
        assert_eq!(quote("one\r\n\n  two\n", 5, 100), "> one\n> two");
        assert_eq!(quote("one\ntwo\nthree", 2, 100), "> one\n> two …");
        assert_eq!(quote("one two three", 2, 10), "> one t…");
        assert_eq!(quote("\n \n", 2, 100), "");
        for max in 0..60 {
            assert!(quote("one two\nthree & four\n<five>", 9, max).len() <= max + 4, "{max}");
        }
    }

    #[test]
    fn a_time_can_be_read_without_slack() {
        let time = OffsetDateTime::from_unix_timestamp(1_795_316_412).unwrap();
        let text = Text::with_limit(100).date(time, "{ago}").markup.clone();
        assert_eq!(text, "<!date^1795316412^{ago}|2026-11-22 03:00:12 UTC>");
    }
}
