//! Recoveries, and problems after them.

use super::*;

#[test]
fn recovered_when_ecs_confirms_it() {
    let timeline = opened().then(critical(1), News).then(recovery(5), Recovered);
    let incident = timeline.incident();
    assert_eq!(incident.duration(), Some(Duration::from_secs(300)));
    assert_eq!((incident.events, incident.recovered), (2, Some(at(5))));
    // Each recovery is reported once.
    timeline.then(recovery(6), NoIncident).then(Signal { id: recovery(5).id, ..recovery(5) }, Duplicate);
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
    // It was put back twice; another recovery is counted separately.
    dropped.arrives(at(26), signal, Duplicate).then(unconfirmed(30), PutBack).then(recovery(31), Recovered);
}

#[test]
fn a_recovery_older_than_the_latest_problem_does_not_end_the_incident() {
    let timeline = opened().then(problem(5), Repeated).arrives(at(6), recovery(3), Repeated);
    assert!(timeline.incident().is_open());
    assert_eq!(timeline.incident().events, 2);
    timeline
        .arrives(at(6), unconfirmed(4), Repeated)
        .then(Signal { id: Id::of("same second"), ..recovery(5) }, Recovered);
}

#[test]
fn reopened_by_a_problem_newer_than_the_recovery_and_soon() {
    let recovered = || opened().then(recovery(5), Recovered);
    let timeline = recovered().then(problem(20), Reopened);
    assert!(timeline.incident().is_open());
    assert_eq!((timeline.incident().events, timeline.incident().first_event), (2, at(0)));
    timeline.then(problem(21), Repeated).then(recovery(22), Recovered);
    // The time of the event counts, not its arrival.
    recovered().arrives(at(200), problem(20), Reopened);
    recovered().then(Signal { severity: Info, ..problem(6) }, NoIncident);
}

#[test]
fn a_problem_not_newer_than_the_recovery_is_folded() {
    let timeline = opened().then(recovery(5), Recovered).arrives(at(6), failed(4, "t1"), Repeated);
    let incident = timeline.incident();
    assert_eq!((incident.recovered, incident.events, incident.failed_tasks), (Some(at(5)), 2, 1));
    let same_second = Signal { id: Id::of("same second"), ..critical(5) };
    let timeline = timeline.arrives(at(7), same_second, Repeated).mentioned(0);
    assert!(!timeline.incident().is_open());
}

#[test]
fn a_problem_that_arrives_after_its_recovery_opens_a_recovered_incident() {
    // The recovery found no open incident. The problem arrived later, because it was put back while Slack was down.
    let late = Signal { noted_recovery: Some(at(5)), ..critical(3) };
    let timeline = Timeline::default().arrives(at(30), late, Opened).mentioned(0);
    assert_eq!(timeline.incident().recovered, Some(at(5)));
    // The same after a second recovery.
    let late = Signal { noted_recovery: Some(at(9)), ..problem(7) };
    let timeline = timeline.arrives(at(31), late, Repeated);
    assert!(!timeline.incident().is_open());
    // A problem newer than both reopens it.
    timeline.then(Signal { noted_recovery: Some(at(9)), ..problem(24) }, Reopened);
}
