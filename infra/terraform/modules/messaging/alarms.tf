locals {
  # The name of an alarm -> what it watches and when it goes off. SQS reports nothing for a queue that nobody used for
  # six hours, which is no trouble: missing data is fine.
  alarms = {
    dlq-not-empty = {
      queue       = aws_sqs_queue.dlq.name
      metric      = "ApproximateNumberOfMessagesVisible"
      above       = 0
      periods     = 1
      description = "The worker gave up on messages: look with `ecs-slack-alerts dlq list`."
    }
    undelivered-not-empty = {
      queue       = aws_sqs_queue.undelivered.name
      metric      = "ApproximateNumberOfMessagesVisible"
      above       = 0
      periods     = 1
      description = "EventBridge could not deliver events to the queue: look at their ERROR_CODE attributes."
    }
    oldest-message = {
      queue       = aws_sqs_queue.main.name
      metric      = "ApproximateAgeOfOldestMessage"
      above       = var.oldest_message_alarm_seconds
      periods     = 3
      description = "Alerts are late: the worker is down or too slow, or Slack takes nothing."
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = var.alarms ? local.alarms : {}

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/SQS"
  metric_name         = each.value.metric
  dimensions          = { QueueName = each.value.queue }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = each.value.periods
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}
