//! Makes text from outside fit to be shown: replaces control characters and those that change the writing direction, and
//! shortens the text without splitting what people see as one character. Pure.

use unicode_segmentation::UnicodeSegmentation;

/// The end of a text that was cut.
pub const ELLIPSIS: char = '…';

/// Puts a text on one line, and cuts it to `max` characters (Unicode scalar values) including an ellipsis.
pub fn line(text: &str, max: usize) -> String {
    // Most texts need no change.
    if text.len() <= max && is_plain(text) {
        return text.trim().to_owned();
    }
    cut(text, max, |c| if is_display_control(c) { ' ' } else { c })
}

/// Like [`line()`], but keeps line feeds.
pub fn lines(text: &str, max: usize) -> String {
    // Most texts need no change.
    if text.len() <= max && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.trim().to_owned();
    }
    cut(text, max, |c| if is_display_control(c) && c != '\n' { ' ' } else { c })
}

/// Replaces a text with what [`line()`] returns for it. Most texts need no change and are not copied.
pub fn make_line(text: &mut String, max: usize) {
    let is_trimmed = !text.starts_with(' ') && !text.ends_with(' ');
    if text.len() > max || !is_trimmed || !is_plain(text) {
        *text = line(text, max);
    }
}

/// Whether a character is invisible and may change how the text around it is shown: a control character, a line or paragraph
/// separator, or a character that changes the writing direction. With the last kind, a name could make the text around it read
/// differently.
pub fn is_display_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What people see as characters (grapheme clusters): an emoji of several code points is one.
pub fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.graphemes(true)
}

/// Whether a text consists of printable ASCII only.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn cut(text: &str, max: usize, shown: impl Fn(char) -> char) -> String {
    let text = text.trim_matches(|c: char| shown(c).is_whitespace());
    let mut cut: String = String::new();
    let mut length = 0;
    // The part of `cut` that leaves room for an ellipsis. The ellipsis is only needed if the text is longer than `max`.
    let mut last_fit = 0;
    for character in characters(text) {
        let count = character.chars().count();
        if length + count > max {
            cut.truncate(last_fit);
            cut.truncate(cut.trim_end().len());
            cut.push(ELLIPSIS);
            return cut;
        }
        cut.extend(character.chars().map(&shown));
        length += count;
        if length < max {
            last_fit = cut.len();
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_line_breaks_or_invisible_characters() {
        assert_eq!(line("  a\nb\tc\u{202e}d\u{2028}e\u{0}  ", 100), "a b c d e");
        assert_eq!(lines("a\r\nb\u{202e}c\n", 100), "a \nb c");
        assert_eq!(line(" \u{202e}\n", 100), "");
        assert_eq!(lines("\n a\nb \n", 100), "a\nb");
    }

    #[test]
    fn make_line_gives_the_same_text_as_line() {
        for text in ["", "plain", " plain", "plain ", "a\tb", "é", "longer than it may be"] {
            let mut made = text.to_owned();
            make_line(&mut made, 10);
            assert_eq!(made, line(text, 10));
        }
    }

    #[test]
    fn a_cut_does_not_split_what_people_see_as_one_character() {
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdef", 5), "abcd…");
        assert_eq!(line("ab cdef", 4), "ab…");
        assert_eq!(line("ab👩\u{200d}🚀cd", 7), "ab👩\u{200d}🚀cd");
        assert_eq!(line("ab👩\u{200d}🚀cd", 6), "ab👩\u{200d}🚀…");
        assert_eq!(line("ab👩\u{200d}🚀cd", 5), "ab…");
        assert_eq!(line("e\u{301}e\u{301}e\u{301}", 5), "e\u{301}e\u{301}…");
        assert_eq!(line("abc", 1), "…");
        assert_eq!(line("  a\r\nb\t ", 10), "a  b");
        assert_eq!(line("éééé", 4), "éééé");
        assert_eq!(line("ééééé", 4), "ééé…");
        assert_eq!(line("abcd   ", 4), "abcd");
        assert_eq!(lines("a\nb\u{7}c\n", 10), "a\nb c");
    }
}
