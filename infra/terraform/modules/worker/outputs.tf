output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = local.cluster_name
}

output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "ARN of the task definition, with its revision."
  value       = aws_ecs_task_definition.this.arn
}

output "task_role_arn" {
  description = "ARN of the worker's role. Policies of secrets and keys in other accounts need it."
  value       = aws_iam_role.task.arn
}

output "task_role_name" {
  description = "Name of the worker's role, to attach more policies."
  value       = aws_iam_role.task.name
}

output "security_group_ids" {
  description = "Security groups of the tasks."
  value       = local.security_group_ids
}

output "log_group_name" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.this.name
}
