//! Messages stay within the limits, whatever the alerts hold.

use super::*;
use crate::slack::message::{BLOCK, MAX_BLOCKS, MAX_MESSAGE, MAX_TEXT, MAX_URL};

/// Checks everything that Slack, or our own budget, limits.
fn assert_within_limits(payload: &Value) {
    fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(text) if key == "text" => found.push(text),
                        value => texts(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
            _ => {}
        }
    }
    let units = |text: &str| text.encode_utf16().count();

    let text = payload["text"].as_str().expect("a notification");
    assert!(!text.is_empty() && units(text) <= MAX_TEXT);
    assert_inert(text);
    let Some(attachments) = payload.get("attachments") else {
        return;
    };
    assert_eq!(attachments.as_array().unwrap().len(), 1);
    let blocks = attachments[0]["blocks"].as_array().unwrap();
    assert!((1..=MAX_BLOCKS).contains(&blocks.len()), "{} blocks", blocks.len());
    let mut total = blocks.len() * BLOCK;
    for block in blocks {
        match block["type"].as_str().unwrap() {
            "section" => assert!(block["text"].is_object()),
            "context" => assert!((1..=10).contains(&block["elements"].as_array().unwrap().len())),
            other => panic!("a limit for {other} blocks is missing here"),
        }
        let mut found = Vec::new();
        texts(block, &mut found);
        assert!(!found.is_empty());
        for text in found {
            assert!(!text.trim().is_empty() && units(text) <= MAX_SECTION, "{} characters", units(text));
            assert_inert(text);
            total += units(text);
        }
    }
    assert!(total <= MAX_MESSAGE, "{total} characters");
}

/// Every `<` opens one of our own links or dates and is closed on its line; every `&` is one of Slack's three entities.
fn assert_inert(text: &str) {
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (inside, after) = rest[start + 1..].split_once('>').unwrap_or_else(|| panic!("unclosed: {text}"));
        // Without a label a link shows where it leads.
        let (target, label) = inside.split_once('|').unwrap_or((inside, inside));
        assert!(target.starts_with("https://") || target.starts_with("!date^"), "{inside}");
        assert!(target.len() <= MAX_URL && !label.is_empty(), "{inside}");
        assert!(!inside.contains(['\n', '<']) && !label.contains('|'), "{inside}");
        rest = after;
    }
    for (i, _) in text.match_indices('&') {
        assert!(["&amp;", "&lt;", "&gt;"].iter().any(|entity| text[i..].starts_with(entity)), "{text}");
    }
}

/// Renders digest after digest until no alert is left, as a channel does.
pub(super) fn drain(alerts: &[Alert], account_name: Option<&str>) -> Vec<Value> {
    let alerts: Vec<&Alert> = alerts.iter().collect();
    let (mut rest, mut payloads) = (alerts.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (payload, taken) = digest(rest, account_name);
        assert!((1..=rest.len()).contains(&taken));
        assert_within_limits(&payload.to_value());
        rest = &rest[taken..];
        payloads.push(payload.to_value());
    }
    payloads
}

#[test]
fn hostile_text_neither_mentions_nor_breaks_a_limit() {
    let mut alert = impaired("<!channel>\n<@U1> *x* `code` | <https://evil|x>");
    alert.what = "\u{202e}says &lt;!here&gt; <!subteam^S1>".to_owned();
    alert.reason = Some("<!everyone> ```\n> &\u{0}\n".repeat(50_000));
    alert.cause = Some(Cause { category: Category::ImageMissing, hint: "<@U1>&".repeat(10_000) });
    alert.cluster = Some("🔥&".repeat(10_000));
    alert.region = Some("r>".repeat(10_000));
    alert.facts = (0..100).map(|i| (format!("<{i}>").repeat(99), "&".repeat(10_000))).collect();
    alert.shown_tags =
        (0..100).map(|i| (format!("<!channel> {i}"), "https://evil.example/<|x>".repeat(1_000))).collect();
    alert.links =
        (0..100).map(|i| Link { page: Page::Log, url: format!("https://a/{i}{}", "&x".repeat(i * 20)) }).collect();
    alert.links.push(Link { page: Page::Log, url: "https://evil|x>".to_owned() });
    alert.advice = Some("<@U1>&".repeat(1_000));
    alert.commands = vec!["`<!channel>`".to_owned(), "x".repeat(600), "x".repeat(10_000)];
    alert.note = Some("<!channel> https://evil.example/<|x> `*&\n".repeat(1_000));
    alert.diagnosis = Some(diagnosis(&"<!channel> `*&\n".repeat(1_000)));
    for text in [single(&alert, Some("<!channel>")), plain_text(&alert, None)] {
        assert_within_limits(&text.to_value());
    }
    let many: Vec<Alert> =
        (0..300).map(|i| Alert { subject: format!("{i} {}", alert.subject.repeat(100)), ..alert.clone() }).collect();
    drain(&many[..20], None);
    let payloads = drain(&many, None);
    let texts: String = payloads.iter().map(block_texts).collect();
    assert!((0..300).all(|i| texts.contains(&format!("{i} &lt;!channel&gt; &lt;@U1&gt;"))));
}

#[test]
fn random_alerts_stay_within_the_limits_and_are_all_taken() {
    // xorshift: random alerts, but the same ones every time.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const PIECES: [&str; 16] = [
        "a",
        "svc-",
        "&",
        "<",
        ">",
        "|",
        "\n",
        "\r\n",
        "*",
        "_",
        "`",
        "🔥",
        "👩\u{200d}🚀",
        "<!channel>",
        "\u{0}",
        "خدمة",
    ];
    for round in 0..100 {
        let mut text = || -> String {
            let pieces = [0, 1, 3, 12, 400][random(5) as usize];
            (0..pieces).map(|_| PIECES[random(16) as usize]).collect()
        };
        let pool: Vec<String> = (0..40).map(|_| text()).collect();
        let variety = 1 + random(40);
        let mut pick = || pool[random(variety) as usize].clone();
        let alerts: Vec<Alert> = (0..[1, 2, 15, 25, 400][round % 5])
            .map(|i: i64| {
                let severity = Severity::ALL[pick().len() % 3];
                let cause = (pick().len() % 2 == 0).then(|| Cause { category: Category::ImageMissing, hint: pick() });
                let time = (pick().len() % 3 > 0).then(|| at(i * pick().len() as i64));
                let links = vec![Link { page: Page::Log, url: format!("https://a/{}", "x&".repeat(pick().len())) }];
                let facts = vec![(pick(), pick()); pick().len() % 12];
                let [cluster, account, region] =
                    [pick(), pick(), pick()].map(|text| (text.len() % 4 > 0).then_some(text));
                let (kind, subject, what, reason) = (pick(), pick() + &pick(), pick(), Some(pick()));
                Alert {
                    event_id: None,
                    kind,
                    severity,
                    subject,
                    what,
                    reason,
                    cause,
                    advice: Some(pick()),
                    commands: vec![pick(), "x".repeat(pick().len())],
                    note: Some(pick() + "https://a.example/" + &pick()),
                    carried_for: (pick().len() % 3 == 0).then(&mut pick),
                    cluster,
                    account,
                    region,
                    time,
                    facts,
                    links,
                    exited_task_id: None,
                    about: None,
                    service: None,
                    needs_diagnosis: false,
                    tags: None,
                    shown_tags: vec![(pick(), pick()), (pick(), format!("https://a.example/{}", pick()))],
                    diagnosis: (pick().len() % 2 == 0).then(|| diagnosis(&pick())),
                }
            })
            .collect();
        drain(&alerts, (round % 2 == 0).then_some("platform"));
        for alert in alerts.iter().take(20) {
            assert_within_limits(&single(alert, None).to_value());
            assert_within_limits(&plain_text(alert, Some("platform")).to_value());
        }
    }
}
