"""The two Grafana dashboards. `generate.py` makes Grafana's JSON from them.

Expressions have no matchers for the dashboard's variables (deployment, instance, channel): the generator adds them. `{{job}}` in a
legend and `job` in `by (…)` mean all labels of a deployment. `steps` are thresholds: a colour, then `VALUE:COLOUR` for each further one.
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
    alerts: tuple = ()  # the panel links to the runbook sections of these alerts
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
    texts: Optional[dict] = None  # value: the text that is shown for it
    columns: tuple = ()
    names: dict = field(default_factory=dict)  # column: its title

    def __post_init__(self):
        self.alerts = tuple(f"EcsSlackAlerts{name}" for name in self.alerts)


@dataclass
class Board:
    uid: str
    title: str
    tag: str
    about: str
    since: str  # the start of the default time range
    rows: tuple  # (title or None, panels)


def lines(title, queries, about, **more):
    return Panel(title, queries, about, **more)


def areas(title, queries, about, **more):
    return Panel(title, queries, about, stacked=True, **more)


def number(title, expression, about, **more):
    """One figure, or several with legends."""
    queries = expression if isinstance(expression, dict) else {"__auto": expression}
    return Panel(title, queries, about, kind="stat", **{"width": 4, "height": 4, **more})


def state(title, expression, about, **more):
    """A status: a figure on a coloured background."""
    return number(title, expression, about, background=True, **more)


def quantiles(histogram):
    rate = f"sum by (le) (rate({PREFIX}{histogram}_bucket[$__rate_interval]))"
    return {f"p{q * 100:.0f}": f"histogram_quantile({q}, {rate})" for q in (0.5, 0.95, 0.99)}


def durations(title, histogram, about, **more):
    query = {"{{le}}": f"sum by (le) (increase({PREFIX}{histogram}_bucket[$__rate_interval]))"}
    return Panel(title, query, about, kind="heatmap", unit="s", **more)


def timeline(title, query, about, off, on, **more):
    """The times at which something was on, by channel."""
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
                  "Replicas that Prometheus scrapes now. If no replica runs, alerts wait in the queue and reach nobody.",
                  unit="none", steps="red 1:green", alerts=("WorkerAbsent", "NotReceiving", "ReplicaMissing")),
            state("Channels blocked", "sum(max by (job, channel) (ecs_slack_alerts_channel_blocked))",
                  "Channels that Slack now rate-limits or refuses, or for which it is down. In a storm, a few seconds are normal; EcsSlackAlertsChannelBlocked fires if it lasts. Alerts are kept meanwhile.",
                  unit="none", steps="green 1:red", alerts=("ChannelBlocked", "SlackRefusing")),
            state("Dead-letter queue", 'sum(max by (job) (sum by (job, instance) (ecs_slack_alerts_queue_messages{queue="dlq"})))',
                  "Messages in the dead-letter queue: alerts that reached nobody, and stay there until somebody moves them. Also 0 if there is no dead-letter queue.",
                  unit="none", steps="green 1:red", alerts=("DeadLetterQueueNotEmpty", "UndecodableMessages")),
            state("Waiting in the queue", 'sum(max by (job) (ecs_slack_alerts_queue_messages{queue="main", state="visible"}))',
                  "Messages that could be received now. Polled once a minute, so a short storm may not show here.",
                  steps="green 20:yellow 100:red", alerts=("QueueBacklog", "QueueMetricsStale")),
            state("Alerts in time",
                  "1 - sum(increase(job_instance_channel:ecs_slack_alerts_alert_delay_seconds_late:sum[$__range])) / sum(increase(ecs_slack_alerts_alert_delay_seconds_count[$__range]))",
                  "The share of alerts in the selected time range that Slack had accepted within 60 s of their event. The objective, 99 % within 60 s, is in the recording rules.",
                  unit="percentunit", steps="red 0.99:green", decimals=2, no_value="no alerts", alerts=DELAY),
            number("Alerts delivered, last hour", "sum(increase(ecs_slack_alerts_alerts_total[1h]))",
                   "Alerts that Slack accepted in the last hour. Zero may be good news.", steps="blue", decimals=0),
        )),
        ("Do alerts arrive in time?", (
            lines("Alert delay",
                  {**{legend: f'max(job_channel:ecs_slack_alerts_alert_delay_seconds:quantile_rate5m{{quantile="{quantile}"}})'
                      for legend, quantile in (("p50", "0.5"), ("p95", "0.95"), ("p99", "0.99"))},
                   "objective": "ecs_slack_alerts:alert_delay_objective:seconds"},
                  "From the event's time to Slack's 200, over 5 minutes, from the recording rules; the worst of the selected channels. Only first receives count: messages that were put back would measure the outage. Dashed: the objective.",
                  unit="s", objective="objective", alerts=DELAY),
            lines("Error budget burn rate", {window: f"max(job:ecs_slack_alerts_alert_delay:burnrate{window})" for window in ("5m", "30m", "1h", "6h", "3d")},
                  "How many times faster than sustainable the objective's error budget is spent; 1 uses it up exactly. Dashed: the thresholds of BurningSteadily (1, over 3 days and 6 h), BurningSlowly (6, over 6 h and 30 min) and BurningFast (14.4, over 1 h and 5 min). No line while there are no alerts.",
                  steps="green 1:yellow 6:orange 14.4:red", decimals=1, alerts=DELAY),
        )),
        ("Is anything stuck?", (
            lines("Queue depth", {"{{state}}": 'sum by (state) (max by (job, state) (ecs_slack_alerts_queue_messages{queue="main"}))'},
                  "The messages in the queue, as SQS counts them, polled once a minute: visible (waiting for a receive), in flight (held by a worker, or put back for a later retry) and delayed. Every replica exports the same figures, so the maximum is shown. Dashed: the threshold of QueueBacklog.",
                  steps="green 100:red", alerts=("QueueBacklog", "QueueMetricsStale")),
            lines("Wait in the queue", quantiles("queue_delay_seconds"),
                  "How long messages waited from being sent to their first receive. Received messages only. The age of the oldest message that still waits is a CloudWatch metric (ApproximateAgeOfOldestMessage), which the worker does not export.",
                  unit="s", steps="green 30:orange 60:red", alerts=("QueueBacklog", "NotReceiving")),
            timeline("Blocked channels", {"{{job}} {{channel}}": "max by (job, channel) (max_over_time(ecs_slack_alerts_channel_blocked[$__rate_interval]))"},
                     "When each channel was blocked: Slack rate-limited it (429), refused it or was down. While every channel is blocked, workers receive nothing, by design.",
                     "open", "blocked", alerts=("ChannelBlocked",)),
            lines("Dead-letter queue", {"{{job}}": 'max by (job) (sum by (job, instance) (ecs_slack_alerts_queue_messages{queue="dlq"}))'},
                  "Messages in the dead-letter queue, in all states, because `dlq list` makes messages invisible for a while. It should be 0.",
                  steps="green 1:red", decimals=0, alerts=("DeadLetterQueueNotEmpty",)),
            lines("Replicas", {"{{job}} receiving": "job:ecs_slack_alerts_replicas_receiving:count", "{{job}} expected": "job:ecs_slack_alerts_replicas_expected:count"},
                  "Receiving: replicas that are scraped and receive, or that do not receive because every channel is blocked. Expected: the median of the last day.",
                  decimals=0, alerts=("ReplicaMissing", "NotReceiving")),
            areas("Heartbeats", per_minute("heartbeats_total", "outcome"),
                  "Heartbeats to the dead man's switch; no data if none is configured. withheld: no request was sent, because the worker does not receive or cannot post. error: the switch did not answer, or refused the request.",
                  unit="cpm", alerts=("HeartbeatFailing",), colors={"ok": "green", "withheld": "orange", "error": "red"}),
            lines("Since the last canary", {"{{job}}": "time() - max by (job) (ecs_slack_alerts_last_canary_timestamp_seconds > 0)"},
                  "Time since SQS got the last canary that a worker received; no data if no canaries are sent. It should never be much more than their interval.",
                  unit="s", no_value="no canaries", alerts=("CanaryMissing",)),
            lines("Canaries", {"{{job}}": "sum by (job) (increase(ecs_slack_alerts_canaries_total[1h]))"},
                  "Canaries that all replicas received in the last hour.", decimals=0),
        )),
        ("What happens to alerts?", (
            areas("Messages by outcome", per_minute("messages_total", "outcome"),
                  "Posted, folded, duplicate, unrouted, muted and canary messages are deleted; folded ones repeat an incident that is in Slack. Deferred messages are put back and received again; undecodable ones go to the dead-letter queue.",
                  unit="cpm", alerts=("UndecodableMessages",),
                  colors={"posted": "green", "folded": "light-green", "duplicate": "blue", "unrouted": GREY, "muted": "dark-blue", "canary": "purple",
                          "deferred": "orange", "undecodable": "red"}),
            areas("Slack's answers", per_minute("slack_requests_total", "outcome"),
                  "HTTP requests to Slack by outcome. rate_limited: Slack answered 429. server_error and network_error are retried. refused: Slack does not accept the webhook, the token or the message.",
                  unit="reqpm", alerts=("SlackRefusing", "ChannelBlocked"),
                  colors={"ok": "green", "rate_limited": "yellow", "server_error": "orange", "network_error": "purple", "refused": "red"}),
            areas("Alerts delivered by severity", per_minute("alerts_total", "severity"),
                  "Alerts that Slack accepted. One post may carry many.",
                  unit="cpm", colors={"critical": "red", "warning": "orange", "info": "blue"}),
            areas("Alerts delivered by channel", per_minute("alerts_total", "job, channel"),
                  "Alerts that Slack accepted, by channel. An alert that is routed to two channels counts twice.", unit="cpm"),
            timeline("Fallbacks in use", {"{{job}} {{channel}}": "max by (job, channel) (max_over_time(ecs_slack_alerts_fallback_active[$__rate_interval]))"},
                     "When the fallback took this channel's alerts, because Slack refused the channel's webhook or token. No data if no fallback is configured.",
                     "own channel", "fallback", alerts=("FallbackActive", "SlackRefusing")),
            areas("Problems without a route", {"{{severity}}": "sum by (severity) (increase(ecs_slack_alerts_unrouted_problems_total[$__rate_interval]))"},
                  "Problems that were deleted because no route takes them. This happens only with unrouted = \"drop\" in the configuration.",
                  decimals=0, alerts=("UnroutedProblems",), colors={"critical": "red", "warning": "orange"}),
        )),
        ("What is wrong with the services?", (
            number("Open incidents", "sum(max by (job, channel) (ecs_slack_alerts_incidents_open))",
                   "Services and alarms with an open incident, once for each channel. Each replica counts only the incidents for which it handled an alert, so the maximum of the replicas is shown. After a restart a replica starts at 0.",
                   steps="green 1:orange", decimals=0),
            number("Time to recovery",
                   {legend: f"(histogram_quantile({q}, sum by (le) (increase(ecs_slack_alerts_incident_duration_seconds_bucket[$__range]))) >= 0) or vector(0)"
                    for legend, q in (("half", 0.5), ("nine in ten", 0.9))},
                   "Incidents that ended in the selected time range: half of them, and nine in ten of them, took at most this long from the first event to the recovery. Estimated from the histogram's buckets.",
                   unit="s", steps="blue", decimals=0, texts={"0": "none"}),
            lines("Open incidents by channel", {"{{job}} {{channel}}": "max by (job, channel) (ecs_slack_alerts_incidents_open)"},
                  "Services and alarms with an open incident; the maximum of the replicas. If another replica reported a recovery, a replica notices it only with its own next alert of that incident. An incident without an event for 24 hours is no longer counted.",
                  decimals=0, width=16),
            areas("Alerts by effect on their incident", per_minute("incidents_total", "transition"),
                  "What each alert did to its incident. A repeated alert is only counted; with a bot token, an edit shows the count. Every other alert is a message.",
                  unit="cpm",
                  colors={"opened": "red", "reopened": "dark-red", "news": "orange", "reminded": "yellow", "repeated": GREY, "recovered": "green"}),
            durations("Recoveries by duration", "incident_duration_seconds", "Each cell: how many incidents ended after being open for this long."),
        )),
    ),
)

MAINTAINER = Board(
    uid="ecs-slack-alerts-maintainer",
    title="ECS Slack alerts / Maintainer",
    tag="maintainer",
    about="Requests, saturation, Slack and the process: look at these before and after a change.",
    since="now-24h",
    rows=(
        (None, (
            Panel("Versions", {"__auto": "count by (job, version, revision) (ecs_slack_alerts_build_info)"},
                  "The running versions and commits. More than one line means that a deployment is running or stuck.",
                  kind="table", unit="none", width=8, height=5, columns=("job", "version", "revision", "Value"), names={"Value": "replicas"}),
            number("SQS requests per hour", "3600 * sum(rate(ecs_slack_alerts_sqs_requests_total[$__range]))",
                   "As AWS bills them. An idle replica makes about 180 receives an hour, and about 120 requests to count the messages in its queues.", steps="blue", decimals=0, height=5),
            number("SQS requests per message", "sum(rate(ecs_slack_alerts_sqs_requests_total[$__range])) / sum(rate(ecs_slack_alerts_messages_received_total[$__range]))",
                   "In the selected time range: receives, deletes, put-backs and requests for the queue's attributes, divided by messages received. About 0.2 under load (batches of ten), high when idle.",
                   steps="blue", decimals=2, no_value="no messages", height=5),
            state("SQS error ratio", 'sum(rate(ecs_slack_alerts_sqs_requests_total{outcome="error"}[$__range])) / sum(rate(ecs_slack_alerts_sqs_requests_total[$__range]))',
                  "The share of requests to SQS that failed, in the selected time range.",
                  unit="percentunit", steps="green 0.01:yellow 0.1:red", decimals=2, height=5, alerts=("SqsErrors",)),
            number("Alerts per post", 'sum(rate(ecs_slack_alerts_alerts_total[$__range])) / sum(rate(ecs_slack_alerts_slack_requests_total{outcome="ok"}[$__range]))',
                   "How many alerts a post carried, in the selected time range: 1 in quiet times, many in a storm.", steps="blue", decimals=1, no_value="no posts", height=5),
        )),
        ("SQS", (
            areas("SQS requests by operation", {"{{operation}}": "sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total[$__rate_interval]))"},
                  "Every request, as AWS bills them, including failed ones.", unit="reqps"),
            lines("SQS error ratio by operation",
                  {"{{operation}}": 'sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total{outcome="error"}[$__rate_interval])) / sum by (operation) (rate(ecs_slack_alerts_sqs_requests_total[$__rate_interval]))'},
                  "The share of each operation's requests that failed. An operation without requests has no line. Dashed: the threshold of SqsErrors.",
                  unit="percentunit", steps="green 0.1:red", max=1, alerts=("SqsErrors", "QueueMetricsStale")),
            lines("Receives by instance", {"{{instance}}": 'sum by (instance) (rate(ecs_slack_alerts_sqs_requests_total{operation="ReceiveMessage", outcome="ok"}[$__rate_interval]))'},
                  "Receives that succeeded, including empty ones. An idle replica ends one long poll every 20 s (0.05 a second). At 0 the replica hangs, or all its channels are blocked.",
                  unit="reqps", alerts=("NotReceiving", "ReplicaMissing")),
            lines("SQS requests per message",
                  {legend: f"sum(rate(ecs_slack_alerts_sqs_requests_total{which}[$__rate_interval])) / sum(rate(ecs_slack_alerts_messages_received_total[$__rate_interval]))"
                   for legend, which in (("all operations", ""), ("to settle", '{operation=~"DeleteMessageBatch|ChangeMessageVisibilityBatch"}'))},
                  "SQS requests for each message received. Under load, ten messages share a receive and a delete.", decimals=2),
        )),
        ("Saturation", (
            lines("Messages held", {"{{instance}}": "ecs_slack_alerts_in_flight_messages"},
                  "Messages that were received and not yet deleted or put back, by replica. At queue.max_in_flight (1000 by default) the replica receives no more.",
                  steps="green 1000:red"),
            lines("Messages received and settled",
                  {legend: f"sum(rate(ecs_slack_alerts_{metric}[$__rate_interval]))" for legend, metric in (("received", "messages_received_total"), ("settled", "messages_total"))},
                  "Settled: deleted or put back. If settled stays below received, messages pile up in the worker.", unit="cps"),
        )),
        ("Slack", (
            durations("Slack request duration", "slack_request_duration_seconds", "How long Slack took to answer, including timeouts. The timeout is 10 s.", width=12),
            lines("Slack request duration, quantiles", quantiles("slack_request_duration_seconds"),
                  "How long Slack took to answer: p50, p95 and p99 of the selected channels. Dashed: unusually slow (2.5 s), and the timeout.", unit="s", steps="green 2.5:orange 10:red"),
            lines("Slack error ratio by channel",
                  {"{{job}} {{channel}}": 'sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total{outcome!="ok"}[$__rate_interval])) / sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total[$__rate_interval]))'},
                  "The share of requests with another outcome than ok. Replicas share a webhook's rate of one post a second, so more replicas get more 429s.",
                  unit="percentunit", steps="green 0.2:orange", max=1, alerts=("ChannelBlocked", "SlackRefusing")),
            lines("Posts by channel", {"{{job}} {{channel}}": "sum by (job, channel) (rate(ecs_slack_alerts_slack_requests_total[$__rate_interval]))"},
                  "Requests to Slack with any outcome. Slack accepts one a second per webhook.", unit="reqps", steps="green 1:orange"),
        )),
        ("ECS and DynamoDB", (
            areas("Diagnoses by outcome", per_minute("diagnoses_total", "outcome"),
                  "Alerts per minute for which the worker wanted a diagnosis from ECS. Unless the outcome is ok or partial, the alert says only what its event says. denied: a permission is missing, and the log names it once. skipped: the worker limits its requests to ECS.", unit="cpm"),
            areas("Requests to the table of incidents", per_minute("store_requests_total", "operation, outcome"),
                  "By operation and outcome; no data without a table. conflict: another replica wrote first, so this one reads again, which is normal when alerts of one incident come together. error: the worker uses the incidents in its own memory.",
                  unit="reqpm", alerts=("IncidentsTableFailing",),
                  colors={"load ok": "green", "save ok": "light-green", "save conflict": "yellow", "load error": "red", "save error": "dark-red"}),
            areas("Service tags by outcome", per_minute("service_tags_total", "outcome"),
                  "Events per minute for which the worker wanted the service's tags; no data if no route or alert uses tags. Unless the outcome is ok, no pattern with service-tags matched. denied: a permission is missing. unknown: the service was deleted. skipped: the worker limits its requests to ECS.",
                  unit="cpm", alerts=("ServiceTagsUnreadable",), colors={"ok": "green", "denied": "red", "error": "orange"}),
        )),
        ("Process", (
            lines("CPU", {"{{instance}}": "rate(process_cpu_seconds_total[5m])"},
                  "Cores in use, by replica, over 5 minutes, because the metric counts whole seconds.", steps="green 1:orange", decimals=3),
            lines("Memory", {"{{instance}}": "process_resident_memory_bytes"},
                  "Resident memory, which counts against a container's limit. It should stay the same over days.", unit="bytes"),
            lines("File descriptors in use", {"{{instance}}": "process_open_fds / process_max_fds"},
                  "The share of the descriptors that the process may open. A steady rise is a leak of connections.", unit="percentunit", steps="green 0.8:red", max=1),
            lines("Threads and tasks", {"threads, {{instance}}": "process_threads", "tasks, {{instance}}": "ecs_slack_alerts_tasks"},
                  "The number of threads stays the same. There are a few asynchronous tasks, and one for each message held: a lasting rise is a leak.", decimals=0),
            lines("Uptime", {"{{instance}}": "time() - process_start_time_seconds"},
                  "Time since the process started, by replica. If the line falls to 0 again and again, or there are many short lines (each start is a new instance), the worker keeps restarting.",
                  unit="s", steps="red 300:green", dashed=False, alerts=("NotReceiving", "ReplicaMissing")),
            lines("Restarts",
                  {"starts": "sum(changes(process_start_time_seconds[1h])) + (count(min_over_time(process_start_time_seconds[1h]) > time() - 3600) or vector(0))"},
                  "Starts in the last hour, of existing and of new instances. A deployment makes one for each replica.",
                  steps="green 5:orange", decimals=0, alerts=("WorkerAbsent",)),
            lines("Log lines dropped", {"{{job}} {{instance}}": "sum by (job, instance) (increase(ecs_slack_alerts_log_lines_dropped_total[$__rate_interval]))"},
                  "Log lines that were dropped because standard error was blocked: the log's reader is slow or gone, or the disk is full. Alerts are not affected.",
                  steps="green 1:orange", decimals=0, width=24, alerts=("LogLinesDropped",)),
        )),
    ),
)

BOARDS = (ON_CALL, MAINTAINER)
