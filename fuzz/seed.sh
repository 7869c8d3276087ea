#!/usr/bin/env bash
# seed.sh TARGET: makes the seeds of a target from the tests and the documentation: inputs in fuzz/seeds/TARGET, and the words that the
# program knows in fuzz/seeds/TARGET.dict. A NUL separates the parts of an input.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
seeds=fuzz/seeds/$target
rm -rf "$seeds" && mkdir -p "$seeds"

# dictionary FILE…: writes the string literals in source files, one a line, quoted as libFuzzer requires.
dictionary() {
    grep -ohE '"[A-Za-z$][A-Za-z0-9 _:-]{2,40}"' "$@" | sort -u >"$seeds.dict"
}

case $target in
message)
    cp tests/fixtures/*.json "$seeds"
    for folder in tests/answers/*/; do
        # The event, then ECS's answers about its service.
        {
            cat "$folder"event.json && printf '\1'
            for file in "$folder"describe-*.json; do cat "$file" && printf '\0'; done
        } >"$seeds/$(basename "$folder")"
    done
    # Several events in one message, and valid JSON that does not fit the usual types.
    printf '{"Records":[{"messageId":"1","body":"{\\"text\\":\\"a\\"}"},{"Sns":{"Message":"b"}},{"body":"c"}]}' >"$seeds/records"
    printf '{"detail-type":"x","detail":{"a":1e999,"b":-7%0400d,"c":"\\ud800","d":%s%s}}' 7 "$(printf '[%.0s' {1..200})" "$(printf ']%.0s' {1..200})" >"$seeds/degraded"
    dictionary $(find src/event* src/alert* src/cause* src/diagnosis* -name '*.rs')
    ;;
pattern)
    tests=src/route/pattern/tests.rs
    number=0
    # add PATTERN EVENT
    add() { printf '%s\0%s' "$1" "$2" >"$seeds/$((number += 1))"; }
    # From tables with "values | matching values of a field | other values", and from patterns that stand alone.
    while IFS= read -r line; do
        values=${line%% | *} others=${line#* | }
        add "{\"x\":$values}" "{\"x\":${others%% | *},\"y\":${others#* | }}"
    done < <(sed -nE 's/^ +(\[.*\] \| \[.*\] \| \[.*\])$/\1/p' $tests)
    while IFS= read -r line; do
        for event in service_task_start_impaired task_stopped_exit_code; do add "$line" "$(tr -d '\n' <tests/fixtures/$event.json)"; done
    done < <(sed -nE 's/^ +(\{".*\})$/\1/p' $tests)
    add '{"a.b":{"c":["x"]},"a":{"d":[{"exists":false}]}}' '{"a":[{"b.c":"x"},{"d":1}],"a.b":{"c":["y"]}}'
    dictionary src/route/pattern/compile.rs
    ;;
config)
    number=0
    # add FILE [VARIABLE=VALUE…]
    add() { printf '%s\0' "$@" >"$seeds/$((number += 1))"; }
    while IFS= read -rd '' block; do add "$block"; done < <(awk '/^```toml/ {on = 1; next} /^```/ && on {on = 0; printf "%c", 0} on' README.md docs/*.md)
    add "$(cat infra/kubernetes/example/config.toml)"
    add '' QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/1/q SLACK_WEBHOOK_SECRET_ID=hook
    add '' QUEUE_URL=@@ SLACK_WEBHOOK_URL=@@ SLACK_ALLOWED_HOSTS=localhost,@@ ACCOUNT_NAME=a LISTEN_ADDR=[::]:1 SHUTDOWN_GRACE=5s LOG_FORMAT=text
    for variable in QUEUE_URL SLACK_WEBHOOK_SECRET_ID SLACK_ALLOWED_HOSTS ACCOUNT_NAME LISTEN_ADDR SHUTDOWN_GRACE LOG_FORMAT; do add '' $variable=@@; done
    add $'[queue]\nurl = "https://a/b"\nvisibility_timeout = "30s"\nmax_in_flight = 10\npollers = 2\n[worker]\nshutdown_grace = "1m"\n[log]\nformat = "json"\n[server]\nlisten = "127.0.0.1:1"'
    add $'[diagnose]\nenabled = true\ntimeout = "1s"\nlog_lines = 10\n[diagnose.crash_loop]\nenabled = false\nstops = 3\nwithin = "5m"'
    add $'[[channel]]\nname = "a"\nwebhook_url = "@@"\n[[channel]]\nname = "@@"\nwebhook_secret_id = "@@"\n[[route]]\nchannel = "a"\ncontinue = true\npattern = \'{"detail":{"reason":[null, "@@"]}}\''
    dictionary src/config.rs src/config/reader.rs
    ;;
*)
    echo "$0: there is no target $target" >&2
    exit 2
    ;;
esac
