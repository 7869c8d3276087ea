# Alarms for alerts that do not arrive: each watches one part of the way from EventBridge to Slack. The runbook
# has a section for each (docs/operations.md, "CloudWatch alarms").

locals {
  # SQS reports a queue's metrics each minute, and nothing about a queue that nobody used for six hours.
  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-monitoring-using-cloudwatch.html
  queue_alarms = {
    dlq-not-empty = {
      description = "The worker gave up on messages: look with `ecs-slack-alerts dlq list`."
      metrics     = { visible = "ApproximateNumberOfMessagesVisible" }
      queue       = aws_sqs_queue.dlq.name
      statistic   = "Maximum"
      period      = 60
      periods     = 1
      above       = 0
      missing     = "notBreaching"
    }
    undelivered-not-empty = {
      description = "EventBridge could not deliver events to the queue: look at their ERROR_CODE attributes."
      metrics     = { visible = "ApproximateNumberOfMessagesVisible" }
      queue       = aws_sqs_queue.undelivered.name
      statistic   = "Maximum"
      period      = 60
      periods     = 1
      above       = 0
      missing     = "notBreaching"
    }
    oldest-message = {
      description = "Alerts are late: the worker is down or too slow, or Slack accepts nothing."
      metrics     = { age = "ApproximateAgeOfOldestMessage" }
      queue       = aws_sqs_queue.main.name
      statistic   = "Maximum"
      period      = 60
      periods     = 3
      above       = var.oldest_message_alarm_seconds
      missing     = "notBreaching"
    }
    # An idle worker polls three times a minute. Two periods of five minutes, so that one late data point is no alarm.
    not-polling = {
      description = "Nobody has polled the queue for ten minutes: no worker runs, or Slack accepts nothing and the worker has stopped receiving."
      metrics     = { empty = "NumberOfEmptyReceives", received = "NumberOfMessagesReceived" }
      queue       = aws_sqs_queue.main.name
      statistic   = "Sum"
      period      = 300
      periods     = 2
      below       = 1
      missing     = "breaching"
    }
  }

  # ECS repeats SERVICE_STEADY_STATE every six hours or so for every healthy service, so the rule `recoveries` is a canary.
  # Without that rule and without `canary`, silence is normal.
  silence_alarms = var.recoveries || var.canary != null ? {
    nothing-sent = {
      description = "EventBridge has sent nothing to the queue for ${var.nothing_sent_alarm_hours} hours: a rule or its target is disabled or deleted, or a policy of the bus or the queue has changed."
      metrics     = { sent = "NumberOfMessagesSent" }
      queue       = aws_sqs_queue.main.name
      statistic   = "Sum"
      period      = 3600
      periods     = var.nothing_sent_alarm_hours
      below       = 1
      missing     = "breaching"
    }
  } : {}

  # EventBridge reports these two for each rule, and only where they are not zero. An alarm takes ten metrics at most.
  # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
  delivery_metrics = {
    failed-invocations = {
      metric      = "FailedInvocations"
      description = "EventBridge gave up on events for the queue. They are in the undelivered queue, unless the alarm events-lost is on too."
    }
    events-lost = {
      metric      = "InvocationsFailedToBeSentToDlq"
      description = "EventBridge could put events neither on the queue nor on the undelivered queue: they are lost."
    }
  }
  delivery_alarms = merge([
    for name, alarm in local.delivery_metrics : {
      for index, chunk in chunklist(sort(keys(local.rules)), 10) :
      index == 0 ? name : "${name}-${index + 1}" => merge(alarm, { runbook = name, rules = chunk })
    }
  ]...)

  # Metrics that only name a rule are of the default bus.
  rule_dimensions = {
    for key, rule in local.rules : key => merge(
      { RuleName = rule.name },
      rule.event_bus_name == "default" ? {} : { EventBusName = rule.event_bus_name },
    )
  }

  # A rule that is disabled or has no target sends nothing, and EventBridge reports only invocations that are not zero.
  silent_rule_alarms = {
    for rule in var.silent_rule_alarms : "silent-rule-${rule}" => {
      description = "The rule ${rule} has sent nothing to the queue for a day: it or its target is disabled or deleted, or its pattern no longer matches."
      rule        = rule
    }
  }

  # The name of an alarm -> what it is made of. One metric is compared as it is; several are added up.
  alarms = merge(
    {
      for name, alarm in merge(local.queue_alarms, local.silence_alarms) : name => {
        description = alarm.description
        runbook     = name
        metrics = {
          for id, metric in alarm.metrics : id => { namespace = "AWS/SQS", name = metric, dimensions = { QueueName = alarm.queue } }
        }
        statistic = alarm.statistic
        period    = alarm.period
        periods   = alarm.periods
        above     = try(alarm.above, null)
        below     = try(alarm.below, null)
        missing   = alarm.missing
      }
    },
    {
      for name, alarm in local.delivery_alarms : name => {
        description = alarm.description
        runbook     = alarm.runbook
        metrics = {
          for index, rule in alarm.rules : "rule${index}" => {
            namespace = "AWS/Events", name = alarm.metric, dimensions = local.rule_dimensions[rule]
          }
        }
        statistic = "Sum"
        period    = 60
        periods   = 1
        above     = 0
        below     = null
        missing   = "notBreaching"
      }
    },
    {
      for name, alarm in local.silent_rule_alarms : name => {
        description = alarm.description
        runbook     = "silent-rule"
        metrics     = { sent = { namespace = "AWS/Events", name = "Invocations", dimensions = local.rule_dimensions[alarm.rule] } }
        statistic   = "Sum"
        period      = 3600
        periods     = 24
        above       = null
        below       = 1
        missing     = "breaching"
      }
    },
  )

  alarm_topic_arns = concat(var.alarm_topic_arns, aws_sns_topic.alarms[*].arn)
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = var.alarms ? local.alarms : {}

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.description} Runbook: ${var.runbook_url}#ecs-slack-alerts-${each.value.runbook}"
  comparison_operator = each.value.above == null ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = coalesce(each.value.above, each.value.below)
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = local.alarm_topic_arns
  ok_actions          = local.alarm_topic_arns
  tags                = var.tags

  dynamic "metric_query" {
    for_each = each.value.metrics
    content {
      id          = metric_query.key
      return_data = length(each.value.metrics) == 1

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        stat        = each.value.statistic
        period      = each.value.period
      }
    }
  }

  dynamic "metric_query" {
    for_each = length(each.value.metrics) == 1 ? [] : [1]
    content {
      id          = "total"
      label       = each.key
      expression  = "SUM([${join(", ", [for id in keys(each.value.metrics) : "FILL(${id}, 0)"])}])"
      return_data = true
    }
  }
}

# Encrypted only by a key of one's own: the policy of the key that AWS manages for SNS lets no alarm in.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
resource "aws_sns_topic" "alarms" {
  count = var.alarms && var.alarm_email != null ? 1 : 0

  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

resource "aws_sns_topic_policy" "alarms" {
  count = length(aws_sns_topic.alarms)

  arn = aws_sns_topic.alarms[count.index].arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyAlarmsOfThisAccountPublish"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[count.index].arn
        Condition = {
          StringEquals = { "aws:SourceAccount" = local.account }
          ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:*" }
        }
      },
      {
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[count.index].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

# AWS sends a mail with a link first; nothing comes before somebody follows it.
resource "aws_sns_topic_subscription" "email" {
  count = length(aws_sns_topic.alarms)

  topic_arn = aws_sns_topic.alarms[count.index].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
