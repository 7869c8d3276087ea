output "queue_url" {
  description = "URL of the queue that the worker consumes."
  value       = aws_sqs_queue.main.url
}

output "queue_arn" {
  description = "ARN of the queue that the worker consumes."
  value       = aws_sqs_queue.main.arn
}

output "queue_name" {
  description = "Name of the queue that the worker consumes."
  value       = aws_sqs_queue.main.name
}

output "dlq_url" {
  description = "URL of the dead-letter queue, which holds the messages that the worker could not handle."
  value       = aws_sqs_queue.dlq.url
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dlq.arn
}

output "dlq_name" {
  description = "Name of the dead-letter queue."
  value       = aws_sqs_queue.dlq.name
}

output "undelivered_queue_url" {
  description = "URL of the queue of events that EventBridge could not deliver."
  value       = aws_sqs_queue.undelivered.url
}

output "undelivered_queue_arn" {
  description = "ARN of the queue of events that EventBridge could not deliver."
  value       = aws_sqs_queue.undelivered.arn
}

output "event_bus_name" {
  description = "Name of the rules' event bus."
  value       = local.event_bus_name
}

output "rule_arns" {
  description = "ARNs of the rules by name: services, deployments, tasks, instances, instance-health, others, health, start-failures, recoveries, canary, and your own rules."
  value       = { for name, rule in local.rules : name => rule.arn }
}

output "rule_dimensions" {
  description = "By rule name, the dimensions of the rule's metrics in AWS/Events: RuleName, and EventBusName if the bus is not `default`."
  value       = local.rule_dimensions
}

output "secret_arn" {
  description = "ARN of the secret that the module created, which needs a value; null if `webhook_secret_arns` is set."
  value       = one(aws_secretsmanager_secret.webhook[*].arn)
}

output "incidents_table_name" {
  description = "Name of the table of incidents; null without a table."
  value       = one(aws_dynamodb_table.incidents[*].name)
}

output "worker_policy_json" {
  description = "IAM policy for the worker's role: consume the queue, count the messages in the dead-letter queue, read the webhooks and the heartbeat's URL, share incidents."
  value       = jsonencode(local.worker_policy)

  # A role that gets this policy should find the queues with their own policies.
  depends_on = [aws_sqs_queue_policy.this, aws_sqs_queue_redrive_allow_policy.dlq]
}

output "dlq_policy_json" {
  description = "IAM policy for people who run `ecs-slack-alerts dlq list` and `dlq redrive`; the worker does not need it."
  value       = jsonencode(local.dlq_policy)
}

output "diagnose_policy_json" {
  description = "IAM policy with which the worker may ask ECS why a service fails; read-only. Without it, alerts say only what their events say."
  value       = jsonencode(local.diagnose_policy)
}

output "environment" {
  description = "The environment variables that a worker needs: QUEUE_URL, AWS_REGION, UNDELIVERED_QUEUE_URL for `dlq redrive --from undelivered`, INCIDENTS_TABLE if there is a table, HEARTBEAT_URL_SECRET_ID if there is a heartbeat, and SLACK_WEBHOOK_SECRET_ID unless `webhook_secret_arns` has several. Leave SLACK_WEBHOOK_SECRET_ID out if the one secret holds a bot token, or if your configuration file names the secrets of its channels; the root module does."
  value = merge(
    { QUEUE_URL = aws_sqs_queue.main.url, UNDELIVERED_QUEUE_URL = aws_sqs_queue.undelivered.url, AWS_REGION = local.region },
    { for table in aws_dynamodb_table.incidents : "INCIDENTS_TABLE" => table.name },
    var.heartbeat_secret_arn == null ? {} : { HEARTBEAT_URL_SECRET_ID = var.heartbeat_secret_arn },
    length(var.webhook_secret_arns) > 1 ? {} : { SLACK_WEBHOOK_SECRET_ID = local.webhook_secret_arns[0] },
  )

  # A worker that starts with these variables must find the secret's value.
  depends_on = [aws_secretsmanager_secret_version.webhook]
}

output "alarm_topic_arns" {
  description = "SNS topics that the alarms notify: `alarm_topic_arns`, and the topic of `alarm_email`."
  value       = var.alarms ? local.alarm_topic_arns : []
}

output "alarm_arns" {
  description = "ARNs of the alarms by name: dlq-not-empty, undelivered-not-empty, oldest-message, not-polling, nothing-sent, failed-invocations, events-lost, and silent-rule-NAME for each of `silent_rule_alarms`."
  value       = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.arn }
}
