#!/usr/bin/env python3
"""Checks the dashboards and the rules against the metrics that the worker exports.

    check.py static --metrics FILE      without Prometheus; FILE holds an answer of /metrics
    check.py live --worker URL          starts a Prometheus that scrapes the worker, which must post alerts and get canaries
    check.py live --prometheus URL      uses a running Prometheus that scrapes a worker and has loaded the rules

static checks that every dashboard is complete, that every name in an expression is exported or recorded, and that every alert has a
severity, a description, a section in the runbook and tests. live checks that every expression parses and returns data, which needs
real samples. Needs nothing but Python 3.9; `live --worker` needs `prometheus` on the PATH. Prints each fault and exits with 1.
"""

import argparse
import contextlib
import json
import math
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = HERE / "prometheus" / "rules.yaml"
RULES_TEST = HERE / "prometheus" / "rules_test.yaml"
RUNBOOK = HERE.parent / "docs" / "operations.md"

SEVERITIES = {"critical", "warning"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The values that replace Grafana's variables here. Any other variable in an expression is an error.
VARIABLES = {"__rate_interval": "1m", "__range": "1h", "job": ".*", "instance": ".*", "channel": ".*"}


# The dashboards and the rules


def dashboards():
    """[(file name, dashboard)]"""
    return [(path.name, json.loads(path.read_text())) for path in sorted(HERE.glob("*.json"))]


def panels(dashboard):
    """Every panel that is not a row."""
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


def expressions():
    """[(place, expression)] of every dashboard, as written there."""
    found = []
    for name, dashboard in dashboards():
        for panel in panels(dashboard):
            found += [(f"{name}: {panel['title']}: {target['refId']}", target["expr"]) for target in panel["targets"]]
        found += [(f"{name}: annotation {a['name']}", a["target"]["expr"]) for a in dashboard["annotations"]["list"]]
    return found


def variable_queries():
    """[(place, selector, label)] of every variable that lists a label's values."""
    found = []
    for name, dashboard in dashboards():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
                found.append((f"{name}: variable {variable['name']}", selector, label))
    return found


def rules():
    """The rules as [{"record" or "alert": name, "expr": ..., and its other keys}].

    This depends on the layout of rules.yaml. promtool checks that the file is valid.
    """
    found = []
    block = None  # (indentation of its key, key)
    for line in RULES.read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if block and line.strip() and indent > block[0]:
            found[-1][block[1]] += line.strip() + " "
            continue
        block = None
        key = re.fullmatch(r"\s*(- )?(\w+): *(.*)", line)
        if not key:
            continue
        if key[1] and key[2] in ("record", "alert"):
            found.append({})
        if found:
            found[-1][key[2]] = key[3].strip("\"'")
            if key[3] == "|":
                found[-1][key[2]] = ""
                block = (indent, key[2])
    return found


# The part of PromQL that is needed to find the series in an expression

STRING = r'"(?:[^"\\]|\\.)*"'
SELECTOR = re.compile(
    r"(?P<skip>" + STRING + r"|\[[^]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\b\d[\w.]*)"
    r"|(?P<name>[a-zA-Z_:][\w:]*)\s*(?P<call>\()?(?P<matchers>\{(?:[^\"}]|" + STRING + r")*\})?"
)
KEYWORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}
AGGREGATIONS = {"sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values"}


def selectors(expression):
    """[(metric name, selector)]: the series that an expression reads."""
    found = []
    for match in SELECTOR.finditer(expression):
        name = match["name"]
        if name and not match["call"] and name not in KEYWORDS | AGGREGATIONS:
            found.append((name, name + (match["matchers"] or "")))
    return found


def substitute(expression):
    """The expression with Grafana's variables filled in."""
    return re.sub(r"\$\{?(\w+)\}?", lambda variable: VARIABLES.get(variable[1], variable[0]), expression)


# static


def check_dashboards():
    uids = {}
    for name, dashboard in dashboards():
        if uids.setdefault(dashboard.get("uid"), name) != name or not dashboard.get("uid"):
            yield f"{name}: its uid is missing or another dashboard's"
        if dashboard["schemaVersion"] < 39 or not dashboard["tags"] or "id" in dashboard:
            yield f"{name}: needs schemaVersion 39 or later, tags, and no id"
        ids = [panel["id"] for panel in dashboard["panels"]]
        if len(ids) != len(set(ids)):
            yield f"{name}: two panels have the same id"
        variables = {variable["name"] for variable in dashboard["templating"]["list"]}
        for wanted in {"datasource", "job", "instance", "channel"} - variables:
            yield f"{name}: has no variable {wanted}"
        uid_places = re.findall(r'"uid": "([^"]*)"', json.dumps(dashboard))
        for uid in set(uid_places) - {DATASOURCE["uid"], dashboard["uid"]}:
            yield f"{name}: the data source {uid} is hard-coded"
        for panel in panels(dashboard):
            where = f"{name}: {panel['title']}"
            if not panel.get("description"):
                yield f"{where}: no description"
            defaults = panel["fieldConfig"]["defaults"]
            if not defaults.get("unit"):
                yield f"{where}: no unit"
            if not defaults.get("thresholds", {}).get("steps"):
                yield f"{where}: no thresholds"
            if not panel["targets"] or any(place["datasource"] != DATASOURCE for place in [panel, *panel["targets"]]):
                yield f"{where}: does not use the data source variable"


def check_names(exported):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    places = expressions() + [(f"{RULES.name}: {rule.get('alert') or rule['record']}", rule["expr"]) for rule in rules()]
    places += [(where, selector) for where, selector, _ in variable_queries()]
    for where, expression in places:
        filled = substitute(expression)
        if "$" in filled:
            yield f"{where}: unknown variable in {expression}"
        names = {name for name, _ in selectors(filled)}
        if not names and "vector(" not in expression:
            yield f"{where}: reads no metric"
        for unknown in sorted(names - exported - recorded):
            yield f"{where}: {unknown} is neither exported nor recorded"


def check_alerts():
    headings = re.findall(r"^#+ +(.*?) *$", RUNBOOK.read_text(), re.MULTILINE) if RUNBOOK.exists() else None
    # As GitHub makes them: lower case, no punctuation, hyphens for spaces.
    anchors = headings and {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    tested = re.findall(r"alertname: (\w+),?\s+exp_alerts:([^\n]*)", RULES_TEST.read_text())
    firing = {name for name, expected in tested if "[]" not in expected}
    silent = {name for name, expected in tested if "[]" in expected}
    alerts = [rule for rule in rules() if "alert" in rule]
    linked = {anchor.lower() for anchor in re.findall(r"\$\{docs\}#(\w+)", json.dumps(dashboards()))}
    for anchor in sorted(linked - {rule["alert"].lower() for rule in alerts}):
        yield f"a panel links to #{anchor}, which is no alert"
    for rule in alerts:
        name, anchor = rule["alert"], rule["alert"].lower()
        if rule.get("severity") not in SEVERITIES:
            yield f"{name}: its severity is not one of {', '.join(sorted(SEVERITIES))}"
        for key in ("summary", "description"):
            if not rule.get(key):
                yield f"{name}: no {key}"
        if not rule.get("runbook_url", "").endswith(f"docs/operations.md#{anchor}"):
            yield f"{name}: its runbook_url does not end in docs/operations.md#{anchor}"
        if anchors is not None and anchor not in anchors:
            yield f"{name}: docs/operations.md has no section #{anchor}"
        if name not in firing:
            yield f"{name}: no test in which it fires"
        if name not in silent:
            yield f"{name}: no test in which it does not fire"


def static(arguments):
    names = re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", Path(arguments.metrics).read_text(), re.MULTILINE)
    problems = [*check_dashboards(), *check_names(set(names)), *check_alerts()]
    return problems, f"{len(dashboards())} dashboards and {len(rules())} rules name only what is exported"


# live


def api(url, path, **parameters):
    """The data of an answer of Prometheus' HTTP API, or its error as a ValueError."""
    request = f"{url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    # Prometheus is on this machine or in this network, so the proxy variables do not apply.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from None


def has_data(url, expression):
    """Whether the expression returns a number now. NaN, as from 0 / 0, does not count."""
    result = api(url, "query", query=expression)
    samples = [result["result"]] if result["resultType"] == "scalar" else [s["value"] for s in result["result"]]
    return any(not math.isnan(float(value)) for _, value in samples)


def questions():
    """[(place, function)]: the function gets Prometheus' URL, and returns a fault or None."""

    def data(expression):
        return lambda url: None if has_data(url, expression) else f"no data: {expression}"

    def silent_alert(expression):
        # The alert need not fire, but the series that it reads must exist.
        def ask(url):
            api(url, "query", query=expression)
            missing = [selector for _, selector in selectors(expression) if not has_data(url, selector)]
            return f"no data: {', '.join(missing)}" if missing else None

        return ask

    def label_values(selector, label):
        return lambda url: None if api(url, f"label/{label}/values", **{"match[]": selector}) else f"no {label} of {selector}"

    def loaded(rule):
        def ask(url):
            groups = api(url, "rules")["groups"]
            found = [r for group in groups for r in group["rules"] if r["name"] == rule]
            bad = [r["lastError"] for r in found if r["health"] == "err"]
            return bad[0] if bad else None if found else "not loaded"

        return ask

    asked = [(where, data(substitute(expression))) for where, expression in expressions()]
    asked += [(where, label_values(substitute(selector), label)) for where, selector, label in variable_queries()]
    for rule in rules():
        name = rule.get("alert") or rule["record"]
        ask = silent_alert if "alert" in rule else data
        asked += [(f"{RULES.name}: {name}", loaded(name)), (f"{RULES.name}: {name}", ask(rule["expr"]))]
    return asked


def answer(url, ask):
    try:
        return ask(url)
    except (OSError, ValueError) as error:
        return str(error)


@contextlib.contextmanager
def prometheus(worker):
    """The URL of a Prometheus that scrapes the worker every second and has loaded the rules. It is stopped at the end of the block."""
    parts = urllib.parse.urlsplit(worker)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as scratch:
        configuration = {  # JSON is YAML
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {
                    "job_name": "ecs-slack-alerts",
                    "scheme": parts.scheme,
                    "metrics_path": parts.path if parts.path not in ("", "/") else "/metrics",
                    "static_configs": [{"targets": [parts.netloc]}],
                }
            ],
        }
        file = Path(scratch, "prometheus.yml")
        file.write_text(json.dumps(configuration))
        command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={scratch}/data", "--log.level=error"]
        try:
            process = subprocess.Popen([*command, f"--web.listen-address={address}"])
        except FileNotFoundError:
            sys.exit("there is no `prometheus` on the PATH; Debian's package of that name will do")
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()


def ask_all(url, wait):
    """The faults that are left when everything has been answered, or after `wait` seconds."""
    deadline = time.monotonic() + wait
    open_questions = questions()
    while True:
        answers = [(where, ask, answer(url, ask)) for where, ask in open_questions]
        open_questions = [(where, ask) for where, ask, wrong in answers if wrong]
        if not open_questions or time.monotonic() > deadline:
            return [f"{where}: {wrong}" for where, _, wrong in answers if wrong]
        time.sleep(2)


def live(arguments):
    if arguments.worker:
        with prometheus(arguments.worker) as url:
            problems = ask_all(url, arguments.wait)
    else:
        problems = ask_all(arguments.prometheus, arguments.wait)
    return problems, f"{len(questions())} expressions, variables and rules answered with data"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("static", help="without Prometheus")
    command.add_argument("--metrics", required=True, metavar="FILE", help="an answer of /metrics")
    command.set_defaults(run=static)
    command = commands.add_parser("live", help="with a real Prometheus")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--worker", metavar="URL", help="start a Prometheus that scrapes this worker")
    where.add_argument("--prometheus", metavar="URL", help="use this Prometheus, which scrapes a worker and has loaded the rules")
    command.add_argument("--wait", type=float, default=120, metavar="SECONDS", help="how long to wait for data (default: 120)")
    command.set_defaults(run=live)
    arguments = parser.parse_args()
    # So that SIGTERM stops the Prometheus too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    problems, success = arguments.run(arguments)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(success)


if __name__ == "__main__":
    main()
