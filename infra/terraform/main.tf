# Everything between the events of ECS and the alerts in Slack: rules, queue and secret (module messaging), and the service that
# consumes the queue (module worker). Each module can be used alone.

module "messaging" {
  source = "./modules/messaging"

  name = var.name
  tags = var.tags

  problems                = var.problems
  start_failures          = var.start_failures
  recoveries              = var.recoveries
  patterns                = var.patterns
  pattern_max_length      = var.pattern_max_length
  canary                  = var.canary
  event_bus_name          = var.event_bus_name
  create_event_bus        = var.create_event_bus
  allowed_account_ids     = var.allowed_account_ids
  allowed_organization_id = var.allowed_organization_id

  message_retention_seconds = var.message_retention_seconds
  max_receive_count         = var.max_receive_count
  kms_key_arn               = var.kms_key_arn

  webhook_secret_arns            = var.webhook_secret_arns
  webhook_url                    = var.webhook_url
  webhook_url_version            = var.webhook_url_version
  heartbeat_secret_arn           = var.heartbeat_secret_arn
  secret_kms_key_arns            = var.secret_kms_key_arns
  secret_recovery_window_in_days = var.secret_recovery_window_in_days

  diagnose_log_group_arns = var.diagnose_log_group_arns

  incidents_table                     = var.incidents_table
  incidents_table_deletion_protection = var.incidents_table_deletion_protection

  alarms                       = var.alarms
  alarm_topic_arns             = var.alarm_topic_arns
  alarm_email                  = var.alarm_email
  runbook_url                  = var.runbook_url
  nothing_sent_alarm_hours     = var.nothing_sent_alarm_hours
  silent_rule_alarms           = var.silent_rule_alarms
  oldest_message_alarm_seconds = var.oldest_message_alarm_seconds
}

locals {
  # Where the configuration says where its channels post, SLACK_WEBHOOK_SECRET_ID would override it: the variable would turn a bot's channel
  # into a webhook's, and the worker refuses it for several channels. A key may be at the start of a line or in an inline table.
  has_targets = (
    can(regex("(?m)^([^#\n]*[{,])?[ \t]*[\"']?(webhook_secret_id|bot_token_secret_id)[\"']?[ \t]*=", var.config_content)) ||
    lookup(var.environment, "SLACK_BOT_TOKEN_SECRET_ID", "") != ""
  )

  environment = {
    for name, value in module.messaging.environment : name => value
    if name != "SLACK_WEBHOOK_SECRET_ID" || !local.has_targets
  }
}

module "worker" {
  source = "./modules/worker"

  name = var.name
  tags = var.tags

  image            = var.image
  cpu_architecture = var.cpu_architecture
  cpu              = var.cpu
  memory           = var.memory

  environment    = merge(local.environment, var.environment)
  config_content = var.config_content
  queue_name     = module.messaging.queue_name

  task_policies = merge(
    { consume = module.messaging.worker_policy_json },
    var.diagnose ? { diagnose = module.messaging.diagnose_policy_json } : {},
    var.dlq_commands ? { dlq = module.messaging.dlq_policy_json } : {},
  )

  subnet_ids               = var.subnet_ids
  security_group_ids       = var.security_group_ids
  scrape_security_group_id = var.scrape_security_group_id
  assign_public_ip         = var.assign_public_ip

  cluster_name                  = var.cluster_name
  container_insights            = var.container_insights
  capacity_provider_strategy    = var.capacity_provider_strategy
  autoscaling                   = var.autoscaling
  availability_zone_rebalancing = var.availability_zone_rebalancing
  deployment_alarm_names        = var.deployment_alarm_names

  permissions_boundary   = var.permissions_boundary
  shutdown_grace_seconds = var.shutdown_grace_seconds
  log_retention_days     = var.log_retention_days
  log_kms_key_arn        = var.log_kms_key_arn
}
