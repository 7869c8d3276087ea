//! Text from outside made fit to be shown: on one line, without what is invisible or turns the direction of writing, and cut
//! between what people see as characters. Pure.

use unicode_segmentation::UnicodeSegmentation;

/// What a cut text ends with.
pub const ELLIPSIS: char = '…';

/// On one line, cut with an ellipsis to `max` characters (Unicode scalar values).
pub fn line(text: &str, max: usize) -> String {
    // Nearly always.
    if text.len() <= max && is_plain(text) {
        return text.trim().to_owned();
    }
    cut(text, max, |c| if is_inert(c) { ' ' } else { c })
}

/// Of several lines, otherwise like [`line`].
pub fn lines(text: &str, max: usize) -> String {
    // Nearly always.
    if text.len() <= max && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text.trim().to_owned();
    }
    cut(text, max, |c| if is_inert(c) && c != '\n' { ' ' } else { c })
}

/// Makes a text what [`line`] is; most are so already, and are left alone.
pub fn make_line(text: &mut String, max: usize) {
    let is_bare = !text.starts_with(' ') && !text.ends_with(' ');
    if text.len() > max || !is_bare || !is_plain(text) {
        *text = line(text, max);
    }
}

/// Whether a character shows nothing of its own and may change how the text around it is shown: controls, separators of lines,
/// and what turns the direction of writing, which would let a name rewrite the text around it.
pub fn is_inert(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What people see as characters (grapheme clusters), one after another: an emoji of several code points is one.
pub fn characters(text: &str) -> impl Iterator<Item = &str> {
    text.graphemes(true)
}

/// Whether it is printable ASCII and nothing else.
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn cut(text: &str, max: usize, shown: impl Fn(char) -> char) -> String {
    let text = text.trim_matches(|c: char| shown(c).is_whitespace());
    let mut cut: String = String::new();
    let mut length = 0;
    // One is kept for the ellipsis, unless the text ends before it is needed.
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
    fn a_line_is_one_and_has_nothing_invisible() {
        assert_eq!(line("  a\nb\tc\u{202e}d\u{2028}e\u{0}  ", 100), "a b c d e");
        assert_eq!(lines("a\r\nb\u{202e}c\n", 100), "a \nb c");
        assert_eq!(line(" \u{202e}\n", 100), "");
        assert_eq!(lines("\n a\nb \n", 100), "a\nb");
    }

    #[test]
    fn a_text_is_made_the_line_that_it_would_give() {
        for text in ["", "plain", " plain", "plain ", "a\tb", "é", "longer than it may be"] {
            let mut made = text.to_owned();
            make_line(&mut made, 10);
            assert_eq!(made, line(text, 10));
        }
    }

    #[test]
    fn a_cut_falls_between_what_people_see_as_characters() {
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
