//! The contract's table of transitions, row by row.

use super::*;
use Decision::{AsBefore, Duplicate, PutBack};
use Severity::{Critical, Info, Warning};
use Transition::*;

const POLICY: Policy = Policy {
    remind_after: Duration::from_secs(3600),
    quiet_for: Duration::from_secs(600),
    reopen_within: Duration::from_secs(900),
    mention_from: Some(Critical),
};

/// The event of minute `minute`; its id is unique to the minute unless a test says otherwise.
fn at(minute: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::days(20_000) + time::Duration::minutes(minute)
}

fn event(minute: i64, kind: Kind) -> Signal {
    Signal {
        id: Id::of(&format!("event at {minute}")),
        time: at(minute),
        severity: if kind == Kind::Problem { Warning } else { Info },
        cause: None,
        kind,
        deployment: None,
        failed_task: None,
        well_since: None,
    }
}

fn trouble(minute: i64) -> Signal {
    event(minute, Kind::Problem)
}

fn critical(minute: i64) -> Signal {
    Signal { severity: Critical, ..trouble(minute) }
}

fn caused(minute: i64, cause: &'static str) -> Signal {
    Signal { cause: Some(cause), ..trouble(minute) }
}

fn rollout(minute: i64, deployment: &str, rollout: Rollout) -> Signal {
    Signal { deployment: Some((Id::of(deployment), rollout)), ..trouble(minute) }
}

fn failed(minute: i64, task: &str) -> Signal {
    Signal { failed_task: Some(Id::of(task)), ..trouble(minute) }
}

fn recovery(minute: i64) -> Signal {
    event(minute, Kind::Recovery { confirmed: Some(true) })
}

fn unconfirmed(minute: i64) -> Signal {
    event(minute, Kind::Recovery { confirmed: Some(false) })
}

/// An incident whose every report Slack accepts at once.
#[derive(Default)]
struct Story {
    incident: Option<Incident>,
    mentions: usize,
}

impl Story {
    /// The event arrives when it happens.
    #[track_caller]
    fn then(self, signal: Signal, expected: impl Into<Expected>) -> Self {
        let now = signal.time;
        self.arrives(now, signal, expected)
    }

    #[track_caller]
    fn arrives(mut self, now: OffsetDateTime, signal: Signal, expected: impl Into<Expected>) -> Self {
        let (decision, incident) = next(self.incident.as_ref(), &signal, &POLICY, now);
        let Expected(expected) = expected.into();
        match decision {
            Decision::Transition { transition, mentions } => {
                assert_eq!(Err(transition), expected, "{signal:?}");
                self.mentions += usize::from(mentions);
            }
            decision => assert_eq!(Ok(decision), expected, "{signal:?}"),
        }
        if let Some(mut incident) = incident {
            incident.root.get_or_insert(Root::Webhook);
            self.incident = Some(incident);
        }
        self
    }

    fn incident(&self) -> &Incident {
        self.incident.as_ref().unwrap()
    }

    #[track_caller]
    fn mentioned(self, count: usize) -> Self {
        assert_eq!(self.mentions, count);
        self
    }
}

struct Expected(Result<Decision, Transition>);

impl From<Decision> for Expected {
    fn from(decision: Decision) -> Self {
        Self(Ok(decision))
    }
}

impl From<Transition> for Expected {
    fn from(transition: Transition) -> Self {
        Self(Err(transition))
    }
}

fn opened() -> Story {
    Story::default().then(trouble(0), Opened)
}

#[test]
fn opened_when_none_is_open() {
    for signal in [trouble(0), critical(0), caused(0, "oom"), rollout(0, "d1", Rollout::Failed), failed(0, "t1")] {
        Story::default().then(signal, Opened);
    }
    // The one before it recovered too long ago.
    let story = opened().then(recovery(5), Recovered).then(trouble(21), Opened);
    assert_eq!((story.incident().events, story.incident().first_event), (1, at(21)));
}

#[test]
fn only_problems_open_one() {
    for signal in [
        recovery(0),
        unconfirmed(0),
        event(0, Kind::Other),
        Signal { severity: Info, ..trouble(0) },
        Signal { severity: Critical, ..event(0, Kind::Other) },
    ] {
        let story = Story::default().then(signal, AsBefore);
        assert_eq!(story.incident, None);
    }
}

#[test]
fn news_when_it_is_more_severe_than_ever() {
    opened().then(critical(1), News).then(trouble(2), Repeated).then(critical(3), Repeated);
    // Also than before a recovery.
    opened()
        .then(critical(1), News)
        .then(recovery(2), Recovered)
        .then(trouble(3), Reopened)
        .then(critical(4), Repeated);
}

#[test]
fn news_when_the_cause_is_new() {
    opened()
        .then(caused(1, "oom"), News)
        .then(trouble(2), Repeated)
        .then(caused(3, "oom"), Repeated)
        .then(caused(4, "image_missing"), News)
        .then(caused(5, "oom"), Repeated);
}

#[test]
fn news_when_a_deployment_failed_or_is_rolled_back_once_each() {
    opened()
        .then(rollout(1, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(2, "d1", Rollout::Failed), News)
        .then(rollout(3, "d1", Rollout::Failed), Repeated)
        .then(rollout(4, "d1", Rollout::RolledBack), News)
        .then(rollout(5, "d1", Rollout::RolledBack), Repeated)
        .then(rollout(6, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(7, "d2", Rollout::Failed), News);
    Story::default().then(rollout(0, "d1", Rollout::Failed), Opened).then(rollout(1, "d1", Rollout::Failed), Repeated);
}

#[test]
fn news_when_another_deployment_is_in_trouble() {
    Story::default()
        .then(rollout(0, "d1", Rollout::InTrouble), Opened)
        .then(rollout(1, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(2, "d2", Rollout::InTrouble), News)
        .then(rollout(3, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(4, "d2", Rollout::InTrouble), Repeated);
    // The first that is named may be the one that the incident began with.
    opened().then(rollout(1, "d1", Rollout::InTrouble), Repeated).then(rollout(2, "d2", Rollout::InTrouble), News);
}

#[test]
fn repeated_when_nothing_is_new() {
    let mut story = opened();
    for minute in 1..50 {
        story = story.then(failed(minute, &format!("task {}", minute % 24)), Repeated);
    }
    let incident = story.incident();
    assert_eq!((incident.events, incident.failed_tasks), (50, 24));
    assert_eq!((incident.first_event, incident.last_event), (at(0), at(49)));
    assert_eq!(incident.reported, at(0));
}

#[test]
fn reminded_when_the_last_report_is_long_ago() {
    opened()
        .then(trouble(59), Repeated)
        .then(trouble(60), Reminded)
        .then(trouble(61), Repeated)
        .then(caused(100, "oom"), News)
        .then(trouble(159), Repeated)
        .then(trouble(160), Reminded);
    // What counts is when people were told, not when it happened.
    opened().arrives(at(60), trouble(1), Reminded);
}

#[test]
fn recovered_when_it_is_over() {
    let story = opened().then(critical(1), News).then(recovery(5), Recovered);
    let incident = story.incident();
    assert_eq!(incident.duration(), Some(Duration::from_secs(300)));
    assert_eq!((incident.events, incident.recovered), (2, Some(at(5))));
    // Each end is reported once.
    story.then(recovery(6), AsBefore).then(Signal { id: recovery(5).id, ..recovery(5) }, Duplicate);
}

#[test]
fn a_recovery_that_is_not_confirmed_is_put_back_twice_then_dropped() {
    let again = |minute, confirmed| (at(minute), event(5, Kind::Recovery { confirmed: Some(confirmed) }));
    let put_back = || opened().then(unconfirmed(5), PutBack);
    let (now, signal) = again(15, true);
    put_back().arrives(now, signal, Recovered);
    let (now, signal) = again(15, false);
    let twice = put_back().arrives(now, signal, PutBack);
    let (now, signal) = again(25, false);
    let dropped = twice.arrives(now, signal.clone(), Repeated);
    assert!(dropped.incident().is_open());
    // It has had its chances; another recovery has its own.
    dropped.arrives(at(26), signal, Duplicate).then(unconfirmed(30), PutBack).then(recovery(31), Recovered);
}

#[test]
fn a_recovery_older_than_the_latest_problem_ends_nothing() {
    let story = opened().then(trouble(5), Repeated).arrives(at(6), recovery(3), Repeated);
    assert!(story.incident().is_open());
    assert_eq!(story.incident().events, 2);
    story.arrives(at(6), unconfirmed(4), Repeated).then(Signal { id: Id::of("same second"), ..recovery(5) }, Recovered);
}

#[test]
fn reopened_by_a_problem_newer_than_the_recovery_and_soon() {
    let recovered = || opened().then(recovery(5), Recovered);
    let story = recovered().then(trouble(20), Reopened);
    assert!(story.incident().is_open());
    assert_eq!((story.incident().events, story.incident().first_event), (2, at(0)));
    story.then(trouble(21), Repeated).then(recovery(22), Recovered);
    // What counts is when it happened, not when it arrived.
    recovered().arrives(at(200), trouble(20), Reopened);
    recovered().then(Signal { severity: Info, ..trouble(6) }, AsBefore);
}

#[test]
fn a_problem_not_newer_than_the_recovery_is_folded() {
    let story = opened().then(recovery(5), Recovered).arrives(at(6), failed(4, "t1"), Repeated);
    let incident = story.incident();
    assert_eq!((incident.recovered, incident.events, incident.failed_tasks), (Some(at(5)), 2, 1));
    let same_second = Signal { id: Id::of("same second"), ..critical(5) };
    let story = story.arrives(at(7), same_second, Repeated).mentioned(0);
    assert!(!story.incident().is_open());
}

#[test]
fn trouble_that_comes_after_its_recovery_opens_one_that_is_over() {
    // The recovery found nothing open; only then the problem came, put back while Slack was down.
    let late = Signal { well_since: Some(at(5)), ..critical(3) };
    let story = Story::default().arrives(at(30), late, Opened).mentioned(0);
    assert_eq!(story.incident().recovered, Some(at(5)));
    // Likewise after a second recovery.
    let late = Signal { well_since: Some(at(9)), ..trouble(7) };
    let story = story.arrives(at(31), late, Repeated);
    assert!(!story.incident().is_open());
    // Trouble newer than both is as ever.
    story.then(Signal { well_since: Some(at(9)), ..trouble(24) }, Reopened);
}

#[test]
fn a_duplicate_is_not_counted_twice() {
    let story = opened().then(critical(1), News).arrives(at(2), trouble(0), Duplicate);
    let story = story.arrives(at(2), critical(1), Duplicate).then(recovery(3), Recovered);
    let story = story.arrives(at(4), critical(1), Duplicate).arrives(at(4), recovery(3), Duplicate);
    assert_eq!(story.incident().events, 2);
    // Nor does it become an event of the next incident.
    let story = story.then(trouble(60), Opened).arrives(at(61), critical(1), Duplicate);
    assert_eq!(story.incident().events, 1);
}

#[test]
fn the_last_64_events_are_known() {
    let mut story = opened();
    for minute in 1..=64 {
        story = story.arrives(at(1), trouble(minute), Repeated);
    }
    story.arrives(at(2), trouble(1), Duplicate).arrives(at(2), trouble(0), Repeated);
}

#[test]
fn forgotten_after_a_day_without_an_event() {
    const DAY: i64 = 24 * 60;
    opened().then(trouble(DAY - 1), Reminded).then(trouble(2 * DAY - 2), Reminded);
    let story = opened().then(trouble(DAY), Opened);
    assert_eq!(story.incident().events, 1);
    opened().then(recovery(DAY), AsBefore);
}

#[test]
fn a_root_that_is_gone_is_opened_anew() {
    let gone = |mut story: Story| {
        story.incident.as_mut().unwrap().root = None;
        story
    };
    let story = gone(opened().then(critical(1), News)).then(trouble(2), Opened).mentioned(1);
    assert_eq!((story.incident().events, story.incident().first_event), (3, at(0)));
    // The event whose edit found it gone was counted already.
    let story = gone(story).arrives(at(3), trouble(2), Opened);
    assert_eq!(story.incident().events, 3);
    gone(story).then(recovery(4), Recovered);
    // What recovered stays so.
    let story = gone(opened().then(recovery(5), Recovered)).arrives(at(6), trouble(4), Opened);
    assert_eq!(story.incident().recovered, Some(at(5)));
    // What would have reopened it does.
    assert!(gone(story).then(trouble(6), Opened).incident().is_open());
}

#[test]
fn what_slack_does_not_have_is_neither_folded_nor_a_duplicate() {
    let (_, incident) = next(None, &trouble(0), &POLICY, at(0));
    let rootless = incident.unwrap();
    for signal in [trouble(0), trouble(1), critical(1)] {
        let (decision, _) = next(Some(&rootless), &signal, &POLICY, at(2));
        assert!(matches!(decision, Decision::Transition { transition: Opened, .. }), "{decision:?}");
    }
}

#[test]
fn only_what_opens_or_escalates_an_incident_mentions() {
    Story::default()
        .then(critical(0), Opened)
        .mentioned(1)
        .then(Signal { cause: Some("oom"), ..critical(1) }, News)
        .then(critical(61), Reminded)
        .then(recovery(62), Recovered)
        .then(critical(63), Reopened)
        .mentioned(1);
    opened().mentioned(0).then(critical(1), News).mentioned(1).then(critical(61), Reminded).mentioned(1);
    opened().then(recovery(1), Recovered).then(critical(2), Reopened).mentioned(1);
    // From `warning`, both the opening and the escalation do.
    let policy = Policy { mention_from: Some(Warning), ..POLICY };
    let mentions = |stored: Option<&Incident>, signal: Signal| match next(stored, &signal, &policy, signal.time) {
        (Decision::Transition { mentions, .. }, Some(incident)) => (mentions, incident),
        other => panic!("{other:?}"),
    };
    let (first, mut incident) = mentions(None, trouble(0));
    incident.root = Some(Root::Webhook);
    let (second, _) = mentions(Some(&incident), critical(1));
    assert!(first && second);
    let nobody = Policy { mention_from: None, ..POLICY };
    let (decision, _) = next(None, &critical(0), &nobody, at(0));
    assert_eq!(decision, Decision::Transition { transition: Opened, mentions: false });
}

#[test]
fn a_start_that_may_heal_is_counted_by_an_open_incident_and_opens_none() {
    let may_heal = |minute| Signal { severity: Info, cause: Some("eni"), ..failed(minute, "t1") };
    let story = Story::default().then(may_heal(0), AsBefore).then(trouble(1), Opened);
    let story = story.then(may_heal(2), Repeated).then(may_heal(90), Repeated);
    assert_eq!((story.incident().events, story.incident().failed_tasks), (3, 1));
}

#[test]
fn a_digest_is_a_root_like_any_other() {
    let mut story = opened();
    let digest = Root::Digest { channel: "C1".into(), ts: "1.2".into() };
    story.incident.as_mut().unwrap().root = Some(digest.clone());
    let story = story.then(trouble(1), Repeated).then(critical(2), News).then(recovery(3), Recovered);
    assert_eq!(story.incident().root, Some(digest));
}

#[test]
fn an_incident_is_bounded() {
    let mut incident = None;
    for minute in 0..1_000 {
        let name = format!("{minute}");
        let signal = Signal { failed_task: Some(Id::of(&name)), ..rollout(minute, &name, Rollout::Failed) };
        let (_, next) = next(incident.as_ref(), &signal, &POLICY, at(0));
        incident = next.map(|next| Incident { root: Some(Root::Webhook), ..next });
    }
    let incident = incident.unwrap();
    assert_eq!((incident.events, incident.failed_tasks), (1_000, 1_000));
    let kept = (incident.ids.len(), incident.tasks.len(), incident.deployments.len());
    assert_eq!(kept, (EVENTS, TASKS, DEPLOYMENTS));
}
