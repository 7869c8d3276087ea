use super::*;
use crate::slack::message::MAX_SECTION;

fn external(text: &str, max: usize) -> String {
    Text::with_limit(MAX_SECTION).external(text, max).markup.clone()
}

#[test]
fn external_text_can_neither_mention_nor_link() {
    assert_eq!(external("<!channel> & <@U1>", 100), "&lt;!channel&gt; &amp; &lt;@U1&gt;");
    assert_eq!(external("<https://evil|x>", 100), "&lt;https://evil|x&gt;");
    assert_eq!(external("&lt;!here&gt;", 100), "&amp;lt;!here&amp;gt;");
}

#[test]
fn control_characters_overrides_and_backticks_are_replaced() {
    assert_eq!(external("a\nb\tc\u{0}d\u{1b}[31m\u{202e}e\u{2028}f```", 100), "a b c d [31m e f'''");
    assert_eq!(external("خدمة البحث 🔥", 100), "خدمة البحث 🔥");
}

#[test]
fn a_cut_never_falls_inside_an_entity_or_a_character() {
    for max in 0..=40 {
        let text = external("a&&<>🔥🔥é&&&&&", max);
        assert!(text.encode_utf16().count() <= max, "{max}: {text}");
        let bare = ["&amp;", "&lt;", "&gt;"].iter().fold(text.clone(), |text, entity| text.replace(entity, ""));
        assert!(!bare.contains('&') && !bare.contains(';'), "{max}: {text}");
    }
    assert_eq!(external("ab&cd", 8), "ab&amp;…");
    assert_eq!(external("ab&cd", 7), "ab…");
    assert_eq!(external("ab&cd", 9), "ab&amp;cd");
    assert_eq!(external("🔥🔥🔥", 5), "🔥🔥…");
    assert_eq!(external("🔥🔥🔥", 4), "🔥…");
    assert_eq!(external("ab 👩\u{200d}🚀", 7), "ab…");
    assert_eq!(external("abc", 1), "…");
    assert_eq!(external("abc", 0), "");
}

#[test]
fn names_that_look_like_formatting_are_shown_as_code() {
    let name = |name: &str| Text::with_limit(100).name(name, 12).markup.clone();
    assert_eq!(name("my_service_x"), "my_service_x");
    assert_eq!(name("*bold*"), "`*bold*`");
    assert_eq!(name("_x_"), "`_x_`");
    assert_eq!(name("a-_b_-c"), "`a-_b_-c`");
    assert_eq!(name("```"), "'''");
    assert_eq!(name("~a-very-long-name~"), "`~a-very-l…`");
}

#[test]
fn a_link_is_complete_or_absent() {
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
fn an_address_in_a_text_is_a_link_that_shows_its_target() {
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
    assert_eq!(linking("<https://evil.example|x>", 200), "&lt;<https://evil.example>|x&gt;", "the label stays text");
    for max in 0..70 {
        let cut = linking("Look at https://wiki.example.com/a/long/way and think", max);
        assert!(!cut.contains('<') || cut.contains("<https://wiki.example.com/a/long/way>"), "{cut}");
    }
}

#[test]
fn a_command_is_complete_and_plain_or_absent() {
    let command = |command: &str| Text::with_limit(30).command(command).markup.clone();
    assert_eq!(command("aws ecs --action ROLLBACK"), "");
    assert_eq!(command("aws ecs list-tasks"), "```aws ecs list-tasks```");
    for bad in ["", "a`b", "a<b", "a&b", "a\nb", "é"] {
        assert_eq!(command(bad), "", "{bad}");
    }
}

#[test]
fn a_quotation_stays_a_quotation() {
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
fn a_time_has_a_fallback_in_utc() {
    let time = OffsetDateTime::from_unix_timestamp(1_795_316_412).unwrap();
    let text = Text::with_limit(100).date(time, "{ago}").markup.clone();
    assert_eq!(text, "<!date^1795316412^{ago}|2026-11-22 03:00:12 UTC>");
}
