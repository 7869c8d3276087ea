# Step scaling by the number of waiting messages. SQS reports this number, so Container Insights is not needed.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-autoscaling-stepscaling.html

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.this.name}"
  min_capacity       = var.autoscaling.min_tasks
  max_capacity       = var.autoscaling.max_tasks
  tags               = var.tags
}

locals {
  # Scale out quickly: a task a minute, because a Fargate task takes about a minute to start. Scale in slowly: a task in 15 minutes, and
  # only after 15 minutes at or below the backlog, because storms come in waves.
  steps = var.autoscaling.max_tasks == var.autoscaling.min_tasks ? {} : {
    out = { tasks = 1, cooldown = 60, comparison = "GreaterThanThreshold", minutes = 1 }
    in  = { tasks = -1, cooldown = 900, comparison = "LessThanOrEqualToThreshold", minutes = 15 }
  }
}

resource "aws_appautoscaling_policy" "this" {
  for_each = local.steps

  name               = "${var.name}-${each.key}"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    adjustment_type         = "ChangeInCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = each.value.cooldown

    # One step, which covers every value above or below the alarm's threshold.
    step_adjustment {
      scaling_adjustment          = each.value.tasks
      metric_interval_lower_bound = each.key == "out" ? 0 : null
      metric_interval_upper_bound = each.key == "in" ? 0 : null
    }
  }
}

# These alarms trigger the scaling policies and notify nobody.
resource "aws_cloudwatch_metric_alarm" "scale" {
  for_each = local.steps

  alarm_name          = "${var.name}-scale-${each.key}"
  alarm_description   = "Scales ${var.name} by the number of waiting messages. Nobody needs to react to it."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = var.queue_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = each.value.minutes
  comparison_operator = each.value.comparison
  threshold           = var.autoscaling.backlog
  # Without data nothing is scaled: a late data point does not mean that the queue is empty.
  treat_missing_data = "notBreaching"
  alarm_actions      = [aws_appautoscaling_policy.this[each.key].arn]
  tags               = var.tags
}
