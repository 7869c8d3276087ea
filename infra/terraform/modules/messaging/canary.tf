# A canary: an event that EventBridge sends on a schedule, through the same queue as all others. The worker recognises it, counts it
# and posts nothing. It shows that events reach the queue and the worker, even while ECS sends none.

resource "aws_cloudwatch_event_rule" "canary" {
  count = var.canary == null ? 0 : 1

  name        = "${var.name}-canary"
  description = "Sends a canary event to ${var.name}, which counts it and posts nothing."
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

  # A late canary is of no use.
  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 5
  }

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }

  depends_on = [aws_sqs_queue_policy.this]
}
