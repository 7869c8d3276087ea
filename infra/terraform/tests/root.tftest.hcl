# The root module without AWS: the two modules fit together.

mock_provider "aws" {
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/alerts" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_ecs_task_definition" {
    defaults = { arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/alerts:1" }
  }
  mock_resource "aws_dynamodb_table" {
    defaults = { arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/mock" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-west-1:123456789012:mock", url = "https://sqs/mock" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock-AbCdEf" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:on-call" }
  }
  mock_data "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:given-AbCdEf" }
  }
}

variables {
  name       = "alerts"
  image      = "ghcr.io/example/ecs-slack-alerts:1.0.0"
  subnet_ids = ["subnet-1"]
}

run "least_that_is_needed" {
  assert {
    condition     = output.service_name == "alerts" && output.secret_arn == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock-AbCdEf"
    error_message = "An image and a subnet must be enough."
  }
  assert {
    condition     = output.environment["SLACK_WEBHOOK_SECRET_ID"] == output.secret_arn && output.environment["QUEUE_URL"] == output.queue_url
    error_message = "The environment must point at the queue and the secret."
  }
}

run "everything" {
  variables {
    webhook_secret_arns = [
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:one-AbCdEf",
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:two-AbCdEf",
    ]
    config_content     = "[[channel]]\nname = \"a\"\nwebhook_secret_id = \"one\"\n"
    environment        = { ACCOUNT_NAME = "production" }
    security_group_ids = ["sg-1"]
    dlq_commands       = true
  }

  assert {
    condition     = output.secret_arn == null && output.security_group_ids == tolist(["sg-1"])
    error_message = "What is given must be used."
  }
}

run "example" {
  module {
    source = "./examples/complete"
  }

  variables {
    region              = "eu-west-1"
    private_subnet_ids  = ["subnet-1", "subnet-2"]
    sending_account_ids = ["111111111111"]
  }

  assert {
    condition     = contains(keys(module.ecs_slack_alerts.rule_arns), "alarms") && module.ecs_slack_alerts.secret_arn == null
    error_message = "The example must make the rule of its own, and no secret beside the given ones."
  }
}
