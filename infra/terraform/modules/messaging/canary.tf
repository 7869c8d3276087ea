# A canary: an event that EventBridge makes by a schedule, and that goes the way of all others. The worker knows it, counts it
# and posts nothing. It shows that EventBridge reaches the queue and the queue reaches the worker also where ECS is quiet.

resource "aws_cloudwatch_event_rule" "canary" {
  count = var.canary == null ? 0 : 1

  name        = "${var.name}-canary"
  description = "A canary event for ${var.name}, which counts it and posts nothing."
  # Schedules exist on the default bus only.
  event_bus_name      = "default"
  schedule_expression = var.canary
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "canary" {
  count = length(aws_cloudwatch_event_rule.canary)

  rule      = aws_cloudwatch_event_rule.canary[count.index].name
  target_id = "queue"
  arn       = aws_sqs_queue.main.arn

  # Not jsonencode, which escapes < and >. EventBridge puts quotes around the time itself.
  input_transformer {
    input_paths    = { time = "$.time" }
    input_template = <<-JSON
      {"version":"0","id":"ecs-slack-alerts-canary","source":"ecs-slack-alerts.canary","detail-type":"ecs-slack-alerts canary","time":<time>,"detail":{}}
    JSON
  }

  # A canary that is late is worth nothing.
  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 5
  }

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }

  depends_on = [aws_sqs_queue_policy.this]
}
