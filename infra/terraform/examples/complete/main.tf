# Everything, in a VPC that is there already: events of this account and of two others, two channels, alarms to the people
# on call.
#
# First, once for each webhook, put its URL into Secrets Manager, so that it is in no file and in no state:
#   aws secretsmanager create-secret --name monitoring/platform_slack_webhook --secret-string "$(cat)"

terraform {
  required_version = ">= 1.7"

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

resource "aws_sns_topic" "on_call" {
  name = "ecs-slack-alerts-on-call"
}

module "ecs_slack_alerts" {
  # From elsewhere: "git::https://…/ecs-slack-alerts.git//infra/terraform?ref=v1.0.0"
  source = "../.."

  name             = "ecs-slack-alerts"
  image            = var.image
  cpu_architecture = "ARM64"
  subnet_ids       = var.private_subnet_ids

  webhook_secret_arns = [for secret in data.aws_secretsmanager_secret.webhook : secret.arn]

  environment = { ACCOUNT_NAME = "production" }

  config_content = <<-TOML
    [[channel]]
    name = "platform-alerts"
    webhook_secret_id = "${data.aws_secretsmanager_secret.webhook["platform"].arn}"
    # Whom a critical incident notifies, once: a user group.
    # mention = "<!subteam^S0123456789>"

    [[channel]]
    name = "search-team"
    webhook_secret_id = "${data.aws_secretsmanager_secret.webhook["search"].arn}"
    fallback = "platform-alerts" # while Slack refuses this webhook

    [[route]]
    channel = "search-team"
    pattern = { resources = [{ wildcard = "*:service/search-*/*" }] }

    # No pattern: everything else that is a problem.
    [[route]]
    channel = "platform-alerts"
  TOML

  # CloudWatch alarms beside the events of ECS.
  patterns = {
    alarms = jsonencode({
      source      = ["aws.cloudwatch"]
      detail-type = ["CloudWatch Alarm State Change"]
      detail      = { state = { value = ["ALARM"] } }
    })
  }

  allowed_account_ids = var.sending_account_ids

  autoscaling = { min_tasks = 2, max_tasks = 4, backlog_per_task = 1000 }

  alarm_topic_arns = [aws_sns_topic.on_call.arn]

  tags = { service = "ecs-slack-alerts" }
}
