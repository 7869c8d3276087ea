output "queue_url" {
  description = "For `ecs-slack-alerts dlq list` from a laptop."
  value       = module.ecs_slack_alerts.queue_url
}

output "log_group_name" {
  description = "Where the worker's log is: `aws logs tail NAME --follow`."
  value       = module.ecs_slack_alerts.log_group_name
}
