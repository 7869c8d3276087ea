"""The two Grafana dashboards. `generate.py` makes Grafana's JSON from them.

An expression names a series without the matchers of the variables (deployment, instance, channel): the generator adds them. `{{job}}` in a
legend and `job` in `by (…)` stand for all labels of a deployment. `steps` are thresholds: a colour, then others from a value on.
"""

from dataclasses import dataclass, field
from typing import Optional

PREFIX = "ecs_slack_alerts_"
# The metrics that have the label `channel`.
BY_CHANNEL = tuple(
    PREFIX + name
    for name in ("alerts_total", "alert_delay_", "channel_blocked", "fallback_active", "incident", "slack_request")
)


@dataclass
class Panel:
    title: str
    queries: dict  # legend: expression
    about: str
    kind: str = "timeseries"
    unit: str = "short"
    steps: str = "green"
    alerts: tuple = ()  # to whose runbook sections the panel links
    width: int = 12
    height: int = 8
    stacked: bool = False
    dashed: bool = True  # a line at each threshold
    background: bool = False
    objective: Optional[str] = None  # the legend of a dashed red line
    max: Optional[float] = None
    decimals: Optional[int] = None
    no_value: Optional[str] = None
    colors: Optional[dict] = None  # legend: colour
    texts: Optional[dict] = None  # value: what is shown in its place
    columns: tuple = ()
    names: dict = field(default_factory=dict)  # column: what it is called

    def __post_init__(self):
        self.alerts = tuple(f"EcsSlackAlerts{name}" for name in self.alerts)


@dataclass
class Board:
    uid: str
    title: str
    tag: str
    about: str
    since: str  # what is on view at first
    rows: tuple  # (title or None, panels)


def lines(title, queries, about, **more):
    return Panel(title, queries, about, **more)


def areas(title, queries, about, **more):
    return Panel(title, queries, about, stacked=True, **more)


def number(title, expression, about, **more):
    """One figure, or several by their legends."""
    queries = expression if isinstance(expression, dict) else {"__auto": expression}
    return Panel(title, queries, about, kind="stat", **{"width": 4, "height": 4, **more})


def state(title, expression, about, **more):
    """An alarm: a figure on a coloured ground."""
    return number(title, expression, about, background=True, **more)


def quantiles(histogram):
    rate = f"sum by (le) (rate({PREFIX}{histogram}_bucket[$__rate_interval]))"
    return {f"p{q * 100:.0f}": f"histogram_quantile({q}, {rate})" for q in (0.5, 0.95, 0.99)}


def durations(title, histogram, about, **more):
    query = {"{{le}}": f"sum by (le) (increase({PREFIX}{histogram}_bucket[$__rate_interval]))"}
    return Panel(title, query, about, kind="heatmap", unit="s", **more)


def timeline(title, query, about, off, on, **more):
    """When something was on, by channel."""
    return Panel(title, query, about, kind="state-timeline", unit="none", steps="green 1:red", texts={"0": off, "1": on}, **more)


def per_minute(metric, by):
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return {legend: f"60 * sum by ({by}) (rate({PREFIX}{metric}[$__rate_interval]))"}


DELAY = ("DelayBudgetBurningFast", "DelayBudgetBurningSlowly", "DelayBudgetBurningSteadily")
GREY = "#8e8e8e"

ON_CALL = Board(
    uid="ecs-slack-alerts-on-call",
    title="ECS Slack alerts / On-call",
    tag="on-call",
    about="Is anything stuck? Whether ECS alerts reach Slack, and in time. Needs the recording rules.",
    since="now-6h",
    rows=(
        (None, (
            state("Workers up", "count(ecs_slack_alerts_build_info) or vector(0)",
                  "Replicas that Prometheus scrapes now. With none, alerts wait in the queue and reach nobody.",
                  unit="none", steps="red 1:green", alerts=("WorkerAbsent", "NotReceiving", "ReplicaMissing")),
            state("Channels blocked", "sum(max by (job, channel) (ecs_slack_alerts_channel_blocked))",
                  "Channels that Slack makes wait, or whose Slack is down, now. Seconds of it are usual in a storm; the alert comes when it lasts. Alerts are kept meanwhile.",
                  unit="none", steps="green 1:red", alerts=("ChannelBlocked", "SlackRefusing")),
            state("Dead-letter queue", 'sum(max by (job) (sum by (job, instance) (ecs_slack_alerts_queue_messages{queue="dlq"})))',
                  "Messages in the dead-letter queue: alerts that reached nobody and will not by themselves. Also 0 if the queue has no dead-letter queue.",
                  unit="none", steps="green 1:red", alerts=("DeadLetterQueueNotEmpty", "UndecodableMessages")),
            state("Waiting in the queue", 'sum(max by (job) (ecs_slack_alerts_queue_messages{queue="main", state="visible"}))',
                  "Messages that could be received now. Polled once a minute, so a storm may come and go unseen here.",
                  steps="green 20:yellow 100:red", alerts=("QueueBacklog", "QueueMetricsStale")),
            state("Alerts in time",
                  "1 - sum(increase(job_instance_channel:ecs_slack_alerts_alert_delay_seconds_late:sum[$__range])) / sum(increase(ecs_slack_alerts_alert_delay_seconds_count[$__range]))",
                  "Of the alerts in the range on view, those that Slack had within the objective's time after their event. The objective is in the recording rules: 99 % within 60 s.",
                  unit="percentunit", steps="red 0.99:green", decimals=2, no_value="no alerts", alerts=DELAY),
            number("Alerts delivered, last hour", "sum(increase(ecs_slack_alerts_alerts_total[1h]))",
                   "Alerts that Slack accepted within the hour. None may well be good news.", steps="blue", decimals=0),
        )),
        ("Do alerts arrive in time?", (
            lines("Alert delay",
                  {**{legend: f'max(job_channel:ecs_slack_alerts_alert_delay_seconds:quantile_rate5m{{quantile="{quantile}"}})'
                      for legend, quantile in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))},
                   "objective": "ecs_slack_alerts:alert_delay_objective:seconds"},
                  "From the event's time to Slack's 200, by the recording rules, over 5 minutes; of the selected channels the worst. First receives only: what was put back to be retried measures the outage and is left out. Dashed: the objective.",
                  unit="s", objective="objective", alerts=DELAY),
            lines("Error budget burn rate", {window: f"max(job:ecs_slack_alerts_alert_delay:burnrate{window})" for window in ("5m", "30m", "1h", "6h", "3d")},
                  "How many times faster than sustainable the objective's error budget is spent; 1 just uses it up. Dashed: where the alerts begin, steadily (1, over 3 days and 6 h), slowly (6, over 6 h and 30 min) and fast (14.4, over 1 h and 5 min). No line without alerts.",
                  steps="green 1:yellow 6:orange 14.4:red", decimals=1, alerts=DELAY),
        )),
        ("Is anything stuck?", (
            lines("Queue depth", {"{{state}}": 'sum by (state) (max by (job, state) (ecs_slack_alerts_queue_messages{queue="main"}))'},
                  "What the queue holds, as SQS counts it, polled once a minute: visible (waiting for a receive), in flight (held by a worker, or put back to be retried later) and delayed. Every replica exports the same, so the greatest value counts. Dashed: a backlog, if it lasts.",
                  steps="green 100:red", alerts=("QueueBacklog", "QueueMetricsStale")),
            lines("Wait in the queue", quantiles("queue_delay_seconds"),
                  "How long messages waited from being sent to their first receive. This covers received messages only; the age of the oldest message that still waits is known to CloudWatch alone (ApproximateAgeOfOldestMessage) and not exported.",
                  unit="s", steps="green 30:orange 60:red", alerts=("QueueBacklog", "NotReceiving")),
            timeline("Blocked channels", {"{{job}} {{channel}}": "max by (job, channel) (max_over_time(ecs_slack_alerts_channel_blocked[$__rate_interval]))"},
                     "When each channel was blocked: Slack made the worker wait (429) or was down. While every channel is blocked, nothing is received, by design.",
                     "open", "blocked", alerts=("ChannelBlocked",)),
            lines("Dead-letter queue", {"{{job}}": 'max by (job) (sum by (job, instance) (ecs_slack_alerts_queue_messages{queue="dlq"}))'},
                  "What the dead-letter queue holds, in all states: looking at it makes messages invisible for a while. Any is too many.",
                  steps="green 1:red", decimals=0, alerts=("DeadLetterQueueNotEmpty",)),
            lines("Replicas", {"{{job}} receiving": "job:ecs_slack_alerts_replicas_receiving:count", "{{job}} expected": "job:ecs_slack_alerts_replicas_expected:count"},
                  "Replicas that are scraped and receive, or may not receive because every channel is blocked; and how many there are in an ordinary hour, which is the median of the last day.",
                  decimals=0, alerts=("ReplicaMissing", "NotReceiving")),
            areas("Heartbeats", per_minute("heartbeats_total", "outcome"),
                  "Heartbeats to the dead man's switch; none where none is configured. withheld: none was sent, because the worker does not receive or cannot post. error: the switch did not answer, or refused.",
                  unit="cpm", alerts=("HeartbeatFailing",), colors={"ok": "green", "withheld": "orange", "error": "red"}),
            lines("Since the last canary", {"{{job}}": "time() - max by (job) (ecs_slack_alerts_last_canary_timestamp_seconds > 0)"},
                  "Time since SQS got the last canary that a worker received; none where no canaries are sent. It should never be much more than their interval.",
                  unit="s", no_value="no canaries", alerts=("CanaryMissing",)),
            lines("Canaries", {"{{job}}": "sum by (job) (increase(ecs_slack_alerts_canaries_total[1h]))"},
                  "Canaries that were received in the hour before, by all replicas.", decimals=0),
        )),
        ("What becomes of alerts?", (
            areas("Messages by outcome", per_minute("messages_total", "outcome"),
                  "Posted, folded, duplicate, unrouted, muted and canary messages are done with and deleted; folded ones repeat an incident that Slack has. Deferred ones are put back and come again; undecodable ones end in the dead-letter queue.",
                  unit="cpm", alerts=("UndecodableMessages",),
                  colors={"posted": "green", "folded": "light-green", "duplicate": "blue", "unrouted": GREY, "muted": "dark-blue", "canary": "purple",
                          "deferred": "orange", "undecodable": "red"}),
            areas("Slack's answers", per_minute("slack_requests_total", "outcome"),
                  "HTTP requests to Slack by what came of them. rate_limited is Slack's pacing; server_error and network_error are retried; refused means that Slack does not accept the webhook or the message.",
                  unit="reqpm", alerts=("SlackRefusing", "ChannelBlocked"),
                  colors={"ok": "green", "rate_limited": "yellow", "server_error": "orange", "network_error": "purple", "refused": "red"}),
            areas("Alerts delivered by severity", per_minute("alerts_total", "severity"),
                  "Alerts that Slack accepted. One post may carry many.",
                  unit="cpm", colors={"critical": "red", "warning": "orange", "info": "blue"}),
            areas("Alerts delivered by channel", per_minute("alerts_total", "job, channel"),
                  "The same by the channel that received them; an alert that is routed to two channels counts twice.", unit="cpm"),
            timeline("Fallbacks in use", {"{{job}} {{channel}}": "max by (job, channel) (max_over_time(ecs_slack_alerts_fallback_active[$__rate_interval]))"},
                     "When another channel took the alerts of this one, because Slack refuses its webhook or token. None where no fallback is configured.",
                     "own channel", "fallback", alerts=("FallbackActive", "SlackRefusing")),
            areas("Problems without a route", {"{{severity}}": "sum by (severity) (increase(ecs_slack_alerts_unrouted_problems_total[$__rate_interval]))"},
                  "Problems that were deleted because no route takes them. Only with unrouted = \"drop\" in the configuration may there be any.",
                  decimals=0, alerts=("UnroutedProblems",), colors={"critical": "red", "warning": "orange"}),
        )),
        ("What is wrong with the services?", (
            number("Open incidents", "sum(max by (job, channel) (ecs_slack_alerts_incidents_open))",
                   "Services and alarms in trouble, once for each channel that was alerted. Each replica knows only the incidents of which it had an alert, so of several the one that knows most counts. After a restart it begins at none.",
                   steps="green 1:orange", decimals=0),
            number("Time to recovery",
                   {legend: f"(histogram_quantile({q}, sum by (le) (increase(ecs_slack_alerts_incident_duration_seconds_bucket[$__range]))) >= 0) or vector(0)"
                    for legend, q in (("half", 0.5), ("nine in ten", 0.9))},
                   "Of the incidents that ended in the range on view: from the first event to the recovery, for half of them and for nine in ten at most. Estimated from the histogram's buckets.",
                   unit="s", steps="blue", decimals=0, texts={"0": "none"}),
            lines("Open incidents by channel", {"{{job}} {{channel}}": "max by (job, channel) (ecs_slack_alerts_incidents_open)"},
                  "Services and alarms in trouble, as the replica sees it that knows most of them. A replica learns of a recovery that another one reported only with its own next alert of that incident. An incident without an event for 24 hours is no longer counted.",
                  decimals=0, width=16),
            areas("What alerts meant", per_minute("incidents_total", "transition"),
                  "Alerts by what they meant to an incident. Repeated ones are only counted, and shown by an edit where a bot token can edit; all others are reported by a message.",
                  unit="cpm",
                  colors={"opened": "red", "reopened": "dark-red", "news": "orange", "reminded": "yellow", "repeated": GREY, "recovered": "green"}),
            durations("Recoveries by duration", "incident_duration_seconds", "Each cell: how many incidents ended, by how long they had been open."),
        )),
    ),
)

MAINTAINER = Board(
    uid="ecs-slack-alerts-maintainer",
    title="ECS Slack alerts / Maintainer",
    tag="maintainer",
    about="Requests, saturation, Slack and the process: what to look at before and after a change.",
    since="now-24h",
    rows=(
        (None, (
            Panel("Versions", {"__auto": "count by (job, version, revision) (ecs_slack_alerts_build_info)"},
                  "What runs, by version and commit. More than one line is a deployment under way, or one that stuck.",
                  kind="table", unit="none", width=8, height=5, columns=("job", "version", "revision", "Value"), names={"Value": "replicas"}),
            number("SQS requests per hour", "3600 * sum(rate(ecs_slack_alerts_sqs_requests_total[$__range]))",
                   "As billed. One idle replica makes about 180 receives an hour and some 200 looks at its queues.", steps="blue", decimals=0, height=5),
            number("SQS requests per message", "sum(rate(ecs_slack_alerts_sqs_requests_total[$__range])) / sum(rate(ecs_slack_alerts_messages_received_total[$__range]))",
                   "Over the range on view: receives, deletes, put-backs and looks at the queue, divided by messages received. Near 0.2 under load (batches of ten), high when idle.",
                   steps="blue", decimals=2, no_value="no messages", height=5),
            state("SQS error ratio", 'sum(rate(ecs_slack_alerts_sqs_requests_total{outcome="error"}[$__range])) / sum(rate(ecs_slack_alerts_sqs_requests_total[$__range]))',
                  "Failed requests of all requests to SQS, over the range on view.",
                  unit="percentunit", steps="green 0.01:yellow 0.1:red", decimals=2, height=5, alerts=("SqsErrors",)),
            number("Alerts per post", 'sum(rate(ecs_slack_alerts_alerts_total[$__range])) / sum(rate(ecs_slack_alerts_slack_requests_total{outcome="ok"}[$__range]))',
                   "How many alerts a post carried, over the range on view: 1 in quiet times, many in a storm.", steps="blue", decimals=1, no_value="no posts", height=5),
        )),
        ("SQS", (
            areas("SQS requests by operation", {"{{operation}}": "sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total[$__rate_interval]))"},
                  "Every request, as billed, failed ones included.", unit="reqps"),
            lines("SQS error ratio by operation",
                  {"{{operation}}": 'sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total{outcome="error"}[$__rate_interval])) / sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total[$__rate_interval]))'},
                  "Failed requests of all of their kind. A kind without requests has no line. Dashed: where the alert begins, if it lasts.",
                  unit="percentunit", steps="green 0.1:red", max=1, alerts=("SqsErrors", "QueueMetricsStale")),
            lines("Receives by instance", {"{{instance}}": 'sum by (instance) (rate(ecs_slack_alerts_sqs_requests_total{operation="ReceiveMessage", outcome="ok"}[$__rate_interval]))'},
                  "Receives that succeeded, also empty ones. An idle replica ends one long poll every 20 s (0.05 a second); 0 is a replica that hangs, or whose channels are all blocked.",
                  unit="reqps", alerts=("NotReceiving", "ReplicaMissing")),
            lines("SQS requests per message",
                  {legend: f"sum(rate(ecs_slack_alerts_sqs_requests_total{which}[$__rate_interval])) / sum(rate(ecs_slack_alerts_messages_received_total[$__rate_interval]))"
                   for legend, which in (("all operations", ""), ("to settle", '{operation=~"DeleteMessageBatch|ChangeMessageVisibilityBatch"}'))},
                  "Requests for each message received. Under load a full batch costs a receive and a delete for ten messages.", decimals=2),
        )),
        ("Saturation", (
            lines("Messages held", {"{{instance}}": "ecs_slack_alerts_in_flight_messages"},
                  "Slots in use: messages received and not yet settled, by replica. At queue.max_in_flight (1000, unless configured) nothing more is received.",
                  steps="green 1000:red"),
            lines("Messages received and settled",
                  {legend: f"sum(rate(ecs_slack_alerts_{metric}[$__rate_interval]))" for legend, metric in (("received", "messages_received_total"), ("settled", "messages_total"))},
                  "If settled stays below received, messages pile up in the worker.", unit="cps"),
        )),
        ("Slack", (
            durations("Slack request duration", "slack_request_duration_seconds", "How long Slack took to answer, all answers and time-outs. A request is given up after 10 s.", width=12),
            lines("Slack request duration, quantiles", quantiles("slack_request_duration_seconds"),
                  "The same as p50, p95 and p99 over the selected channels. Dashed: unusually slow, and the time-out.", unit="s", steps="green 2.5:orange 10:red"),
            lines("Slack error ratio by channel",
                  {"{{job}} {{channel}}": 'sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total{outcome!="ok"}[$__rate_interval])) / sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total[$__rate_interval]))'},
                  "Answers other than ok, of all. Replicas share a webhook's rate of one post a second, so that more replicas mean more 429s.",
                  unit="percentunit", steps="green 0.2:orange", max=1, alerts=("ChannelBlocked", "SlackRefusing")),
            lines("Posts by channel", {"{{job}} {{channel}}": "sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total[$__rate_interval]))"},
                  "Requests to Slack, whatever came of them. Slack takes one a second per webhook.", unit="reqps", steps="green 1:orange"),
        )),
        ("ECS and DynamoDB", (
            areas("Diagnoses by outcome", per_minute("diagnoses_total", "outcome"),
                  "Alerts per minute for which ECS was asked about the service. All but ok and partial went out with only what their event says: denied lacks a permission, which the log names once; skipped is the worker sparing the API.", unit="cpm"),
            areas("Requests to the table of incidents", per_minute("store_requests_total", "operation, outcome"),
                  "By operation and outcome; none without a table. conflict: another replica wrote first, so this one reads again, which is usual when alerts of one incident come together. error: alerts go out by what the worker knows by itself.",
                  unit="reqpm", alerts=("IncidentsTableFailing",),
                  colors={"load ok": "green", "save ok": "light-green", "save conflict": "yellow", "load error": "red", "save error": "dark-red"}),
            areas("Service tags by outcome", per_minute("service_tags_total", "outcome"),
                  "Alerts per minute for which the tags of the service were asked for; none where no route reads tags. With any but ok no route by tags matched: denied lacks a permission; unknown is a service that is gone; skipped is the worker sparing the API.",
                  unit="cpm", alerts=("ServiceTagsUnreadable",), colors={"ok": "green", "denied": "red", "error": "orange"}),
        )),
        ("Process", (
            lines("CPU", {"{{instance}}": "rate(process_cpu_seconds_total[5m])"},
                  "Cores in use, by replica; over 5 minutes, since whole seconds are counted.", steps="green 1:orange", decimals=3),
            lines("Memory", {"{{instance}}": "process_resident_memory_bytes"},
                  "Resident memory, which is what counts against a container's limit. It should be flat over days.", unit="bytes"),
            lines("File descriptors in use", {"{{instance}}": "process_open_fds / process_max_fds"},
                  "Of the most that the process may open. A steady climb is a leak of connections.", unit="percentunit", steps="green 0.8:red", max=1),
            lines("Threads and tasks", {"threads, {{instance}}": "process_threads", "tasks, {{instance}}": "ecs_slack_alerts_tasks"},
                  "Threads stay the same. Tasks are a few and one for each message held: a rise that stays is a leak.", decimals=0),
            lines("Uptime", {"{{instance}}": "time() - process_start_time_seconds"},
                  "Since the process started, by replica. A saw of short teeth, or many short lines where each start is a new instance, is a worker that does not stay up.",
                  unit="s", steps="red 300:green", dashed=False, alerts=("NotReceiving", "ReplicaMissing")),
            lines("Restarts",
                  {"starts": "sum(changes(process_start_time_seconds[1h])) + (count(min_over_time(process_start_time_seconds[1h]) > time() - 3600) or vector(0))"},
                  "Starts seen in the hour before: of the same instance again, or as a new one. A deployment makes one per replica.",
                  steps="green 5:orange", decimals=0, alerts=("WorkerAbsent",)),
            lines("Log lines dropped", {"{{job}} {{instance}}": "sum by (job, instance) (increase(ecs_slack_alerts_log_lines_dropped_total[$__rate_interval]))"},
                  "Lines of the log that standard error did not take: its reader is slow or gone, or the disk is full. Alerts are not affected.",
                  steps="green 1:orange", decimals=0, width=24, alerts=("LogLinesDropped",)),
        )),
    ),
)

BOARDS = (ON_CALL, MAINTAINER)
