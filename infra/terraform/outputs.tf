output "queue_url" {
  description = "URL of the queue that the worker consumes."
  value       = module.messaging.queue_url
}

output "queue_arn" {
  description = "ARN of the queue that the worker consumes."
  value       = module.messaging.queue_arn
}

output "dlq_url" {
  description = "URL of the dead-letter queue, which holds the messages that the worker could not handle."
  value       = module.messaging.dlq_url
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue."
  value       = module.messaging.dlq_arn
}

output "undelivered_queue_url" {
  description = "URL of the queue of events that EventBridge could not deliver."
  value       = module.messaging.undelivered_queue_url
}

output "rule_arns" {
  description = "ARNs of the EventBridge rules by name."
  value       = module.messaging.rule_arns
}

output "secret_arn" {
  description = "ARN of the secret that the module created, which needs a value; null if `webhook_secret_arns` is set."
  value       = module.messaging.secret_arn
}

output "incidents_table_name" {
  description = "Name of the table of incidents; null without a table."
  value       = module.messaging.incidents_table_name
}

output "dlq_policy_json" {
  description = "IAM policy for people who run `ecs-slack-alerts dlq list` and `dlq redrive`."
  value       = module.messaging.dlq_policy_json
}

output "environment" {
  description = "The environment variables with which a worker uses this queue and secret, to run it elsewhere or to try `check --live`. SLACK_WEBHOOK_SECRET_ID is among them unless `webhook_secret_arns` has several ARNs, `config_content` names the secret of a channel, or `environment` sets SLACK_BOT_TOKEN_SECRET_ID."
  value       = local.environment
}

output "alarm_arns" {
  description = "ARNs of the CloudWatch alarms by name."
  value       = module.messaging.alarm_arns
}

output "alarm_topic_arns" {
  description = "SNS topics that the alarms notify: `alarm_topic_arns`, and the topic of `alarm_email`."
  value       = module.messaging.alarm_topic_arns
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = module.worker.cluster_name
}

output "service_name" {
  description = "Name of the ECS service."
  value       = module.worker.service_name
}

output "task_role_arn" {
  description = "ARN of the worker's role. Policies of secrets and keys in other accounts need it."
  value       = module.worker.task_role_arn
}

output "security_group_ids" {
  description = "Security groups of the tasks."
  value       = module.worker.security_group_ids
}

output "log_group_name" {
  description = "Name of the log group."
  value       = module.worker.log_group_name
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard; null without a dashboard."
  value       = one(aws_cloudwatch_dashboard.this[*].dashboard_name)
}
