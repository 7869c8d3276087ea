# The whole system in an existing VPC: events of this account and of others, two channels, alarms to the people on call.
#
# First, once for each webhook, store its URL in Secrets Manager by hand, so that it is in no file, no state and no list of processes.
# Run this, paste the URL, and press Ctrl-D:
#   aws secretsmanager create-secret --name monitoring/platform_slack_webhook --secret-string file:///dev/stdin

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_secretsmanager_secret" "webhook" {
  for_each = toset(["platform", "search"])

  name = "monitoring/${each.key}_slack_webhook"
}

locals {
  # CloudWatch alarms, in addition to the events of ECS. OK is the recovery of an alarm, which ends its incident.
  alarms = jsonencode({
    source      = ["aws.cloudwatch"]
    detail-type = ["CloudWatch Alarm State Change"]
    detail      = { state = { value = ["ALARM", "OK"] } }
  })
}

resource "aws_sns_topic" "on_call" {
  name = "ecs-slack-alerts-on-call"
}

module "ecs_slack_alerts" {
  # From your own repository: "git::https://…/ecs-slack-alerts.git//infra/terraform?ref=v0.2.0"
  source = "../.."

  name       = "ecs-slack-alerts"
  image      = var.image
  subnet_ids = var.private_subnet_ids

  webhook_secret_arns = [for secret in data.aws_secretsmanager_secret.webhook : secret.arn]

  environment = { ACCOUNT_NAME = "production" }

  config_content = file("${path.module}/config.toml")

  patterns = { alarms = local.alarms }

  allowed_account_ids = var.sending_account_ids

  # Two tasks, so that alerts continue if an Availability Zone is lost. The first runs on ordinary Fargate; the second runs on spare
  # capacity (Spot), which AWS may take back.
  autoscaling = { min_tasks = 2, max_tasks = 2 }
  capacity_provider_strategy = [
    { capacity_provider = "FARGATE", base = 1 },
    { capacity_provider = "FARGATE_SPOT", weight = 4 },
  ]

  # A canary every hour shows that events arrive. After two hours without any message, an alarm goes off.
  canary                   = "rate(1 hour)"
  nothing_sent_alarm_hours = 2
  silent_rule_alarms       = ["recoveries"]
  alarm_topic_arns         = [aws_sns_topic.on_call.arn]
  runbook_url              = "https://git.example.org/platform/ecs-slack-alerts/docs/operations.md"
  dashboard                = true

  tags = { service = "ecs-slack-alerts" }
}
