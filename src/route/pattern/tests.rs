//! Which events match which patterns by AWS's documented rules, and which patterns are refused with which message.

use serde_json::{Value, json};

use super::{MatchInput, Pattern, Verdict};
use crate::diagnosis::Tags;

#[track_caller]
fn assert_matches(pattern: &Value, event: &Value, expected: bool) {
    let compiled = Pattern::compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    assert_eq!(compiled.matches(MatchInput::new(event)), expected, "pattern {pattern}, event {event}");
}

/// One line for each array of values: `values | fields that match | fields that do not`.
#[track_caller]
fn check_values(table: &str) {
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let columns: Vec<Value> = line
            .split(" | ")
            .map(|column| serde_json::from_str(column).unwrap_or_else(|error| panic!("{column}: {error}")))
            .collect();
        let [values, matching, others] = columns.as_slice() else {
            panic!("not three columns: {line}");
        };
        for (events, expected) in [(matching, true), (others, false)] {
            for event in events.as_array().expect("an array of what the field holds") {
                assert_matches(&json!({ "x": values }), &json!({ "x": event }), expected);
            }
        }
    }
}

/// One line for each pattern.
#[track_caller]
fn check_patterns(event: &Value, matching: &str, others: &str) {
    for (patterns, expected) in [(matching, true), (others, false)] {
        for pattern in patterns.lines().filter(|line| !line.trim().is_empty()) {
            let pattern = serde_json::from_str(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_matches(&pattern, event, expected);
        }
    }
}

/// One line for each event.
#[track_caller]
fn check_events(pattern: &Value, matching: &str, others: &str) {
    for (events, expected) in [(matching, true), (others, false)] {
        for event in events.lines().filter(|line| !line.trim().is_empty()) {
            let event = serde_json::from_str(event).unwrap_or_else(|error| panic!("{event}: {error}"));
            assert_matches(pattern, &event, expected);
        }
    }
}

fn impaired_service() -> Value {
    json!({
        "version": "0",
        "id": "0d4e4a4e-7d3f-4ac1-9b0e-4c3d7a3cf3b5",
        "detail-type": "ECS Service Action",
        "source": "aws.ecs",
        "account": "123456789012",
        "time": "2026-03-14T15:09:26Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:ecs:eu-west-1:123456789012:service/search-prod/indexer"],
        "detail": {
            "eventType": "WARN",
            "eventName": "SERVICE_TASK_START_IMPAIRED",
            "clusterArn": "arn:aws:ecs:eu-west-1:123456789012:cluster/search-prod",
        },
    })
}

fn stopped_task() -> Value {
    json!({
        "source": "aws.ecs",
        "detail-type": "ECS Task State Change",
        "resources": ["arn:aws:ecs:eu-west-1:123456789012:task/shop-prod/0f1e2d3c4b5a69788796a5b4c3d2e1f0"],
        "detail": {
            "group": "service:checkout",
            "lastStatus": "STOPPED",
            "containers": [
                { "name": "app", "exitCode": 1, "lastStatus": "STOPPED" },
                { "name": "envoy", "exitCode": 0, "lastStatus": "STOPPED" },
                { "name": "agent", "lastStatus": "STOPPED", "reason": "CannotPullContainerError" },
            ],
            "attachments": [
                { "type": "sdi", "details": [] },
                { "type": "eni", "details": [
                    { "name": "subnetId", "value": "subnet-0a1b2c3d" },
                    { "name": "privateIPv4Address", "value": "10.0.199.187" },
                ] },
            ],
        },
    })
}

#[test]
fn a_pattern_selects_ecs_events_as_an_eventbridge_rule_does() {
    check_patterns(
        &impaired_service(),
        r#"
            {"resources": [{"wildcard": "*:service/search-*/*"}]}
            {"source": ["aws.ecs"], "detail-type": ["ECS Service Action"]}
            {"source": ["aws.ecs"], "detail": {"eventType": ["WARN", "ERROR"]}}
            {"account": ["123456789012"], "region": [{"prefix": "eu-"}]}
            {"detail": {"eventName": [{"anything-but": ["SERVICE_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED"]}]}}
            {"detail": {"clusterArn": [{"suffix": "/search-prod"}], "reason": [{"exists": false}]}}
        "#,
        r#"
            {"resources": [{"wildcard": "*:service/shop-*/*"}]}
            {"source": ["aws.ec2"], "detail-type": ["ECS Service Action"]}
            {"source": ["aws.ecs"], "detail": {"eventType": ["INFO"]}}
            {"detail": {"nothing-like-it": ["WARN"]}}
        "#,
    );
    check_patterns(&stopped_task(), "", r#"{"resources": [{"wildcard": "*:service/search-*/*"}]}"#);
}

#[test]
fn exact_values_match_by_type_and_every_character() {
    check_values(
        r#"
            ["Alice"] | ["Alice", ["Bob", "Alice"]] | ["alice", "Alice ", "", null]
            [true] | [true] | [false, "true", 1]
            [5] | [5, 5.0] | ["5", 6, true]
            [3.018e2] | [301.8] | [301, "301.8"]
            [123456789012] | [123456789012] | ["123456789012"]
            [9007199254740993] | [9007199254740993] | [9007199254740992]
            ["a", 7, null] | ["a", 7, null] | ["7", "null", "b"]
        "#,
    );
}

#[test]
fn null_and_the_empty_string_are_values() {
    check_values(
        r#"
            [null] | [null, [null]] | ["", "null", 0, false, [], {}]
            [""] | ["", [""]] | [null, " ", [], {}]
        "#,
    );
    check_events(&json!({ "x": [null] }), "", "{}");
}

#[test]
fn prefix_and_suffix() {
    check_values(
        r#"
            [{"prefix": "us-"}] | ["us-east-1", "us-"] | ["eu-us-", "US-x", "us", 1, null]
            [{"suffix": ".png"}] | ["a.png", ".png"] | ["a.PNG", "a.png.gz", "png", 1, null]
            [{"prefix": ""}] | ["", "any"] | [1, null, true]
            [{"prefix": {"equals-ignore-case": "EventB"}}] | ["eventbridge", "EVENTB"] | ["event", "my-eventb", 1]
            [{"suffix": {"equals-ignore-case": ".Png"}}] | ["a.PNG", ".png"] | ["a.pngs", "ng", 1]
            [{"suffix": {"equals-ignore-case": "É"}}] | ["café", "CAFÉ"] | ["cafe"]
        "#,
    );
}

#[test]
fn equals_ignore_case_is_not_limited_to_ascii() {
    check_values(
        r#"
            [{"equals-ignore-case": "alice"}] | ["ALICE", "Alice"] | ["alice ", "alic", 1, null]
            [{"equals-ignore-case": "ÉCOLE"}] | ["école"] | ["ecole"]
            [{"equals-ignore-case": "ΟΔΟΣ"}] | ["οδοσ", "Οδοσ"] | ["οδο"]
        "#,
    );
}

#[test]
fn wildcard() {
    check_values(
        r#"
            [{"wildcard": "dir/*.png"}] | ["dir/a.png", "dir/.png", "dir/b/a.png"] | ["dir/a.png.gz", "a.png", 1, null]
            [{"wildcard": "*"}] | ["", "any"] | [1, null]
            [{"wildcard": "exact"}] | ["exact"] | ["exactly", "", "Exact"]
            [{"wildcard": "a*b*c"}] | ["abc", "axbxc", "abbcbc"] | ["acb", "ac", "abcd"]
            [{"wildcard": "aba*aba"}] | ["abaaba", "abaxaba"] | ["aba", "ababa"]
            [{"wildcard": "2\\*3=*"}] | ["2*3=6", "2*3="] | ["2x3=6"]
            [{"wildcard": "C:\\\\*\\\\x"}] | ["C:\\dir\\x", "C:\\\\x"] | ["C:/dir/x", "C:\\x"]
            [{"wildcard": "日*語"}] | ["日本語", "日語"] | ["日本"]
        "#,
    );
}

#[test]
fn a_wildcard_with_many_asterisks_is_fast_with_a_long_text_that_almost_matches() {
    let pattern = json!({ "x": [{ "wildcard": format!("{}b", "*a".repeat(1000)) }] });
    assert_matches(&pattern, &json!({ "x": "a".repeat(200_000) }), false);
}

#[test]
fn anything_but_matches_every_other_value() {
    check_values(
        r#"
            [{"anything-but": "initializing"}] | ["running", "", 5, null, true] | ["initializing"]
            [{"anything-but": 123}] | [124, "123", null] | [123, 123.0]
            [{"anything-but": ["stopped", "overloaded"]}] | ["running", 5] | ["stopped", "overloaded"]
            [{"anything-but": [100, 200, 300]}] | [150, "100"] | [100, 200, 300]
        "#,
    );
}

#[test]
fn anything_but_with_an_operator() {
    check_values(
        r#"
            [{"anything-but": {"prefix": "init"}}] | ["reinit", 1] | ["init", "initial"]
            [{"anything-but": {"prefix": ["init", "error"]}}] | ["ok"] | ["initial", "error 5"]
            [{"anything-but": {"suffix": ".png"}}] | ["a.jpg", "png"] | ["a.png"]
            [{"anything-but": {"suffix": [".png", ".jpg"]}}] | ["a.gif"] | ["a.png", "a.jpg"]
            [{"anything-but": {"equals-ignore-case": "stopped"}}] | ["stop", 1] | ["STOPPED", "stopped"]
            [{"anything-but": {"equals-ignore-case": ["a", "b"]}}] | ["c"] | ["A", "B", "b"]
            [{"anything-but": {"wildcard": "*/lib/*"}}] | ["/bin/x", "lib"] | ["/usr/lib/x"]
            [{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}] | ["/x"] | ["/lib/x", "/bin/"]
        "#,
    );
}

#[test]
fn anything_but_needs_a_value_and_in_an_array_one_element_that_differs() {
    check_values(r#"[{"anything-but": "banned"}] | [["banned", "active"]] | [["banned"], [], {}, {"y": "active"}]"#);
    check_events(&json!({ "x": [{ "anything-but": "banned" }] }), "", r#"{"y": "active"}"#);
}

#[test]
fn numeric() {
    check_values(
        r#"
            [{"numeric": ["=", 100]}] | [100, 1e2] | ["100", 100.5, null]
            [{"numeric": ["<", 10]}] | [9.99, -1e12] | [10, "9", null]
            [{"numeric": ["<=", 10]}] | [10, 10.0] | [10.001]
            [{"numeric": [">", 10]}] | [11, 1700000000000] | [10, "11", true]
            [{"numeric": [">=", 10]}] | [10, [1, 10]] | [9, ["10"]]
            [{"numeric": [">", 0, "<=", 5]}] | [0.1, 5] | [0, 5.1]
            [{"numeric": [">=", -5.0e9, "<", 5.0e9]}] | [-5.0e9, 0] | [5.0e9, -5.1e9]
        "#,
    );
}

#[test]
fn cidr() {
    check_values(
        r#"
            [{"cidr": "10.0.0.0/24"}] | ["10.0.0.0", "10.0.0.255"] | ["10.0.1.0", "10.0.0.0/24", "::1", "host", 10]
            [{"cidr": "10.0.0.77/24"}] | ["10.0.0.1"] | ["10.0.1.1"]
            [{"cidr": "0.0.0.0/0"}] | ["203.0.113.9"] | ["2001:db8::1", "any", null]
            [{"cidr": "10.1.2.3/32"}] | ["10.1.2.3"] | ["10.1.2.2"]
            [{"cidr": "2001:db8::/33"}] | ["2001:db8::1", "2001:0DB8:7fff::"] | ["2001:db8:8000::", "32.1.13.184"]
            [{"cidr": "::/0"}] | ["2001:db8::1"] | ["203.0.113.9"]
        "#,
    );
}

#[test]
fn exists_is_about_leaves() {
    // An object is no leaf, so the field counts as absent. This is an example in AWS's documentation.
    let with = r#"
        {"detail": {"c-count": 0}}
        {"detail": {"c-count": null}}
        {"detail": {"c-count": ""}}
        {"detail": {"c-count": [[1]]}}
        {"detail": [{}, {"c-count": 1}]}
    "#;
    let without = r#"
        {}
        {"detail": {}}
        {"detail": "text"}
        {"detail": {"c-count": {"c1": 100}}}
        {"detail": {"c-count": []}}
        {"detail": {"c-count": [{"c1": 100}]}}
        {"detail": []}
        {"detail": [{}, {}]}
    "#;
    check_events(&json!({ "detail": { "c-count": [{ "exists": true }] } }), with, without);
    check_events(&json!({ "detail": { "c-count": [{ "exists": false }] } }), without, with);
}

#[test]
fn a_field_may_be_absent_or_have_a_certain_value() {
    let pattern = json!({ "detail": { "tier": ["gold", { "exists": false }] } });
    let others = r#"
        {"detail": {"tier": "silver"}}
        {"detail": {"tier": null}}
        {"detail": [{"tier": "silver"}, {}]}
    "#;
    let matching = r#"
        {}
        {"detail": {"tier": "gold"}}
        {"detail": [{"tier": "silver"}, {"tier": "gold"}]}
    "#;
    check_events(&pattern, matching, others);
}

#[test]
fn arrays_match_when_they_have_an_element_in_common() {
    check_values(
        r#"
            ["a", "b"] | ["a", ["x", "b"], [["a"]], [{"x": "b"}, "a"]] | [["x"], [], {"x": "a"}, [{"x": "a"}]]
            [{"numeric": [">", 0, "<", 10]}] | [[100, 5]] | [[100, "5"]]
        "#,
    );
}

#[test]
fn several_fields_of_one_array_must_match_in_the_same_element() {
    check_patterns(
        &stopped_task(),
        r#"
            {"detail": {"containers": {"name": ["app"], "exitCode": [{"anything-but": 0}]}}}
            {"detail": {"containers": {"name": ["envoy"], "exitCode": [0]}}}
            {"detail": {"containers": {"name": ["agent"], "exitCode": [{"exists": false}]}}}
            {"detail": {"containers": {"lastStatus": ["STOPPED"], "reason": [{"prefix": "CannotPull"}]}}}
            {"detail": {"attachments": {"details": {"name": ["privateIPv4Address"], "value": [{"cidr": "10.0.0.0/8"}]}}}}
            {"detail": {"attachments": {"type": ["eni"], "details": {"name": ["subnetId"]}}}}
        "#,
        r#"
            {"detail": {"containers": {"name": ["envoy"], "exitCode": [1]}}}
            {"detail": {"containers": {"name": ["app"], "exitCode": [{"exists": false}]}}}
            {"detail": {"containers": {"name": ["app"], "reason": [{"exists": true}]}}}
            {"detail": {"attachments": {"details": {"name": ["subnetId"], "value": [{"cidr": "10.0.0.0/8"}]}}}}
            {"detail": {"attachments": {"type": ["sdi"], "details": {"name": ["subnetId"]}}}}
        "#,
    );
    // If no other field selects a container, the field must be absent from all containers.
    check_patterns(&stopped_task(), "", r#"{"detail": {"containers": {"exitCode": [{"exists": false}]}}}"#);
}

#[test]
fn arrays_within_arrays_are_searched() {
    // An example in AWS's documentation.
    let employees = json!({ "employees": [
        [{ "first": "John", "last": "Doe" }, { "first": "Anna", "last": "Smith" }],
        [{ "first": "Peter", "last": "Jones" }],
    ] });
    check_patterns(
        &employees,
        r#"{"employees": {"first": ["Anna"], "last": ["Smith"]}}"#,
        r#"{"employees": {"first": ["Anna"], "last": ["Jones"]}}"#,
    );
}

#[test]
fn or_needs_one_of_its_objects_and_the_fields_beside_it() {
    // An example in AWS's documentation: source && (metricName || (metricType && namespace && (metricId || spaceId)) || scope).
    let pattern = json!({
        "source": ["aws.cloudwatch"],
        "$or": [
            { "metricName": ["CPUUtilization", "ReadLatency"] },
            {
                "metricType": ["MetricType"],
                "namespace": ["AWS/EC2", "AWS/ES"],
                "$or": [{ "metricId": [1234] }, { "spaceId": [1000] }],
            },
            { "scope": ["Service"] },
        ],
    });
    check_events(
        &pattern,
        r#"
            {"source": "aws.cloudwatch", "metricName": "ReadLatency"}
            {"source": "aws.cloudwatch", "metricName": "other", "scope": "Service"}
            {"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES", "spaceId": 1000}
        "#,
        r#"
            {"source": "aws.cloudwatch"}
            {"source": "aws.ecs", "metricName": "ReadLatency"}
            {"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES"}
            {"source": "aws.cloudwatch", "metricType": "MetricType", "metricId": 1234, "spaceId": 1000}
        "#,
    );
}

#[test]
fn ors_at_different_levels_must_all_match() {
    let pattern = json!({
        "$or": [{ "region": ["eu-west-1"] }, { "account": ["123456789012"] }],
        "detail": { "$or": [{ "eventType": ["ERROR"] }, { "eventName": [{ "suffix": "_IMPAIRED" }] }] },
    });
    check_events(
        &pattern,
        r#"
            {"region": "eu-west-1", "detail": {"eventType": "ERROR"}}
            {"account": "123456789012", "detail": {"eventName": "SERVICE_TASK_START_IMPAIRED"}}
        "#,
        r#"
            {"region": "eu-west-1", "detail": {"eventType": "WARN"}}
            {"region": "us-east-1", "detail": {"eventType": "ERROR"}}
        "#,
    );
}

#[test]
fn a_field_inside_or_and_one_beside_it_must_match_in_the_same_element() {
    let pattern = |name: &str| {
        json!({ "detail": {
            "$or": [{ "containers": { "exitCode": [1] } }, { "containers": { "exitCode": [137] } }],
            "containers": { "name": [name] },
        } })
    };
    assert_matches(&pattern("app"), &stopped_task(), true);
    assert_matches(&pattern("envoy"), &stopped_task(), false);
}

#[test]
fn the_same_field_may_be_named_in_each_object_of_or() {
    let pattern = json!({ "$or": [
        { "detail-type": ["ECS Service Action"], "detail": { "eventType": ["WARN"] } },
        { "detail-type": ["ECS Task State Change"], "detail": { "lastStatus": ["STOPPED"] } },
    ] });
    assert_matches(&pattern, &impaired_service(), true);
    assert_matches(&pattern, &stopped_task(), true);
    check_events(&pattern, "", r#"{"detail-type": "ECS Service Action", "detail": {"lastStatus": "STOPPED"}}"#);
}

#[test]
fn a_dot_in_a_name_and_a_nested_object_mean_the_same() {
    for pattern in
        [json!({ "a": { "b": { "c": ["x"] } } }), json!({ "a.b": { "c": ["x"] } }), json!({ "a.b.c": ["x"] })]
    {
        check_events(
            &pattern,
            r#"
                {"a": {"b": {"c": "x"}}}
                {"a.b": {"c": "x"}}
                {"a": {"b.c": "x"}}
                {"a.b.c": "x"}
                {"a.b.c": "y", "a": {"b.c": "x"}}
                {"a": [{"b.c": "y"}, {"b": [{"c": "x"}]}]}
                {"a.b": [["x"], {"c": ["y", "x"]}], "a": "x"}
            "#,
            r#"
                {"a.b.c": "y", "a": {"b": "x"}}
                {"a": {"b.cc": "x"}}
                {"aa.b.c": "x"}
                {"a..b.c": "x", "a.b.c.": "x"}
                {"a.b.c": {"": "x"}}
            "#,
        );
    }
    check_events(&json!({ "a.b": [{ "exists": false }] }), r#"{"a.c": 1}"#, r#"{"a.b": 1}"#);
    check_events(&json!({ "a.": ["x"] }), r#"{"a": {"": "x"}}"#, r#"{"a": "x"}"#);
}

#[test]
fn a_field_may_have_a_value_although_another_name_begins_with_its_name_and_a_dot() {
    let labels = json!({ "labels": { "app": ["shop"], "app.kubernetes.io/name": [{ "prefix": "check" }] } });
    check_events(
        &labels,
        r#"
            {"labels": {"app": "shop", "app.kubernetes.io/name": "checkout"}}
            {"labels": [{"app": "shop", "app.kubernetes": {"io/name": "checkout"}}]}
        "#,
        r#"
            {"labels": {"app": "shop"}}
            {"labels": {"app.kubernetes.io/name": "checkout"}}
            {"labels": [{"app": "shop"}, {"app.kubernetes.io/name": "checkout"}]}
        "#,
    );
}

#[test]
fn fields_with_dots_must_match_in_the_same_element_too() {
    let pattern = json!({ "detail.containers.name": ["app"], "detail": { "containers": { "exit.code": [1] } } });
    check_events(
        &pattern,
        r#"
            {"detail": {"containers": [{"name": "app", "exit.code": 1}, {"name": "envoy", "exit.code": 0}]}}
            {"detail.containers": [{"name": "app", "exit": {"code": 1}}]}
        "#,
        r#"
            {"detail": {"containers": [{"name": "app", "exit.code": 0}, {"name": "envoy", "exit.code": 1}]}}
            {"detail": {"containers": [{"name": "app"}, {"exit": {"code": 1}}]}}
        "#,
    );
}

#[test]
fn an_event_with_a_huge_number_of_combinations_of_dots_is_fast() {
    let pattern = json!({ "a": { "b": { "c": ["x"], "d": ["y"] } } });
    let many: Vec<Value> = (0..20_000).map(|n| json!({ "c": n })).collect();
    let other: serde_json::Map<String, Value> = (0..20_000).map(|n| (format!("c.{n}"), json!(n))).collect();
    // The product of the two is 400 million combinations, which would take minutes.
    for event in [
        json!({ "a.b": many, "a": { "b": many } }),
        json!({ "a.b": many, "a": { "b": other } }),
        json!({ "a": [{ "b": many }, { "b": other }], "a.b": other }),
    ] {
        Pattern::compile(&pattern).unwrap().matches(MatchInput::new(&event));
    }
}

#[test]
fn outside_or_a_field_may_have_the_name_of_an_operator() {
    check_events(&json!({ "prefix": { "exists": ["x"] } }), r#"{"prefix": {"exists": "x"}}"#, r#"{"prefix": "x"}"#);
}

#[test]
fn only_an_object_is_an_event() {
    let others = r#"
        []
        [{}]
        "text"
        null
    "#;
    check_events(&json!({ "x": [{ "exists": false }] }), "{}", others);
}

#[test]
fn the_error_of_a_bad_pattern_has_the_path_the_fault_and_what_is_accepted() {
    let table = r#"
        [1, 2]
            an event pattern must be an object of fields, not an array
        "x"
            an event pattern must be an object of fields, not a string
        {}
            an object of a pattern must name at least one field
        {"detail": {}}
            detail: an object of a pattern must name at least one field
        {"detail": {"state": "STOPPED"}}
            detail.state: must be an array of values and operators, or an object of fields, not a string
        {"x": null}
            x: must be an array of values and operators, or an object of fields, not null
        {"detail": {"state": []}}
            detail.state: must hold at least one value or operator
        {"x": ["a", ["b"]]}
            x[1]: must be a string, number, true, false, null or an operator, not an array

        {"x": [{}]}
            x[0]: must have exactly one operator; accepted: OPERATORS
        {"x": [{"prefix": "a", "suffix": "b"}]}
            x[0]: must have exactly one operator; accepted: OPERATORS
        {"detail": {"state": ["a", {"prefx": "b"}]}}
            detail.state[1]: "prefx" is not an operator here; accepted: OPERATORS
        {"x": [{"prefix": 3}]}
            x[0].prefix: must be a string or {"equals-ignore-case": string}, not a number
        {"x": [{"suffix": ["a"]}]}
            x[0].suffix: must be a string or {"equals-ignore-case": string}, not an array
        {"x": [{"prefix": {"wildcard": "a"}}]}
            x[0].prefix: "wildcard" is not an operator here; accepted: equals-ignore-case
        {"x": [{"prefix": {"equals-ignore-case": ["a"]}}]}
            x[0].prefix.equals-ignore-case: must be a string, not an array
        {"x": [{"equals-ignore-case": 5}]}
            x[0].equals-ignore-case: must be a string, not a number
        {"x": [{"exists": "yes"}]}
            x[0].exists: must be true or false, not a string

        {"x": [{"wildcard": ["a"]}]}
            x[0].wildcard: must be a string, not an array
        {"x": [{"wildcard": "a**b"}]}
            x[0].wildcard: must not have two asterisks in a row
        {"x": [{"wildcard": "a\\b"}]}
            x[0].wildcard: a backslash must be followed by * or another backslash
        {"x": [{"wildcard": "a\\"}]}
            x[0].wildcard: a backslash must be followed by * or another backslash

        {"x": [{"cidr": 10}]}
            x[0].cidr: must be a string, not a number
        {"x": [{"cidr": "10.0.0.0"}]}
            x[0].cidr: must be an address block such as 10.0.0.0/8 or 2001:db8::/32
        {"x": [{"cidr": "10.0.0.0/33"}]}
            x[0].cidr: must be an address block such as 10.0.0.0/8 or 2001:db8::/32
        {"x": [{"cidr": "::/129"}]}
            x[0].cidr: must be an address block such as 10.0.0.0/8 or 2001:db8::/32
        {"x": [{"cidr": "example.com/8"}]}
            x[0].cidr: must be an address block such as 10.0.0.0/8 or 2001:db8::/32

        {"x": [{"numeric": 5}]}
            x[0].numeric: must be a comparison such as ["<", 10] or a range such as [">", 0, "<=", 5]
        {"x": [{"numeric": []}]}
            x[0].numeric: must be a comparison such as ["<", 10] or a range such as [">", 0, "<=", 5]
        {"x": [{"numeric": [">", 0, "<"]}]}
            x[0].numeric: must be a comparison such as ["<", 10] or a range such as [">", 0, "<=", 5]
        {"x": [{"numeric": [">", 0, "<", 5, "<", 6]}]}
            x[0].numeric: must be a comparison such as ["<", 10] or a range such as [">", 0, "<=", 5]
        {"detail": {"state": [{"numeric": ["==", 5]}]}}
            detail.state[0].numeric[0]: must be one of =, <, <=, >, >=
        {"x": [{"numeric": ["<", "5"]}]}
            x[0].numeric[1]: must be a number, not a string
        {"x": [{"numeric": ["<", 5.1e9]}]}
            x[0].numeric[1]: must be between -5.0e9 and 5.0e9
        {"x": [{"numeric": ["<", 5, ">", 0]}]}
            x[0].numeric[0]: a range must begin with > or >=
        {"x": [{"numeric": [">", 0, "=", 5]}]}
            x[0].numeric[2]: a range must end with < or <=
        {"x": [{"numeric": [">", 5, "<", 5]}]}
            x[0].numeric: the lower end of a range must be less than the upper

        {"x": [{"anything-but": null}]}
            x[0].anything-but: must be a string, a number, an array of either, or an operator object, not null
        {"x": [{"anything-but": []}]}
            x[0].anything-but: must hold at least one string or number
        {"x": [{"anything-but": ["a", 1]}]}
            x[0].anything-but: must hold only strings or only numbers
        {"x": [{"anything-but": [true]}]}
            x[0].anything-but: must hold only strings or only numbers
        {"x": [{"anything-but": {"cidr": "10.0.0.0/8"}}]}
            x[0].anything-but: "cidr" is not an operator here; accepted: equals-ignore-case, prefix, suffix, wildcard
        {"x": [{"anything-but": {"prefix": ""}}]}
            x[0].anything-but.prefix: must not be empty: nothing would be left to match
        {"x": [{"anything-but": {"suffix": ["a", ""]}}]}
            x[0].anything-but.suffix: must not be empty: nothing would be left to match
        {"x": [{"anything-but": {"suffix": 27}}]}
            x[0].anything-but.suffix: must be a string or an array of strings, not a number
        {"x": [{"anything-but": {"wildcard": []}}]}
            x[0].anything-but.wildcard: must hold at least one string
        {"x": [{"anything-but": {"wildcard": ["a", "b**"]}}]}
            x[0].anything-but.wildcard: must not have two asterisks in a row

        {"$or": {"x": ["a"]}}
            $or: must be an array of at least 2 objects, not an object
        {"detail": {"$or": "x"}}
            detail.$or: must be an array of at least 2 objects, not a string
        {"$or": [{"x": ["a"]}]}
            $or: must be an array of at least 2 objects, not of 1
        {"$or": ["a", "b"]}
            $or[0]: must be an object of fields, not a string
        {"$or": [{"x": ["a"]}, {}]}
            $or[1]: an object of a pattern must name at least one field
        {"x": {"$or": [{"prefix": "a"}, {"suffix": "b"}]}}
            x.$or[0].prefix: an operator cannot be a field inside $or; name the field it is for
        {"$or": [{"x": ["a"]}, {"y": {"numeric": [">", 5]}}]}
            $or[1].y.numeric: an operator cannot be a field inside $or; name the field it is for
        {"x": ["a"], "$or": [{"x": ["b"]}, {"y": ["c"]}]}
            x: is required twice: name a field once, beside or inside $or, with dots or without
        {"x": {"y": ["a"]}, "x.y": ["b"]}
            x.y: is required twice: name a field once, beside or inside $or, with dots or without
    "#;
    let operators = "anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix, wildcard";
    let mut lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
    while let (Some(pattern), Some(message)) = (lines.next(), lines.next()) {
        let json = serde_json::from_str(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let refused = Pattern::compile(&json).map(drop).map_err(|error| error.to_string());
        assert_eq!(refused, Err(message.replace("OPERATORS", operators)), "{pattern}");
    }
}

#[test]
fn depth_and_combinations_are_limited() {
    let within = |pattern: Value| Value::Object([("x".to_owned(), pattern)].into_iter().collect());
    let deep = (0..1000).fold(json!(["a"]), |pattern, _| within(pattern));
    let error = Pattern::compile(&deep).unwrap_err().to_string();
    assert!(error.ends_with("x: a pattern may be at most 32 levels deep"), "{error}");
    let error = Pattern::compile(&json!({ "x.".repeat(1000): ["a"] })).unwrap_err().to_string();
    assert!(error.ends_with("x.: a pattern may be at most 32 levels deep"), "{error}");

    let either = json!({ "$or": [{ "a": ["x"] }, { "b": ["x"] }] });
    let combined = |ors: usize| Value::Object((0..ors).map(|n| (format!("f{n:02}"), either.clone())).collect());
    assert!(Pattern::compile(&combined(9)).is_ok());
    let error = Pattern::compile(&combined(40)).unwrap_err().to_string();
    assert_eq!(error, "f09.$or[1]: the $ors of a pattern may make at most 1000 combinations");
}

/// (a pattern for tags, tags, whether they match)
#[test]
fn tags_are_matched_like_fields() {
    for (pattern, tags, expected) in [
        (json!({ "team": ["search", "browse"] }), vec![("team", "browse")], true),
        (json!({ "team": ["search"] }), vec![("team", "Search")], false),
        (json!({ "team": [{ "equals-ignore-case": "search" }] }), vec![("team", "Search")], true),
        (json!({ "team": [{ "prefix": "sea" }], "stage": ["prod"] }), vec![("team", "search")], false),
        (json!({ "team": [{ "anything-but": "search" }] }), vec![("team", "shop")], true),
        (json!({ "team": [{ "anything-but": "search" }] }), vec![], false),
        (json!({ "team": [{ "exists": false }] }), vec![("stage", "prod")], true),
        (json!({ "team": [{ "exists": false }] }), vec![("team", "")], false),
        (json!({ "team": [{ "exists": true }] }), vec![("team", "")], true),
        (json!({ "aws:cloudformation:stack-name": ["shop"] }), vec![("aws:cloudformation:stack-name", "shop")], true),
        (json!({ "example.com/team": ["search"] }), vec![("example.com/team", "search")], true),
        (json!({ "example.com/team": ["search"] }), vec![("example", "search")], false),
        (json!({ "example": ["x"], "example.com": ["y"] }), vec![("example", "x"), ("example.com", "y")], true),
        (json!({ "$or": [{ "team": ["search"] }, { "owner": ["search"] }] }), vec![("owner", "search")], true),
    ] {
        let listed: Vec<_> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let compiled = Pattern::compile(&json!({ "source": ["aws.ecs"], "service-tags": pattern })).unwrap();
        assert!(compiled.names_tags());
        let event = json!({ "source": "aws.ecs" });
        let Verdict::IfTagged(by_tags) = compiled.evaluate(MatchInput::new(&event)) else {
            panic!("{pattern} needs tags")
        };
        assert_eq!(by_tags.matches(&Tags::of(&json!({ "tags": listed }))), expected, "{pattern} of {tags:?}");
        assert!(matches!(compiled.evaluate(MatchInput::new(&json!({ "source": "aws.rds" }))), Verdict::No));
    }
}

#[test]
fn an_alternative_without_tags_matches_without_tags() {
    let pattern = json!({ "$or": [{ "service-tags": { "team": ["search"] } }, { "source": ["aws.cloudwatch"] }] });
    let pattern = Pattern::compile(&pattern).unwrap();
    assert!(matches!(pattern.evaluate(MatchInput::new(&json!({ "source": "aws.cloudwatch" }))), Verdict::Yes));
    assert!(matches!(pattern.evaluate(MatchInput::new(&json!({ "source": "aws.ecs" }))), Verdict::IfTagged(_)));
    // `service-tags` is special only at the top level. Deeper, or as a part of a name, it is an ordinary field.
    let pattern = Pattern::compile(&json!({ "detail": { "service-tags": ["x"] }, "service-tags-x": ["y"] })).unwrap();
    assert!(!pattern.names_tags());
    assert!(pattern.matches(MatchInput::new(&json!({ "detail": { "service-tags": "x" }, "service-tags-x": "y" }))));
}

#[test]
fn service_tags_must_be_an_object_of_keys() {
    for pattern in [json!({ "service-tags": ["search"] }), json!({ "service-tags": [{ "exists": false }] })] {
        let error = Pattern::compile(&pattern).unwrap_err().to_string();
        assert!(error.contains("service-tags: must be an object of tag keys"), "{error}");
    }
}
