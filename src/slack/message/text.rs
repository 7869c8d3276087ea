//! Text in Slack's markup (mrkdwn), built from our own markup and from external text.
//!
//! Invariant: external text is always escaped, and no text is longer than its limit.

use time::{OffsetDateTime, UtcOffset};

use super::MAX_URL;
use crate::text;

/// Slack markup with a limit on its length, built from our own markup and escaped external text.
///
/// Characters are counted as UTF-16 code units, after escaping. Slack does not document how it counts; this way gives the
/// largest number.
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

    /// Its length in UTF-16 code units.
    pub const fn units(&self) -> usize {
        self.units
    }

    /// How many characters still fit.
    pub const fn room(&self) -> usize {
        self.limit - self.units
    }

    /// Whether it is empty.
    pub const fn is_empty(&self) -> bool {
        self.units == 0
    }

    /// Appends our own markup: all of it or, if it does not fit, nothing.
    pub fn markup(&mut self, markup: &str) -> &mut Self {
        let units = utf16_len(markup);
        if units <= self.room() {
            self.markup.push_str(markup);
            self.units += units;
        }
        self
    }

    /// Appends another text: all of it or, if it does not fit, nothing.
    pub fn append(&mut self, other: &Self) -> &mut Self {
        if other.units <= self.room() {
            self.markup.push_str(&other.markup);
            self.units += other.units;
        }
        self
    }

    /// Appends external text as one line: escaped, and cut with an ellipsis to at most `max` characters.
    pub fn external(&mut self, text: &str, max: usize) -> &mut Self {
        let start = self.markup.len();
        let end = self.units + max.min(self.room());
        let mut cut = None;
        let mut piece = String::new();
        for character in text::characters(visible(text)) {
            piece.clear();
            for c in character.chars() {
                match harmless(c) {
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

    /// Appends an external name. If Slack would read it as formatting (`*bold*`, `_x_`), it is put in a code span.
    pub fn name(&mut self, name: &str, max: usize) -> &mut Self {
        let max = max.min(self.room());
        match reads_as_formatting(name, max) {
            true if max > 2 => self.markup("`").external(name, max - 2).markup("`"),
            true => self,
            false => self.external(name, max),
        }
    }

    /// Appends a link whose label is external text, cut to `max` characters. Returns false, and appends nothing, if the link does
    /// not fit or its URL could break the markup.
    pub fn link(&mut self, url: &str, label: &str, max: usize) -> bool {
        let breaks_out = |c: char| matches!(c, '<' | '>' | '|') || c.is_whitespace() || harmless(c) != c;
        if !url.starts_with("https://") || url.len() > MAX_URL || url.contains(breaks_out) {
            return false;
        }
        // Escaping removes `>` from a label. Slack does not document the effect of a `|` there.
        let mut name = Self::with_limit(max);
        name.name(&label.replace('|', "¦"), max);
        let opening = format!("<{}|", url.replace('&', "&amp;"));
        let fits = !name.is_empty() && utf16_len(&opening) + name.units < self.room();
        if fits {
            self.markup(&opening).append(&name).markup(">");
        }
        fits
    }

    /// Appends external text as one line, in which each complete https address is a link with itself as its label, so that a
    /// reader sees the target. Anything else that looks like a link stays text.
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
                self.external(url, room);
                if utf16_len(url) >= room {
                    return self;
                }
            }
            rest = found.get(url.len()..).unwrap_or_default();
        }
        self.words(rest, end);
        self
    }

    /// Like [`Text::external`], but keeps a space at either end. Returns whether the whole text was appended.
    fn words(&mut self, text: &str, end: usize) -> bool {
        let space = |is_there: bool| if is_there { " " } else { "" };
        let whole = visible(text);
        if !whole.is_empty() {
            self.markup(space(text.starts_with(char::is_whitespace)));
            // The rest needs at least two characters, even if only an ellipsis follows.
            let room = end.saturating_sub(self.units + 2);
            self.external(whole, room);
            if room == 0 || (self.markup.ends_with('…') && !whole.ends_with('…')) {
                return false;
            }
        }
        if self.units < end {
            self.markup(space(text.ends_with(char::is_whitespace)));
        }
        true
    }

    /// Appends a command on its own line, as code to copy: all of it or, if it does not fit or could break the markup, nothing.
    pub fn command(&mut self, command: &str) -> &mut Self {
        let is_plain = |c: u8| matches!(c, b' '..=b'~') && !b"<>&`".contains(&c);
        let start = if self.is_empty() { "" } else { "\n" };
        if !command.is_empty() && command.bytes().all(is_plain) {
            self.markup(&format!("{start}```{command}```"));
        }
        self
    }

    /// Appends external text as a quotation of at most `lines` lines and `max` characters, without blank lines.
    pub fn quote(&mut self, text: &str, lines: usize, max: usize) -> &mut Self {
        let end = self.units + max.min(self.room());
        let mut rest = text.lines().map(visible).filter(|line| !line.is_empty()).peekable();
        let mut prefix = "> ";
        for _ in 0..lines {
            // Two characters are reserved for the ellipsis.
            let room = end.saturating_sub(self.units + prefix.len() + 2);
            if room == 0 {
                break;
            }
            let Some(line) = rest.next() else { break };
            self.markup(prefix).external(line, room);
            prefix = "\n> ";
        }
        if rest.peek().is_some() && !self.markup.ends_with('…') {
            self.markup(" …");
        }
        self
    }

    /// Appends a time, which Slack shows in the reader's time zone and in `format` (`{ago}`, `{time_secs}` …), or else in UTC.
    /// <https://docs.slack.dev/messaging/formatting-message-text#date-formatting>
    pub fn date(&mut self, time: OffsetDateTime, format: &str) -> &mut Self {
        let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(time);
        let (year, month, day) = utc.to_calendar_date();
        let (hour, minute, second) = utc.to_hms();
        let month = u8::from(month);
        let fallback = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC");
        match utc.unix_timestamp() {
            // Slack does not accept a time before 1970.
            ..0 => self.markup(&fallback),
            seconds => self.markup(&format!("<!date^{seconds}^{format}|{fallback}>")),
        }
    }
}

/// External text without invisible characters at either end. Empty if no character is visible.
pub fn visible(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || harmless(c) == ' ')
}

/// A harmless replacement of an external character: controls and direction overrides would break or reverse the line, and a
/// backtick would format the rest as code.
fn harmless(c: char) -> char {
    match c {
        '`' => '\'',
        c if text::is_display_control(c) => ' ',
        c => c,
    }
}

/// Whether Slack would read part of this name as formatting. `my_service` is safe: an underscore counts only at a word's edge.
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

/// The address at the start of a text, without punctuation at its end.
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

/// Whether the host is ASCII, without a user name before it that could look like the host.
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
mod tests;
