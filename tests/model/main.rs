//! Models of the two protocols that the worker depends on. A search checks every interleaving of their steps within small bounds.
//! [`protocol`] models what happens to a message, [`incident`] what happens to the alerts of one incident.
//!
//! The search misses no interleaving within its bounds, but it runs a model, not the program. So each model has a table that names the
//! code behind each step. A result holds for the program as far as that table is right.
//!
//! The breadth-first search is our own, because the maintained model checkers bring a web server and some forty crates. The batcher needs
//! no model: `src/batch/interleavings.rs` runs the real one in every order.

#![allow(unreachable_pub, reason = "one binary, one crate")]

mod incident;
mod protocol;
mod search;

use protocol::{ALL, EXPLAIN_NONE, Fault, Fault::*, Protocol, Rule};
use search::{Counterexample, Model, search};

/// One message for two channels, with every combination of up to two faults. Three faults give 537,723 states and no counterexample
/// either, but take ten seconds.
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
fn one_worker_posts_no_message_twice_however_often_it_receives_it() {
    // Only SQS fails: the worker gets every answer of Slack, and does not crash.
    const OF_SQS: &[Fault] = &[ReceiveLost, Refuse, Late, DeleteLost, DeleteFail, PutBackFail, ExpireHeld];
    holds(Protocol { workers: 1, faults: OF_SQS, max_accepted: Some(1), ..TWO_WORKERS });
}

#[test]
fn without_a_crash_a_lost_answer_or_an_expiry_nothing_is_posted_twice() {
    holds(Protocol { channels: 1, faults: EXPLAIN_NONE, max_accepted: Some(1), may_overlap: false, ..TWO_WORKERS });
}

#[test]
fn two_tasks_hold_one_message_only_if_its_visibility_timeout_ends_during_the_work() {
    const IN_TIME: &[Fault] = &[ReceiveLost, Refuse, AnswerLost, Late, DeleteLost, DeleteFail, PutBackFail, Crash];
    holds(Protocol { faults: IN_TIME, may_overlap: false, ..TWO_WORKERS });
    // The program ends its work on a message before that, so that this fault does not happen.
    fails(Protocol { may_overlap: false, ..TWO_WORKERS }, "two tasks hold one message");
}

#[test]
fn a_message_for_two_channels_may_be_posted_twice_to_one_of_them_if_the_other_fails() {
    // The message is put back for the channel that failed. Another worker may receive it, which does not know about the first post.
    let partial = Protocol { faults: EXPLAIN_NONE, max_accepted: Some(1), ..TWO_WORKERS };
    fails(partial, "posted twice for no reason");
    holds(Protocol { workers: 1, ..partial });
}

#[test]
fn the_search_finds_each_broken_rule() {
    let broken = |rule| Protocol { rule, ..TWO_WORKERS };
    fails(broken(Rule::DeleteOnReceive), "deleted, and a channel never got it");
    fails(broken(Rule::DeleteAfterOneChannel), "deleted, and a channel never got it");
    fails(broken(Rule::RememberBeforeTheAnswer), "deleted, and a channel never got it");
    fails(broken(Rule::NeverPutBack), "a dead end");
    let one_worker = Protocol { workers: 1, faults: &[ExpireHeld], max_accepted: Some(1), ..TWO_WORKERS };
    fails(Protocol { rule: Rule::ForgetWhatWasPosted, ..one_worker }, "posted twice for no reason");
}

/// Two problems of one incident, and two workers that share a table, with every combination of up to two faults.
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
fn a_folded_alert_is_in_an_incident_that_slack_has_whatever_fails() {
    holds(ONE_INCIDENT);
    // The same if each worker has its own memory. Then each of them opens the incident.
    holds(incident::Protocol { table: false, ..ONE_INCIDENT });
}

#[test]
fn an_incident_has_one_root_unless_a_crash_or_a_lost_answer_explains_another() {
    let calm = incident::Protocol { faults: incident::EXPLAIN_NONE, ..ONE_INCIDENT };
    holds(calm);
    holds(incident::Protocol { problems: 3, max_receives: 2, max_faults: 1, ..calm });
}

#[test]
fn a_recovered_incident_is_shown_as_recovered_in_any_order_of_messages() {
    use incident::Fault::{AnswerLost, Crash, DeleteFail, ExpireHeld, ExpireHeldLease, Late, Refuse};
    const TABLE_ANSWERS: &[incident::Fault] = &[Refuse, Late, AnswerLost, Crash, DeleteFail, ExpireHeld];
    let one = incident::Protocol { problems: 1, recovers: true, faults: TABLE_ANSWERS, ..ONE_INCIDENT };
    holds(one);
    holds(incident::Protocol { problems: 2, max_receives: 2, max_faults: 1, ..one });
    // If the lease of a slow worker expires during its post, the recovery may find no incident, and the worker then opens one.
    fails(incident::Protocol { faults: &[ExpireHeldLease], ..one }, "recovered, and Slack does not show it");
}

#[test]
fn the_search_finds_each_broken_rule_for_incidents() {
    let broken = |rule| incident::Protocol { rule, ..ONE_INCIDENT };
    let lost = "deleted, and Slack does not have its incident";
    fails(broken(incident::Rule::FoldBeforeTheRoot), lost);
    fails(broken(incident::Rule::RecordBeforeTheAnswer), lost);
    let calm = |rule| incident::Protocol { recovers: true, faults: &[], ..broken(rule) };
    fails(calm(incident::Rule::NoLease), "two roots for no reason");
    fails(calm(incident::Rule::CheckBeforeTheLease), "recovered, and Slack does not show it");
    fails(calm(incident::Rule::RecoverWithoutWaiting), "recovered, and Slack does not show it");
}
