//! The table of transitions in docs/operations.md, row by row.

use super::*;
use Decision::{Duplicate, NoIncident, PutBack};
use Severity::{Critical, Info, Warning};
use Transition::*;

const POLICY: Policy = Policy {
    remind_after: Duration::from_secs(3600),
    quiet_for: Duration::from_secs(600),
    reopen_within: Duration::from_secs(900),
    mention_from: Some(Critical),
};

mod recoveries;

/// The time of minute `minute`. An event's id is unique to its minute unless a test changes it.
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
        noted_recovery: None,
    }
}

fn problem(minute: i64) -> Signal {
    event(minute, Kind::Problem)
}

fn critical(minute: i64) -> Signal {
    Signal { severity: Critical, ..problem(minute) }
}

fn caused(minute: i64, cause: &'static str) -> Signal {
    Signal { cause: Some(cause), ..problem(minute) }
}

fn rollout(minute: i64, deployment: &str, rollout: Rollout) -> Signal {
    Signal { deployment: Some((Id::of(deployment), rollout)), ..problem(minute) }
}

fn failed(minute: i64, task: &str) -> Signal {
    Signal { failed_task: Some(Id::of(task)), ..problem(minute) }
}

fn recovery(minute: i64) -> Signal {
    event(minute, Kind::Recovery { confirmed: Some(true) })
}

fn unconfirmed(minute: i64) -> Signal {
    event(minute, Kind::Recovery { confirmed: Some(false) })
}

/// The incident over time. Slack accepts every report at once.
#[derive(Default)]
struct Timeline {
    incident: Option<Incident>,
    mentions: usize,
}

impl Timeline {
    /// The event arrives at its own time.
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

fn opened() -> Timeline {
    Timeline::default().then(problem(0), Opened)
}

#[test]
fn opened_when_no_incident_is_open() {
    for signal in [problem(0), critical(0), caused(0, "oom"), rollout(0, "d1", Rollout::Failed), failed(0, "t1")] {
        Timeline::default().then(signal, Opened);
    }
    // The previous one recovered too long ago.
    let timeline = opened().then(recovery(5), Recovered).then(problem(21), Opened);
    assert_eq!((timeline.incident().events, timeline.incident().first_event), (1, at(21)));
}

#[test]
fn only_problems_open_an_incident() {
    for signal in [
        recovery(0),
        unconfirmed(0),
        event(0, Kind::Other),
        Signal { severity: Info, ..problem(0) },
        Signal { severity: Critical, ..event(0, Kind::Other) },
    ] {
        let timeline = Timeline::default().then(signal, NoIncident);
        assert_eq!(timeline.incident, None);
    }
}

#[test]
fn news_when_it_is_more_severe_than_before() {
    opened().then(critical(1), News).then(problem(2), Repeated).then(critical(3), Repeated);
    // Severities from before a recovery count too.
    opened()
        .then(critical(1), News)
        .then(recovery(2), Recovered)
        .then(problem(3), Reopened)
        .then(critical(4), Repeated);
}

#[test]
fn news_when_the_cause_is_new() {
    opened()
        .then(caused(1, "oom"), News)
        .then(problem(2), Repeated)
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
    Timeline::default()
        .then(rollout(0, "d1", Rollout::Failed), Opened)
        .then(rollout(1, "d1", Rollout::Failed), Repeated);
}

#[test]
fn news_when_another_deployment_is_in_trouble() {
    Timeline::default()
        .then(rollout(0, "d1", Rollout::InTrouble), Opened)
        .then(rollout(1, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(2, "d2", Rollout::InTrouble), News)
        .then(rollout(3, "d1", Rollout::InTrouble), Repeated)
        .then(rollout(4, "d2", Rollout::InTrouble), Repeated);
    // The first named deployment may be the one that had the problem from the start.
    opened().then(rollout(1, "d1", Rollout::InTrouble), Repeated).then(rollout(2, "d2", Rollout::InTrouble), News);
}

#[test]
fn repeated_when_nothing_is_new() {
    let mut timeline = opened();
    for minute in 1..50 {
        timeline = timeline.then(failed(minute, &format!("task {}", minute % 24)), Repeated);
    }
    let incident = timeline.incident();
    assert_eq!((incident.events, incident.failed_tasks), (50, 24));
    assert_eq!((incident.first_event, incident.last_event), (at(0), at(49)));
    assert_eq!(incident.reported, at(0));
}

#[test]
fn reminded_when_the_last_report_is_long_ago() {
    opened()
        .then(problem(59), Repeated)
        .then(problem(60), Reminded)
        .then(problem(61), Repeated)
        .then(caused(100, "oom"), News)
        .then(problem(159), Repeated)
        .then(problem(160), Reminded);
    // The time of the report counts, not the time of the event.
    opened().arrives(at(60), problem(1), Reminded);
}

#[test]
fn a_duplicate_is_not_counted_twice() {
    let timeline = opened().then(critical(1), News).arrives(at(2), problem(0), Duplicate);
    let timeline = timeline.arrives(at(2), critical(1), Duplicate).then(recovery(3), Recovered);
    let timeline = timeline.arrives(at(4), critical(1), Duplicate).arrives(at(4), recovery(3), Duplicate);
    assert_eq!(timeline.incident().events, 2);
    // It does not become an event of the next incident either.
    let timeline = timeline.then(problem(60), Opened).arrives(at(61), critical(1), Duplicate);
    assert_eq!(timeline.incident().events, 1);
}

#[test]
fn the_last_64_events_are_known() {
    let mut timeline = opened();
    for minute in 1..=64 {
        timeline = timeline.arrives(at(1), problem(minute), Repeated);
    }
    timeline.arrives(at(2), problem(1), Duplicate).arrives(at(2), problem(0), Repeated);
}

#[test]
fn forgotten_after_a_day_without_an_event() {
    const DAY: i64 = 24 * 60;
    opened().then(problem(DAY - 1), Reminded).then(problem(2 * DAY - 2), Reminded);
    let timeline = opened().then(problem(DAY), Opened);
    assert_eq!(timeline.incident().events, 1);
    opened().then(recovery(DAY), NoIncident);
}

#[test]
fn an_incident_whose_root_is_gone_is_opened_again() {
    let gone = |mut timeline: Timeline| {
        timeline.incident.as_mut().unwrap().root = None;
        timeline
    };
    let timeline = gone(opened().then(critical(1), News)).then(problem(2), Opened).mentioned(1);
    assert_eq!((timeline.incident().events, timeline.incident().first_event), (3, at(0)));
    // The event whose edit found the root missing was already counted.
    let timeline = gone(timeline).arrives(at(3), problem(2), Opened);
    assert_eq!(timeline.incident().events, 3);
    gone(timeline).then(recovery(4), Recovered);
    // A recovered incident stays recovered.
    let timeline = gone(opened().then(recovery(5), Recovered)).arrives(at(6), problem(4), Opened);
    assert_eq!(timeline.incident().recovered, Some(at(5)));
    // A problem that would have reopened it still does.
    assert!(gone(timeline).then(problem(6), Opened).incident().is_open());
}

#[test]
fn without_a_root_an_alert_is_neither_folded_nor_a_duplicate() {
    let (_, incident) = next(None, &problem(0), &POLICY, at(0));
    let rootless = incident.unwrap();
    for signal in [problem(0), problem(1), critical(1)] {
        let (decision, _) = next(Some(&rootless), &signal, &POLICY, at(2));
        assert!(matches!(decision, Decision::Transition { transition: Opened, .. }), "{decision:?}");
    }
}

#[test]
fn only_an_opening_or_an_escalation_mentions() {
    Timeline::default()
        .then(critical(0), Opened)
        .mentioned(1)
        .then(Signal { cause: Some("oom"), ..critical(1) }, News)
        .then(critical(61), Reminded)
        .then(recovery(62), Recovered)
        .then(critical(63), Reopened)
        .mentioned(1);
    opened().mentioned(0).then(critical(1), News).mentioned(1).then(critical(61), Reminded).mentioned(1);
    opened().then(recovery(1), Recovered).then(critical(2), Reopened).mentioned(1);
    // With `warning`, both the opening and the escalation mention.
    let policy = Policy { mention_from: Some(Warning), ..POLICY };
    let mentions = |stored: Option<&Incident>, signal: Signal| match next(stored, &signal, &policy, signal.time) {
        (Decision::Transition { mentions, .. }, Some(incident)) => (mentions, incident),
        other => panic!("{other:?}"),
    };
    let (first, mut incident) = mentions(None, problem(0));
    incident.root = Some(Root::Webhook);
    let (second, _) = mentions(Some(&incident), critical(1));
    assert!(first && second);
    let nobody = Policy { mention_from: None, ..POLICY };
    let (decision, _) = next(None, &critical(0), &nobody, at(0));
    assert_eq!(decision, Decision::Transition { transition: Opened, mentions: false });
}

#[test]
fn a_start_that_may_recover_is_counted_by_an_open_incident_and_opens_none() {
    let may_recover = |minute| Signal { severity: Info, cause: Some("eni"), ..failed(minute, "t1") };
    let timeline = Timeline::default().then(may_recover(0), NoIncident).then(problem(1), Opened);
    let timeline = timeline.then(may_recover(2), Repeated).then(may_recover(90), Repeated);
    assert_eq!((timeline.incident().events, timeline.incident().failed_tasks), (3, 1));
}

#[test]
fn a_digest_is_a_root_like_any_other() {
    let mut timeline = opened();
    let digest = Root::Digest { channel: "C1".into(), ts: "1.2".into() };
    timeline.incident.as_mut().unwrap().root = Some(digest.clone());
    let timeline = timeline.then(problem(1), Repeated).then(critical(2), News).then(recovery(3), Recovered);
    assert_eq!(timeline.incident().root, Some(digest));
}

#[test]
fn the_size_of_an_incident_is_limited() {
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
