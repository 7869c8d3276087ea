#!/usr/bin/env python3
"""Runs every command in the `sh` blocks of docs/operations.md, from the section "Alerts" to the end of "The dead-letter queue".

    check.py WORKER [FILE]    WORKER is the built worker, FILE replaces the document; the variable AWSCLI names the AWS CLI

The AWS stand-in answers. If it does not serve a command, the tool itself checks the command's arguments, so that a typo is found there too.
Prints each command that fails, with its output, and then exits with 1.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "operations.md"
NAME = "ecs-slack-alerts"
ACCOUNT = "123456789012"

# Only version 2 of the AWS CLI has `logs tail`, so this script checks its options. It prints a line that the runbook searches for.
AWS = r"""#!/bin/bash
case "$1 $2" in
'logs tail')
    [[ "$3" == /ecs/* ]] || { echo "no log group: $3" >>"$FAILURES"; exit 252; }
    shift 3
    while [ $# -gt 0 ]; do
        case "$1 $2" in
        '--since '[0-9]*[mhd] | '--format short') shift 2 ;;
        *) echo "aws logs tail does not know $1 $2" >>"$FAILURES"; exit 252 ;;
        esac
    done
    echo '2026-01-01T00:00:00 {"level":"WARN","message":"heartbeat failed"}'
    exit ;;
esac
# Version 1 does not read the endpoint for SQS from the environment.
said=$("$AWSCLI" --endpoint-url "$AWS_ENDPOINT_URL" "$@" 2>&1 >"$OUT.$$")
code=$?
cat "$OUT.$$"
[ $code = 0 ] || echo "aws $* ends with $code: $(tail -n 1 <<<"$said")" >>"$FAILURES"
exit $code
"""

# There is no cluster. With --help, kubectl still checks all flags. `kubectl logs deploy/NAME` shows only one of several workers. With a
# selector, the default is ten lines of each, and the command ends at the first pod whose log cannot be read.
KUBECTL = r"""#!/bin/bash
wrong() { echo "kubectl $*" >>"$FAILURES"; }
case " $* " in
*' logs '*'--selector='*)
    for flag in --tail=-1 --prefix --ignore-errors --container=worker; do [[ " $* " == *" $flag "* ]] || wrong "$* lacks $flag"; done ;;
*' logs '* | *' describe pod '*) wrong "$* is about one pod" ;;
esac
flags=()
for argument; do
    [ "$argument" = -- ] && break
    flags+=("$argument")
done
said=$("$KUBECTL" "${flags[@]}" --help 2>&1 >/dev/null) || echo "kubectl $*: $(head -n 1 <<<"$said")" >>"$FAILURES"
echo pod-1
"""

# The stand-in lacks SQS's message move tasks. With --help, the worker only checks its arguments.
WORKER = r"""#!/bin/bash
case "$*" in
'dlq redrive' | 'dlq redrive -'*) [[ "$*" == *undelivered* ]] || set -- "$@" --help ;;
'check --live') set -- check ;;
esac
said=$("$WORKER" "$@" 2>&1)
code=$?
echo "$said"
[ $code = 0 ] || echo "ecs-slack-alerts $* ends with $code: $said" >>"$FAILURES"
"""


def blocks():
    """The blocks of commands in the runbook's part of the document: [(section, [command])]."""
    found, section, lines, within = [], None, None, False
    for line in RUNBOOK.read_text().splitlines():
        if lines is None and line.startswith("#"):
            section = line.strip("# ")
            within = section == "Alerts" or within and section != "Sizing"
        elif within and lines is None and line.strip() == "```sh":
            lines = []
        elif lines is not None and line.strip() == "```":
            found.append((section, lines))
            lines = None
        elif lines is not None and line.strip():
            lines.append(line.strip())
    return found


def main():
    worker = str(Path(sys.argv[1]).resolve())
    if not shutil.which("kubectl"):
        print("not checked: the runbook's kubectl commands (kubectl is not installed)")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, script in [("aws", AWS), ("ecs-slack-alerts", WORKER)] + [("kubectl", KUBECTL)] * bool(shutil.which("kubectl")):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        stand_in = subprocess.Popen(
            [ROOT / ".venv/bin/python", ROOT / "tests/lab/aws_stand_in.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "LOG_LEVEL": "ERROR"},
        )
        try:
            return walk(folder, worker, f"http://127.0.0.1:{stand_in.stdout.readline().strip()}")
        finally:
            stand_in.stdin.close()
            stand_in.wait()


def walk(folder, worker, endpoint):
    failures = folder / "failures"
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "AWSCLI": str(Path(os.environ["AWSCLI"]).resolve()),
        "KUBECTL": shutil.which("kubectl") or "", "WORKER": worker, "FAILURES": str(failures), "OUT": str(folder / "out"),
        "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/x",
    }

    def run(script):
        failures.write_text("")
        done = subprocess.run(["bash", "-uc", script], env=environment, capture_output=True, text=True, timeout=60)
        # The exit code is not checked, because a grep that finds nothing is no failure.
        wrong = failures.read_text() or (done.stderr if "rror" in done.stderr or "not found" in done.stderr else "")
        return done.stdout.strip(), wrong.strip()

    def aws(*arguments):
        done = subprocess.run([environment["AWSCLI"], "--endpoint-url", endpoint, *arguments], env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"aws {' '.join(arguments)}: {done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    # The resources of the Terraform module. The service was rolled back, so its task definition is not the newest one.
    urls = {name: aws("sqs", "create-queue", "--queue-name", NAME + name)["QueueUrl"] for name in ["", "-dlq", "-undelivered"]}
    redrive = json.dumps({"deadLetterTargetArn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{NAME}-dlq", "maxReceiveCount": "10"})
    aws("sqs", "set-queue-attributes", "--queue-url", urls[""], "--attributes", json.dumps({"RedrivePolicy": redrive, "Policy": "{}"}))
    event = json.loads((ROOT / "tests/fixtures/service_task_start_impaired.json").read_text())
    for number in range(3):
        event["id"] = f"undelivered-{number}"
        aws("sqs", "send-message", "--queue-url", urls["-undelivered"], "--message-body", json.dumps(event))
    aws("events", "put-rule", "--name", f"{NAME}-recoveries", "--event-pattern", '{"source": ["aws.ecs"]}')
    aws("events", "put-targets", "--rule", f"{NAME}-recoveries", "--targets", f"Id=queue,Arn=arn:aws:sqs:eu-west-1:{ACCOUNT}:{NAME}")
    aws("dynamodb", "create-table", "--table-name", f"{NAME}-incidents", "--attribute-definitions", "AttributeName=pk,AttributeType=S",
        "--key-schema", "AttributeName=pk,KeyType=HASH", "--billing-mode", "PAY_PER_REQUEST")
    aws("ecs", "create-cluster", "--cluster-name", "shared")
    for image in ["good", "bad"]:
        aws("ecs", "register-task-definition", "--family", NAME, "--container-definitions", json.dumps([{"name": "worker", "image": image}]))
    aws("ecs", "create-service", "--cluster", "shared", "--service-name", NAME, "--task-definition", f"{NAME}:1", "--desired-count", "0",
        "--launch-type", "FARGATE", "--network-configuration", "awsvpcConfiguration={subnets=[subnet-1],securityGroups=[sg-1]}")
    network = "awsvpcConfiguration={subnets=[subnet-1],securityGroups=[sg-1]}"
    task = aws("ecs", "run-task", "--cluster", "shared", "--task-definition", f"{NAME}:1", "--launch-type", "FARGATE",
               "--network-configuration", network)["tasks"][0]["taskArn"]
    aws("ecs", "stop-task", "--cluster", "shared", "--task", task)
    environment["QUEUE_URL"] = urls[""]

    found = blocks()
    hand = [lines for section, lines in found if section == "At hand"]
    common, on_ecs, on_kubernetes = ("\n".join(lines) for lines in hand)
    common += "\nCLUSTER=shared"
    # Each command once, in the section in which it appears first.
    first = {}
    for section, lines in found:
        for line in lines if section != "At hand" else []:
            first.setdefault(line, section)
    commands = [(section, line) for line, section in first.items()]
    wrong = []
    for section, command in commands:
        is_kubernetes = command.startswith(("kube ", "last"))
        if is_kubernetes and not environment["KUBECTL"]:
            continue
        _, fault = run("\n".join([common, on_kubernetes if is_kubernetes else on_ecs, command]))
        wrong += [f"{section}: {command}\n    {fault}"] if fault else []
        if command.startswith("task "):
            # The command again, run here instead of in an ECS task.
            _, fault = run("\n".join([common, on_ecs, 'task() { ecs-slack-alerts "$@"; }', command]))
            wrong += [f"{section}: {command}\n    {fault}"] if fault else []
    if environment["KUBECTL"]:
        for command in ["logs 5m", "task check --live", "pod", "last"]:
            _, fault = run("\n".join([common, on_kubernetes, command]))
            wrong += [f"At hand, on Kubernetes: {command}\n    {fault}"] if fault else []

    # Checks the effects of the commands.
    started, _ = run("\n".join([common, on_ecs, "task check --live"]))
    ran = aws("ecs", "describe-tasks", "--cluster", "shared", "--tasks", started)["tasks"]
    if [task["taskDefinitionArn"].rsplit("/")[-1] for task in ran] != [f"{NAME}:1"]:
        wrong.append(f"task does not use the service's task definition, but that of {started}: {ran}")
    for queue, wanted in [("-undelivered", "0"), ("", "3")]:
        attributes = aws("sqs", "get-queue-attributes", "--queue-url", urls[queue], "--attribute-names", "All")["Attributes"]
        if attributes["ApproximateNumberOfMessages"] != wanted:
            wrong.append(f"after the walk {NAME}{queue} holds {attributes['ApproximateNumberOfMessages']} messages, not {wanted}")
    if len(commands) < 35:
        wrong.append(f"only {len(commands)} commands were found in {RUNBOOK}")
    print(*wrong, sep="\n")
    print(f"{len(commands)} commands of the runbook, {len(wrong)} faults")
    return bool(wrong)


sys.exit(main())
