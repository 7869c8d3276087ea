# Tests the root module without AWS: the two modules fit together.

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
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-west-1:123456789012:scalingPolicy:mock" }
  }
  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:mock" }
  }
  mock_data "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:given-AbCdEf" }
  }
}

variables {
  name        = "alerts"
  alarm_email = "on-call@example.org"
  # Terraform 1.11's tests cannot apply a module whose ephemeral variable is not set. Without webhook_url_version the module does not use it.
  webhook_url = "https://hooks.slack.com/services/T/B/x"
  image       = "ghcr.io/example/ecs-slack-alerts:1.0.0"
  subnet_ids  = ["subnet-1"]
}

run "least_that_is_needed" {
  assert {
    condition     = output.service_name == "alerts" && output.secret_arn == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mock-AbCdEf"
    error_message = "An image, a subnet and an address for alarms must be enough."
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

run "one_secret_with_a_bot_token" {
  variables {
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:bot-AbCdEf"]
    config_content      = "[[channel]]\nname = \"a\"\n  bot_token_secret_id = \"bot\"\nchannel_id = \"C0123456789\"\n"
  }

  assert {
    condition     = !contains(keys(output.environment), "SLACK_WEBHOOK_SECRET_ID") && output.environment["QUEUE_URL"] == output.queue_url
    error_message = "No variable must turn the bot's channel into a webhook's."
  }
}

run "one_secret_with_the_webhooks_of_several_channels" {
  variables {
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:all-AbCdEf"]
    config_content      = "channel = [{ name = \"a\", \"webhook_secret_id\" = \"all\", webhook_secret_key = \"a\" }, { name = \"b\", webhook_secret_id = \"all\" }]\n"
  }

  assert {
    condition     = !contains(keys(output.environment), "SLACK_WEBHOOK_SECRET_ID")
    error_message = "The worker refuses the variable if the file has several channels."
  }
}

run "bot_token_in_the_environment" {
  variables {
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:bot-AbCdEf"]
    environment         = { SLACK_BOT_TOKEN_SECRET_ID = "bot", SLACK_CHANNEL_ID = "C0123456789" }
  }

  assert {
    condition     = !contains(keys(output.environment), "SLACK_WEBHOOK_SECRET_ID")
    error_message = "The worker refuses a webhook and a bot token together."
  }
}

run "a_file_that_names_no_secret" {
  variables {
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:one-AbCdEf"]
    config_content      = "# webhook_secret_id = \"x\", bot_token_secret_id = \"y\"\n[[channel]]\nname = \"a\"\nmention = \"<!here>\"\n[heartbeat]\nurl_secret_id = \"z\"\n"
  }

  assert {
    condition     = output.environment["SLACK_WEBHOOK_SECRET_ID"] == var.webhook_secret_arns[0]
    error_message = "The channel gets its webhook from the variable."
  }
}

run "dashboard" {
  variables {
    dashboard = true
    canary    = "rate(1 hour)"
  }

  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : widget.properties.title] == [
      "Alarms", "Messages waiting", "Age of the oldest message (s)", "Sent, received, deleted", "Empty receives",
      "Events sent by each rule", "Processor and memory of the tasks (%)", "Messages by outcome", "Services with alerts", "The worker's warnings and errors",
    ]
    error_message = "The dashboard must show alarms, queues, rules, tasks and the log, in this order."
  }
  assert {
    condition = (
      jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets[1].properties.metrics[2] ==
      ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", "mock", { label = "undelivered" }]
    )
    error_message = "Each graph must show the queue that its label names."
  }
  assert {
    condition = contains(
      [for metric in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets[5].properties.metrics : jsonencode(metric)],
      jsonencode(["AWS/Events", "Invocations", "RuleName", "alerts-canary", { label = "canary" }])
    )
    error_message = "The graph of rules must have each of them."
  }
  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      startswith(widget.properties.query, "SOURCE '/ecs/alerts' | ") && widget.properties.region == "eu-west-1" if widget.type == "log"
    ])
    error_message = "The queries must read the worker's log."
  }
  # The log line of an undecodable message has another text.
  assert {
    condition     = !strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, "settled")
    error_message = "The graph of outcomes must have every outcome, whatever the text of its line."
  }
  # Two widgets in a row, and none overlap.
  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets : "${widget.x} ${widget.y}"] == [
      "0 0", "12 0", "0 6", "12 6", "0 12", "12 12", "0 18", "12 18", "0 24", "12 24",
    ]
    error_message = "The widgets must not overlap."
  }
}

run "no_dashboard_unless_asked" {
  assert {
    condition     = length(aws_cloudwatch_dashboard.this) == 0 && output.dashboard_name == null
    error_message = "There must be no dashboard by default, because it may cost money."
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
    error_message = "The example must create its own rule, and no secret in addition to the given ones."
  }
  assert {
    condition     = jsondecode(local.alarms).detail.state.value == ["ALARM", "OK"]
    error_message = "The rule must also send the recovery of an alarm. Otherwise its incident stays open."
  }
}
