# A CloudWatch dashboard for teams without Prometheus: the metrics of SQS, ECS and EventBridge, and queries of the worker's log.
# The log's lines are JSON, whose keys Logs Insights offers as fields.

locals {
  region = split(":", module.messaging.queue_arn)[3]

  queue_series = {
    main        = module.messaging.queue_name
    dlq         = module.messaging.dlq_name
    undelivered = reverse(split(":", module.messaging.undelivered_queue_arn))[0]
  }

  service_dimensions = ["ClusterName", module.worker.cluster_name, "ServiceName", module.worker.service_name]

  # Each widget is a graph of metrics or a query of the log. A row has two.
  widgets = concat(
    length(module.messaging.alarm_arns) == 0 ? [] : [{
      type = "alarm"
      properties = {
        title  = "Alarms"
        alarms = values(module.messaging.alarm_arns)
      }
    }],
    [
      for graph in [
        {
          title   = "Messages waiting"
          stat    = "Maximum"
          metrics = [for label, queue in local.queue_series : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", queue, { label = label }]]
        },
        {
          title   = "Age of the oldest message (s)"
          stat    = "Maximum"
          metrics = [["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", module.messaging.queue_name]]
        },
        {
          title = "Sent, received, deleted"
          stat  = "Sum"
          metrics = [
            for metric in ["NumberOfMessagesSent", "NumberOfMessagesReceived", "NumberOfMessagesDeleted"] :
            ["AWS/SQS", metric, "QueueName", module.messaging.queue_name]
          ]
        },
        {
          title   = "Empty receives"
          stat    = "Sum"
          metrics = [["AWS/SQS", "NumberOfEmptyReceives", "QueueName", module.messaging.queue_name]]
        },
        {
          title   = "Events sent by each rule"
          stat    = "Sum"
          metrics = [for key, rule in module.messaging.rule_dimensions : concat(["AWS/Events", "Invocations"], flatten([for name, value in rule : [name, value]]), [{ label = key }])]
        },
        {
          title   = "Processor and memory of the tasks (%)"
          stat    = "Maximum"
          metrics = [for metric in ["CPUUtilization", "MemoryUtilization"] : concat(["AWS/ECS", metric], local.service_dimensions)]
        }
        ] : {
        type = "metric"
        properties = {
          title   = graph.title
          region  = local.region
          view    = "timeSeries"
          period  = 60
          stat    = graph.stat
          metrics = graph.metrics
        }
      }
    ],
    [
      for query in [
        { title = "Messages by outcome", view = "timeSeries", query = "filter ispresent(outcome) and ispresent(level) | stats count(*) by outcome, bin(5m)" },
        { title = "Services with alerts", view = "table", query = "filter outcome in [\"posted\", \"folded\"] | stats count(*) as alerts, max(@timestamp) as last by service, severity, kind | sort alerts desc | limit 20" },
        {
          title = "The worker's warnings and errors"
          view  = "table"
          query = "filter level in [\"WARN\", \"ERROR\"] | fields @timestamp, level, message, error | sort @timestamp desc | limit 20"
        }
        ] : {
        type = "log"
        properties = {
          title  = query.title
          region = local.region
          view   = query.view
          query  = "SOURCE '${module.worker.log_group_name}' | ${query.query}"
        }
      }
    ],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      for index, widget in local.widgets : merge(widget, { width = 12, height = 6, x = index % 2 * 12, y = floor(index / 2) * 6 })
    ]
  })
}
