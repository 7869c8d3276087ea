output "queue_url" {
  description = "URL of the queue, to run `ecs-slack-alerts dlq list` on your own machine."
  value       = module.ecs_slack_alerts.queue_url
}

output "log_group_name" {
  description = "Name of the worker's log group, for `aws logs tail NAME --follow`."
  value       = module.ecs_slack_alerts.log_group_name
}
