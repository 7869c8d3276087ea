# Alarms that go off when alerts do not arrive. Each watches one part of the path from EventBridge to Slack, and the runbook has a
# section for it (docs/operations.md, "CloudWatch alarms").

locals {
  # SQS reports a queue's metrics each minute, but no metrics of a queue that was not used for six hours.
  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-monitoring-using-cloudwatch.html
  queue_alarms = {
    dlq-not-empty = {
      description = "Messages are in the dead-letter queue, because the worker could not handle them: look with `ecs-slack-alerts dlq list`."
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
    # An idle worker polls three times a minute. There are two periods of five minutes, so that one late data point sets off no alarm.
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

  # ECS repeats SERVICE_STEADY_STATE every six hours or so for every healthy service, so the rule `recoveries` sends something every
  # day. Without that rule and without `canary`, a day without messages is normal.
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

  # EventBridge reports these two metrics for each rule, and only when they are not zero. An alarm takes ten metrics at most.
  # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
  delivery_metrics = {
    failed-invocations = {
      metric      = "FailedInvocations"
      description = "EventBridge could not deliver events to the queue. They are in the undelivered queue, unless the alarm events-lost is on too."
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

  # A metric with the dimension RuleName alone belongs to a rule of the default bus.
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

  # The alarms by name. An alarm with one metric compares it as it is; an alarm with several compares their sum.
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

# Encrypted only with a customer managed key: the policy of the key that AWS manages for SNS does not allow CloudWatch to use it.
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

# AWS first sends a mail with a link. The address gets no notification before somebody follows the link.
resource "aws_sns_topic_subscription" "email" {
  count = length(aws_sns_topic.alarms)

  topic_arn = aws_sns_topic.alarms[count.index].arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
