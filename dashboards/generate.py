#!/usr/bin/env python3
"""Writes the Grafana dashboards, and the rules and dashboards as Kubernetes objects.

    generate.py                     writes the committed files
    generate.py --check             checks whether they are up to date
    generate.py --out FOLDER        writes files for other labels, other workers, or another address of the documentation:
        --labels cluster,namespace,job       the labels that identify a deployment (one queue)
        --selector 'namespace="monitoring"'  the workers that the rules cover, as PromQL matchers of these labels
        --docs https://git.example.org/…     the address at which people read this repository

The dashboards are defined in boards.py and the rules in prometheus/rules.yaml. Both are written for the label `job`; for other labels
this program changes every `by (job, …)` and `on (job, …)`. Needs nothing but Python 3.9.
"""

import argparse
import json
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # no __pycache__ among the dashboards
import boards  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RULES = HERE / "prometheus" / "rules.yaml"
RULES_TEST = HERE / "prometheus" / "rules_test.yaml"
KUBERNETES = ROOT / "infra" / "kubernetes" / "components"
DOCS = "https://example.com/ecs-slack-alerts"

# A metric of the worker with its matchers. A recorded series has a colon in its name.
METRIC = re.compile(r"(?<![\w:])((?:ecs_slack_alerts|process)_\w+)(?![\w:])(?:\{([^}]*)\})?")
RECORDED = re.compile(r"(?<![\w:])((?:job\w*|ecs_slack_alerts):[\w:]+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(by|on)( ?)\(([^)]*)\)")
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


# PromQL for other labels, and for the workers that are selected


def grouped(expression, labels):
    """The expression with `labels` in place of `job` in every `by (…)` and `on (…)`."""

    def widen(match):
        names = [label for name in re.split(r",\s*", match[3]) for label in (labels if name == "job" else [name])]
        return f"{match[1]}{match[2]}({', '.join(names)})"

    return GROUPING.sub(widen, expression)


def with_matchers(expression, pattern, matchers):
    """The expression with more matchers in each series that the pattern finds. `matchers` returns them for a series' name."""

    def add(match):
        inside = ", ".join(filter(None, [*matchers(match[1]), match[2]]))
        return f"{match[1]}{{{inside}}}" if inside else match[1]

    return pattern.sub(add, expression)


def chosen(labels):
    return [f'{label}=~"${label}"' for label in labels]


def panel_expression(expression, labels):
    """A panel's expression with matchers for the dashboard's variables: deployments, instances and, if the series has the label, channels."""

    def matchers(name):
        if ":" in name:
            level = name.split(":")[0].split("_")
            return (chosen(labels) if level[0] == "job" else []) + chosen(set(level) & {"instance"}) + chosen(set(level) & {"channel"})
        return chosen(labels) + chosen(["instance"]) + chosen(["channel"] if name.startswith(boards.BY_CHANNEL) else [])

    expression = with_matchers(grouped(expression, labels), RECORDED, matchers)
    return with_matchers(expression, METRIC, matchers)


# Grafana's JSON


def link(title, url, kind="link", **more):
    defaults = {"asDropdown": False, "icon": "doc", "includeVars": False, "keepTime": False, "tags": [], "targetBlank": True, "tooltip": ""}
    return {"title": title, "type": kind, "url": url, **defaults, **more}


def thresholds(steps):
    """The thresholds of a text such as `green 20:yellow 100:red`: green, from 20 on yellow, from 100 on red."""
    base, *rest = steps.split()
    found = [{"color": base, "value": None}]
    for step in rest:
        value, color = step.split(":")
        found.append({"color": color, "value": float(value) if "." in value else int(value)})
    return {"mode": "absolute", "steps": found}


def color_of(name, color):
    return {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}


REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}
SCHEME = {"mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "scale": "exponential", "steps": 64, "fill": "dark-orange", "reverse": False}


def options(panel):
    if panel.kind == "stat":
        mode = "background" if panel.background else "value"
        shown = {"colorMode": mode, "graphMode": "none", "justifyMode": "auto", "textMode": "auto", "wideLayout": True}
        return {**shown, "orientation": "auto", "percentChangeColorMode": "standard", "showPercentChange": False, "reduceOptions": REDUCE}
    if panel.kind == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "state-timeline":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        shown = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "alignValue": "left"}
        return {**shown, "legend": legend, "tooltip": {"mode": "single", "sort": "none"}}
    if panel.kind == "heatmap":
        cells = {"calculate": False, "cellGap": 1, "cellValues": {"unit": "short", "decimals": 0}, "showValue": "never", "color": SCHEME}
        frame = {"exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-09}, "legend": {"show": True}, "rowsFrame": {"layout": "auto"}}
        tooltip = {"mode": "single", "showColorScale": False, "yHistogram": False}
        return {**cells, **frame, "tooltip": tooltip, "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit}}
    return {"showHeader": True, "cellHeight": "sm", "frameIndex": 0}


def field_config(panel):
    defaults = {"unit": panel.unit, "thresholds": thresholds(panel.steps)}
    if panel.kind in ("stat", "state-timeline"):
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        dashed = "dashed" if ":" in panel.steps and panel.dashed else "off"
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        line = {"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 30 if panel.stacked else 10}
        custom = {**line, "showPoints": "auto", "spanNulls": False, "stacking": stacking, "thresholdsStyle": {"mode": dashed}}
        defaults.update({"color": {"mode": "palette-classic"}, "min": 0, "custom": custom})
    custom = {
        "state-timeline": {"fillOpacity": 70},
        "heatmap": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}, "scaleDistribution": {"type": "linear"}},
        "table": {"align": "auto", "cellOptions": {"type": "auto"}},
    }
    if panel.kind in custom:
        defaults["custom"] = custom[panel.kind]
    if panel.texts:
        values = {value: {"text": text, "index": index} for index, (value, text) in enumerate(panel.texts.items())}
        defaults["mappings"] = [{"type": "value", "options": values}]
    for key, value in (("max", panel.max), ("decimals", panel.decimals), ("noValue", panel.no_value)):
        if value is not None:
            defaults[key] = value
    overrides = [color_of(name, color) for name, color in (panel.colors or {}).items()]
    if panel.objective:
        dash = {"fill": "dash", "dash": [10, 10]}
        properties = {"custom.lineStyle": dash, "custom.fillOpacity": 0, "custom.showPoints": "never"}
        overrides.append(color_of(panel.objective, "red"))
        overrides[-1]["properties"] += [{"id": key, "value": value} for key, value in properties.items()]
    return {"defaults": defaults, "overrides": overrides}


def target(index, legend, expression, panel, labels):
    instant = panel.kind in ("stat", "table")
    names = " ".join(f"{{{{{label}}}}}" for label in labels)
    found = {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "editorMode": "code", "expr": panel_expression(expression, labels)}
    found.update({"instant": instant, "range": not instant, "legendFormat": legend.replace("{{job}}", names)})
    if panel.kind in ("table", "heatmap"):
        found["format"] = panel.kind
    return found


def panel_json(panel, labels, place, number):
    found = {"id": number, "type": panel.kind, "title": panel.title, "description": panel.about, "gridPos": place, "datasource": DATASOURCE}
    found["targets"] = [target(index, *query, panel, labels) for index, query in enumerate(panel.queries.items())]
    found.update({"fieldConfig": field_config(panel), "options": options(panel)})
    found["links"] = [link(f"What to do: {alert}", f"${{docs}}#{alert.lower()}") for alert in panel.alerts]
    if panel.columns:
        columns = [name for column in panel.columns for name in (labels if column == "job" else [column])]
        order = {name: index for index, name in enumerate(columns)}
        shown = {"indexByName": order, "excludeByName": {"Time": True}, "renameByName": panel.names}
        found["transformations"] = [{"id": "organize", "options": shown}]
    return found


def laid_out(rows, labels):
    """The panels with their places: each row from left to right, and on the next line if the line is full."""
    found, top = [], 0
    for title, row in rows:
        if title:
            place = {"x": 0, "y": top, "w": 24, "h": 1}
            found.append({"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []})
            top += 1
        left = height = 0
        for panel in row:
            if left + panel.width > 24:
                left, top, height = 0, top + height, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            found.append(panel_json(panel, labels, place, len(found) + 1))
            left, height = left + panel.width, max(height, panel.height)
        top += height
    return found


def variable(name, label, kind, query, **more):
    return {"name": name, "label": label, "type": kind, "query": query, **more}


def label_variable(name, about, series, before):
    """A variable that lists a label's values, among the series that the variables before it select."""
    query = f"label_values({with_matchers(series, METRIC, lambda _: chosen(before))}, {name})"
    asked = {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
    everything = {"multi": True, "includeAll": True, "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}
    more = {"description": about, "datasource": DATASOURCE, "refresh": 2, "sort": 1, "hide": 0, "regex": "", "options": [], **everything}
    return variable(name, name.capitalize(), "query", asked, **more)


def variables(labels, docs):
    info = "ecs_slack_alerts_build_info"
    found = [variable("datasource", "Data source", "datasource", "prometheus", regex="", refresh=1, hide=0, multi=False, includeAll=False, options=[])]
    for index, label in enumerate(labels):
        about = "One deployment: one queue, however many replicas." if label == labels[-1] else f"The label {label} of the deployments."
        found.append(label_variable(label, about, info, labels[:index]))
    found.append(label_variable("instance", "One instance is one replica.", info, labels))
    found.append(label_variable("channel", "A Slack channel of the configuration.", "ecs_slack_alerts_channel_blocked", labels))
    runbook = f"{docs}/docs/operations.md"
    place = {"skipUrlSync": True, "options": [], "current": {"text": runbook, "value": runbook}}
    found.append(variable("docs", "Runbook", "constant", runbook, description="Where docs/operations.md of your copy can be read.", hide=2, **place))
    return found


def dashboard(board, labels, docs):
    others = link("ecs-slack-alerts", "", "dashboards", tags=["ecs-slack-alerts"], icon="external link", includeVars=True, keepTime=True, targetBlank=False)
    runbook = link("Runbook", "${docs}", tooltip="What each alert means and what to do")
    start = {"refId": "Anno", "datasource": DATASOURCE, "expr": panel_expression("process_start_time_seconds", labels) + " * 1000", "interval": "60s"}
    shown = {"titleFormat": "Worker started", "textFormat": " ".join(f"{{{{{label}}}}}" for label in [*labels, "instance"]), "useValueForTime": True}
    started = {"name": "Worker started", "datasource": DATASOURCE, "enable": True, "hide": False, "iconColor": "blue", "target": start, **shown}
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["ecs-slack-alerts", board.tag],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": board.since, "to": "now"},
        "refresh": "1m",
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "links": [others, runbook],
        "annotations": {"list": [started]},
        "templating": {"list": variables(labels, docs)},
        "panels": laid_out(board.rows, labels),
    }


def as_json(value):
    """JSON with one line for each key, panel and variable, so that a change of one of these changes one line."""

    def line(key, inside):
        if key == "panels":
            return '"panels": [\n' + ",\n".join(f"    {json.dumps(panel, ensure_ascii=False)}" for panel in inside) + "\n  ]"
        if key == "templating":
            listed = ",\n".join(f"    {json.dumps(one, ensure_ascii=False)}" for one in inside["list"])
            return '"templating": {"list": [\n' + listed + "\n  ]}"
        return f"{json.dumps(key)}: {json.dumps(inside, ensure_ascii=False)}"

    return "{\n" + ",\n".join(f"  {line(key, inside)}" for key, inside in value.items()) + "\n}\n"


# The rules


def rules(labels, selector, docs):
    """The text of rules.yaml with its expressions for these labels and workers."""
    found, block = [], None
    for line in RULES.read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        starts = re.match(r"\s*expr: ", line)
        if starts or block is not None:
            line = with_matchers(grouped(line, labels), METRIC, lambda _: [selector])
            line = with_matchers(line, RECORDED, lambda name: [selector] if name.startswith("job") else [])
        if starts and line.rstrip().endswith("|"):
            block = indent
        found.append(line.replace(DOCS, docs))
    return "\n".join(found) + "\n"


def rules_test(labels, docs):
    """The text of rules_test.yaml with these labels in every series and alert. The value of each added label is the label's name."""
    more = [label for label in labels if label != "job"]
    series = "".join(f'{label}="{label}", ' for label in more)
    alert = "".join(f", {label}: {label}" for label in more)
    text = re.sub(r'\{job="', f'{{{series}job="', RULES_TEST.read_text())
    text = re.sub(r"(exp_labels: \{[^}]*\bjob: \w+)", rf"\1{alert}", text)
    return grouped(text, labels).replace(DOCS, docs)


# Kubernetes


GENERATED = "# Written by dashboards/generate.py from {source}. Change it there.\n"


def indented(text, spaces):
    return "".join(" " * spaces + line if line.strip() else line for line in text.splitlines(keepends=True))


def prometheus_rule(text):
    groups = text[text.index("groups:\n") :]
    head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: ecs-slack-alerts\nspec:\n"
    return GENERATED.format(source="dashboards/prometheus/rules.yaml") + head + indented(groups, 2)


def config_map(files):
    head = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ecs-slack-alerts-dashboards\n"
    # The sidecar of Grafana's Helm chart finds dashboards by this label.
    head += '  labels:\n    grafana_dashboard: "1"\ndata:\n'
    data = "".join(f"  {name}: |\n{indented(text, 4)}" for name, text in files.items())
    return GENERATED.format(source="dashboards/boards.py") + head + data


# Files


def dashboard_files(labels, docs):
    return {f"{board.tag}.json": as_json(dashboard(board, labels, docs)) for board in boards.BOARDS}


def committed():
    """{path: text}. On Kubernetes the Prometheus Operator adds the label `namespace` to each series, so there it identifies a deployment too."""
    found = {HERE / name: text for name, text in dashboard_files(["job"], DOCS).items()}
    found[KUBERNETES / "prometheus-rule" / "prometheus-rule.yaml"] = prometheus_rule(rules(["namespace", "job"], "", DOCS))
    found[KUBERNETES / "grafana" / "config-map.yaml"] = config_map(dashboard_files(["namespace", "job"], DOCS))
    return found


def chosen_files(folder, labels, selector, docs):
    files = dashboard_files(labels, docs)
    text = rules(labels, selector, docs)
    files = {**files, "config-map.yaml": config_map(files), "prometheus-rule.yaml": prometheus_rule(text), "rules.yaml": text}
    if not selector:
        files["rules_test.yaml"] = rules_test(labels, docs)
    return {folder / name: text for name, text in files.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed file is out of date")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the files into this folder")
    parser.add_argument("--labels", default="job", help="separated by commas, `job` among them (default: job)")
    parser.add_argument("--selector", default="", help="PromQL matchers (default: none)")
    parser.add_argument("--docs", default=DOCS, metavar="URL", help=f"(default: {DOCS})")
    arguments = parser.parse_args()
    labels = arguments.labels.split(",")
    if "job" not in labels or not all(re.fullmatch(r"[a-zA-Z_]\w*", label) for label in labels):
        parser.error("--labels: names of labels, separated by commas, `job` among them")
    if not set(re.findall(r"(\w+)\s*[=!]", arguments.selector)) <= set(labels):
        parser.error("--selector: use only labels of --labels, because the recorded series have no others")
    changed = (arguments.labels, arguments.selector, arguments.docs) != ("job", "", DOCS)
    if changed and not arguments.out:
        parser.error("--labels, --selector and --docs need --out: the committed files are for `job` alone")
    files = chosen_files(arguments.out, labels, arguments.selector, arguments.docs.rstrip("/")) if arguments.out else committed()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if arguments.check:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        sys.exit(f"out of date: {names}; run dashboards/generate.py" if stale else None)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])


if __name__ == "__main__":
    main()
