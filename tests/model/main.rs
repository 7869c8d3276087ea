//! The protocols that the worker rests on, in every interleaving within small bounds: see [`protocol`] for what becomes of a message,
//! [`incident`] for what becomes of the alerts of one incident. Exhaustive, so what holds
//! here needs no luck; a model, so what holds here holds of the program as far as each step says which of its lines it stands for.
//!
//! The search is a breadth-first one of our own: the checkers that are maintained bring a web server and some forty crates.
//! What can be driven as it is, is: the interleavings of the real batcher are in `src/batch/interleavings.rs`.

#![allow(unreachable_pub, reason = "one binary, one crate")]

mod incident;
mod protocol;
mod search;

use protocol::{ALL, EXPLAIN_NONE, Fault, Fault::*, Protocol, Rule};
use search::{Counterexample, Model, search};

/// One event for two channels, and all that may go wrong, in any combination of two. With three there are 537,723 states and no
/// counterexample either, but that takes ten seconds.
const TWO_WORKERS: Protocol = Protocol {
    rule: Rule::AsIs,
    workers: 2,
    messages: 1,
    channels: 2,
    max_receives: 3,
    faults: ALL,
    max_faults: 2,
    max_accepted: None,
    may_overlap: true,
};

#[track_caller]
fn holds(protocol: impl Model) -> usize {
    let states = search(&protocol).unwrap_or_else(|Counterexample { what, steps }| panic!("{what}: {steps:#?}"));
    println!("{states} states");
    states
}

#[track_caller]
fn fails(protocol: impl Model, expected: &str) {
    let Counterexample { what, steps } = search(&protocol).expect_err("the broken protocol passes");
    println!("{what}: {steps:?}");
    assert_eq!(what, expected, "{steps:#?}");
}

#[test]
fn one_message_for_two_channels_is_never_lost_whatever_fails() {
    holds(TWO_WORKERS);
}

#[test]
fn two_messages_are_never_lost_whatever_fails() {
    holds(Protocol { messages: 2, channels: 1, max_receives: 2, max_faults: 2, ..TWO_WORKERS });
}

#[test]
fn one_worker_has_nothing_posted_twice_however_often_it_comes() {
    // Everything it knows about Slack is true, and it is alive; only SQS fails.
    const OF_SQS: &[Fault] = &[ReceiveLost, Refuse, Late, DeleteLost, DeleteFail, PutBackFail, ExpireHeld];
    holds(Protocol { workers: 1, faults: OF_SQS, max_accepted: Some(1), ..TWO_WORKERS });
}

#[test]
fn without_a_crash_a_lost_answer_or_an_expiry_nothing_is_posted_twice() {
    holds(Protocol { channels: 1, faults: EXPLAIN_NONE, max_accepted: Some(1), may_overlap: false, ..TWO_WORKERS });
}

#[test]
fn while_nothing_expires_that_is_worked_on_no_two_hold_it() {
    const IN_TIME: &[Fault] = &[ReceiveLost, Refuse, AnswerLost, Late, DeleteLost, DeleteFail, PutBackFail, Crash];
    holds(Protocol { faults: IN_TIME, may_overlap: false, ..TWO_WORKERS });
    // The deadline is what keeps it so.
    fails(Protocol { may_overlap: false, ..TWO_WORKERS }, "two tasks hold one message");
}

#[test]
fn an_event_for_two_channels_may_reach_one_of_them_twice_when_the_other_fails() {
    // What a worker has posted only it knows: it is put back for the other channel, and another worker takes it.
    let partial = Protocol { faults: EXPLAIN_NONE, max_accepted: Some(1), ..TWO_WORKERS };
    fails(partial, "posted twice for no reason");
    holds(Protocol { workers: 1, ..partial });
}

#[test]
fn a_broken_protocol_is_found_out() {
    let broken = |rule| Protocol { rule, ..TWO_WORKERS };
    fails(broken(Rule::DeleteOnReceive), "deleted, and a channel never had it");
    fails(broken(Rule::DeleteWhenOneChannelHasIt), "deleted, and a channel never had it");
    fails(broken(Rule::RememberBeforeTheAnswer), "deleted, and a channel never had it");
    fails(broken(Rule::HoldWhatFailed), "a dead end");
    let one_worker = Protocol { workers: 1, faults: &[ExpireHeld], max_accepted: Some(1), ..TWO_WORKERS };
    fails(Protocol { rule: Rule::ForgetWhatWasPosted, ..one_worker }, "posted twice for no reason");
}

/// Two problems of one incident at two workers that share a table, and all that may go wrong, in any combination of two.
const ONE_INCIDENT: incident::Protocol = incident::Protocol {
    rule: incident::Rule::AsIs,
    problems: 2,
    recovers: false,
    max_receives: 3,
    faults: incident::ALL,
    max_faults: 2,
    table: true,
};

#[test]
fn what_is_folded_is_in_an_incident_that_slack_has_whatever_fails() {
    holds(ONE_INCIDENT);
    // Likewise if each worker has a memory of its own; then each opens it.
    holds(incident::Protocol { table: false, ..ONE_INCIDENT });
}

#[test]
fn an_incident_has_one_root_unless_a_crash_or_a_lost_answer_explains_another() {
    let calm = incident::Protocol { faults: incident::EXPLAIN_NONE, ..ONE_INCIDENT };
    holds(calm);
    holds(incident::Protocol { problems: 3, max_receives: 2, max_faults: 1, ..calm });
}

#[test]
fn what_is_over_is_shown_as_over_in_whatever_order_it_comes() {
    use incident::Fault::{AnswerLost, Crash, DeleteFail, ExpireHeld, ExpireHeldLease, Late, Refuse};
    const TABLE_ANSWERS: &[incident::Fault] = &[Refuse, Late, AnswerLost, Crash, DeleteFail, ExpireHeld];
    let one = incident::Protocol { problems: 1, recovers: true, faults: TABLE_ANSWERS, ..ONE_INCIDENT };
    holds(one);
    holds(incident::Protocol { problems: 2, max_receives: 2, max_faults: 1, ..one });
    // A holder that is too slow to extend its lease may open an incident that the recovery did not see.
    fails(incident::Protocol { faults: &[ExpireHeldLease], ..one }, "over, and Slack does not show it");
}

#[test]
fn a_broken_protocol_of_incidents_is_found_out() {
    let broken = |rule| incident::Protocol { rule, ..ONE_INCIDENT };
    let lost = "deleted, and Slack does not have its incident";
    fails(broken(incident::Rule::FoldBeforeTheRoot), lost);
    fails(broken(incident::Rule::RecordBeforeTheAnswer), lost);
    let calm = |rule| incident::Protocol { recovers: true, faults: &[], ..broken(rule) };
    fails(calm(incident::Rule::NoLease), "two roots for no reason");
    fails(calm(incident::Rule::LearnBeforeTheLease), "over, and Slack does not show it");
    fails(calm(incident::Rule::RecoverWithoutWaiting), "over, and Slack does not show it");
}
