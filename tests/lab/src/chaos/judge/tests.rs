//! The judge's rules, on records made by hand.

use super::*;
use crate::chaos::{Size, plan::Plan};

/// A life that received one message, and ended `lasted` later with `end`. `settled`: it requested a put-back one second after.
fn left_hidden(end: End, lasted: Duration, settled: bool) -> Option<String> {
    let (plan, at) = (Plan::of(1, 1, Size::Short), Instant::now());
    let receive = QueueAction {
        at,
        by: 100,
        kind: ActionKind::Received,
        id: 1,
        receive: 1,
        body: Some(plan.messages[0].body.clone()),
        acted: true,
        fault: None,
    };
    let later = at + Duration::from_secs(1);
    let put_back = QueueAction { at: later, kind: ActionKind::PutBack, body: None, ..receive.clone() };
    let record = Record {
        sent: vec![at; plan.messages.len()],
        plan,
        actions: if settled { vec![receive, put_back] } else { vec![receive] },
        posts: Vec::new(),
        shown: HashMap::new(),
        lives: vec![Life { number: 100, lines: Vec::new(), end, ended: at + lasted }],
        clocks: (at, OffsetDateTime::UNIX_EPOCH),
        closed: Vec::new(),
        stalls: Vec::new(),
        dead: Vec::new(),
        left: Vec::new(),
    };
    Evidence::of(&record).left_hidden(&record.lives[0])
}

#[test]
fn a_clean_stop_leaves_no_message_hidden_that_it_could_put_back() {
    let visibility = Duration::from_secs(Plan::of(1, 1, Size::Short).visibility);
    let (clean, second) = (End::Stopped(Some(0), Duration::ZERO), Duration::from_secs(1));
    let left = left_hidden(clean, 2 * second, false);
    assert!(left.as_ref().is_some_and(|left| left.starts_with("100 stopped, and left hidden:\n")), "{left:?}");
    assert!(left_hidden(clean, visibility - second, false).is_some());
    assert_eq!(left_hidden(clean, visibility - visibility / 20, false), None, "too late for a put-back");
    assert_eq!(left_hidden(clean, visibility + second, false), None, "visible again before the stop");
    assert_eq!(left_hidden(clean, 2 * second, true), None, "put back");
    assert_eq!(left_hidden(End::Killed, 2 * second, false), None, "killed");
}
