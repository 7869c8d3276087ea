# Target tracking on the backlog per task, as AWS advises for queues:
# https://docs.aws.amazon.com/autoscaling/application/userguide/application-auto-scaling-target-tracking-metric-math.html

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.this.name}"
  min_capacity       = var.autoscaling.min_tasks
  max_capacity       = var.autoscaling.max_tasks
  tags               = var.tags
}

resource "aws_appautoscaling_policy" "backlog" {
  count = var.autoscaling.max_tasks > var.autoscaling.min_tasks ? 1 : 0

  name               = "${var.name}-backlog-per-task"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value = var.autoscaling.backlog_per_task

    # Out quickly: a Fargate task takes about a minute to work, so ask again no sooner. In slowly, a step in a quarter of
    # an hour and only after a quarter of an hour below the target: storms come in waves.
    scale_out_cooldown = 60
    scale_in_cooldown  = 900

    customized_metric_specification {
      # Not filled where it is missing: SQS reports a queue that is polled every minute, and a point that is merely late
      # must not read as an empty queue. Without data nothing is scaled.
      metrics {
        id          = "visible"
        label       = "Messages waiting"
        return_data = false

        metric_stat {
          stat = "Sum"

          metric {
            namespace   = "AWS/SQS"
            metric_name = "ApproximateNumberOfMessagesVisible"

            dimensions {
              name  = "QueueName"
              value = var.queue_name
            }
          }
        }
      }

      metrics {
        id          = "running"
        label       = "Tasks running"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "ECS/ContainerInsights"
            metric_name = "RunningTaskCount"

            dimensions {
              name  = "ClusterName"
              value = local.cluster_name
            }

            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.this.name
            }
          }
        }
      }

      # Where the count of tasks is late, it is the last one known. Before the first task runs there is one to divide by.
      metrics {
        id          = "tasks"
        label       = "Tasks running, the last known"
        expression  = "FILL(running, REPEAT)"
        return_data = false
      }

      metrics {
        id          = "backlog"
        label       = "Backlog per task"
        expression  = "visible / IF(tasks > 0, tasks, 1)"
        return_data = true
      }
    }
  }

  lifecycle {
    precondition {
      condition = alltrue([
        for cluster in data.aws_ecs_cluster.given :
        anytrue([for setting in cluster.setting : setting.name == "containerInsights" && setting.value != "disabled"])
      ])
      error_message = "Container Insights is off in this cluster, so there is no RunningTaskCount and the service would never be scaled. Turn it on (aws ecs update-cluster-settings --settings name=containerInsights,value=enabled), or fix the number of tasks by min_tasks = max_tasks."
    }
  }
}
