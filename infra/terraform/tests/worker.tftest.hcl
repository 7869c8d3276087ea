# Tests modules/worker without AWS: the task, its roles, its scaling, and refused inputs.

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
  mock_resource "aws_security_group" {
    defaults = { id = "sg-created" }
  }
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-west-1:123456789012:scalingPolicy:mock" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-1" }
  }
}

variables {
  name          = "alerts"
  image         = "ghcr.io/example/ecs-slack-alerts:1.0.0"
  environment   = { QUEUE_URL = "https://sqs/alerts", SLACK_WEBHOOK_SECRET_ID = "webhook" }
  task_policies = { consume = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  queue_name    = "alerts"
  subnet_ids    = ["subnet-1", "subnet-2"]
}

run "task" {
  module {
    source = "./modules/worker"
  }

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem &&
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "65532:65532" &&
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"] &&
      !can(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].portMappings)
    )
    error_message = "The container must have a read-only root file system, no root user, no capabilities and no ports."
  }
  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].command == ["run"] &&
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "/ecs-slack-alerts", "health"]
    )
    error_message = "The container must run the worker, and its health check must need no shell."
  }
  assert {
    condition = { for variable in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : variable.name => variable.value } == {
      QUEUE_URL = "https://sqs/alerts", SLACK_WEBHOOK_SECRET_ID = "webhook", SHUTDOWN_GRACE = "25s"
    }
    error_message = "The worker must get its environment."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 35
    error_message = "ECS must wait longer than the drain takes."
  }
  assert {
    condition = (
      aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64" &&
      aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"]) &&
      aws_ecs_task_definition.this.network_mode == "awsvpc"
    )
    error_message = "The task must be for Fargate, and on ARM by default."
  }
}

run "service" {
  module {
    source = "./modules/worker"
  }

  assert {
    condition = (
      aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback &&
      aws_ecs_service.this.deployment_minimum_healthy_percent == 100 && aws_ecs_service.this.deployment_maximum_percent == 200
    )
    error_message = "A bad version must be rolled back, a good one must start before the old one stops."
  }
  assert {
    condition = (
      !aws_ecs_service.this.network_configuration[0].assign_public_ip &&
      aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-created"]) &&
      aws_security_group.this[0].vpc_id == "vpc-1"
    )
    error_message = "Without security groups, one must be created in the subnets' VPC."
  }
  assert {
    condition = { for key, rule in aws_vpc_security_group_egress_rule.https : coalesce(rule.cidr_ipv4, rule.cidr_ipv6) => "${rule.ip_protocol} ${rule.from_port}-${rule.to_port}" } == {
      "0.0.0.0/0" = "tcp 443-443"
      "::/0"      = "tcp 443-443"
    }
    error_message = "Only HTTPS may leave, by IPv4 and IPv6."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.scrape) == 0
    error_message = "There must be no ingress rule."
  }
  assert {
    condition     = aws_ecs_cluster.this[0].name == "alerts" && one(aws_ecs_cluster.this[0].setting).value == "disabled"
    error_message = "Without a cluster, one must be created, without Container Insights, which costs and is not needed."
  }
  assert {
    condition     = aws_ecs_service.this.launch_type == "FARGATE" && length(aws_ecs_service.this.capacity_provider_strategy) == 0
    error_message = "Without capacity providers, the launch type must be Fargate."
  }
  assert {
    condition     = aws_ecs_service.this.availability_zone_rebalancing == "ENABLED" && length(aws_ecs_service.this.alarms) == 0
    error_message = "ECS must keep the tasks spread over Availability Zones."
  }
  assert {
    condition     = aws_cloudwatch_log_group.this.name == "/ecs/alerts" && aws_cloudwatch_log_group.this.retention_in_days == 30
    error_message = "The log must be kept for 30 days."
  }
}

run "into_what_is_there" {
  module {
    source = "./modules/worker"
  }

  variables {
    cluster_name       = "platform"
    security_group_ids = ["sg-mine"]
    cpu_architecture   = "X86_64"
  }

  assert {
    condition     = length(aws_ecs_cluster.this) + length(aws_ecs_cluster_capacity_providers.this) + length(aws_security_group.this) + length(aws_vpc_security_group_egress_rule.https) == 0
    error_message = "The module must create no cluster and no security group if they are given."
  }
  assert {
    condition = (
      aws_ecs_service.this.cluster == "platform" &&
      aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-mine"]) &&
      aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64" &&
      aws_appautoscaling_target.this.resource_id == "service/platform/alerts"
    )
    error_message = "What is given must be used."
  }
}

run "roles" {
  module {
    source = "./modules/worker"
  }

  assert {
    condition = jsondecode(aws_iam_role.task.assume_role_policy).Statement == [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = "123456789012" }
        ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:eu-west-1:123456789012:*" }
      }
    }]
    error_message = "Only ECS tasks of this account may assume the role."
  }
  assert {
    condition     = tomap({ for key, policy in aws_iam_role_policy.task : policy.name => policy.policy }) == var.task_policies
    error_message = "The task's role must have the given policies and no other."
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.execution.policy).Statement == [{
      Sid      = "Log"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = ["arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/alerts:log-stream:*"]
    }]
    error_message = "For a public image, the execution role must write the log and nothing else."
  }
}

run "image_in_ecr" {
  module {
    source = "./modules/worker"
  }

  variables {
    image = "210987654321.dkr.ecr.eu-central-1.amazonaws.com/team/ecs-slack-alerts@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.execution.policy).Statement : "${join(" ", statement.Action)} ${join(" ", statement.Resource)}"] == [
      "logs:CreateLogStream logs:PutLogEvents arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/alerts:log-stream:*",
      "ecr:BatchCheckLayerAvailability ecr:BatchGetImage ecr:GetDownloadUrlForLayer arn:aws:ecr:eu-central-1:210987654321:repository/team/ecs-slack-alerts",
      "ecr:GetAuthorizationToken *",
    ]
    error_message = "The execution role must pull from that repository and no other."
  }
}

run "one_task_unless_told_otherwise" {
  module {
    source = "./modules/worker"
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 1 && aws_appautoscaling_target.this.max_capacity == 1 && aws_ecs_service.this.desired_count == 1
    error_message = "One task must be the default."
  }
  assert {
    condition     = length(aws_appautoscaling_policy.this) + length(aws_cloudwatch_metric_alarm.scale) == 0
    error_message = "With a fixed number of tasks there must be no scaling policy and no scaling alarm."
  }
}

run "scaling" {
  module {
    source = "./modules/worker"
  }

  variables {
    autoscaling = { max_tasks = 3, backlog = 500 }
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 1 && aws_appautoscaling_target.this.max_capacity == 3
    error_message = "The number of tasks must keep within its bounds."
  }
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.scale :
      alarm.namespace == "AWS/SQS" && alarm.metric_name == "ApproximateNumberOfMessagesVisible" && alarm.dimensions == tomap({ QueueName = "alerts" }) &&
      alarm.threshold == 500 && alarm.treat_missing_data == "notBreaching"
    ])
    error_message = "The waiting messages of the queue must decide about scaling, and missing data must scale nothing."
  }
  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.scale : key => join(" ", [
        alarm.comparison_operator, alarm.evaluation_periods, "x", alarm.period,
        aws_appautoscaling_policy.this[key].step_scaling_policy_configuration[0].cooldown,
        one(aws_appautoscaling_policy.this[key].step_scaling_policy_configuration[0].step_adjustment).scaling_adjustment,
      ])
      } == {
      out = "GreaterThanThreshold 1 x 60 60 1"
      in  = "LessThanOrEqualToThreshold 15 x 60 900 -1"
    }
    error_message = "The service must scale out quickly and in slowly, one task at a time."
  }
  # A step covers all values on its side of the threshold, or some backlog would scale nothing.
  assert {
    condition = (
      one(aws_appautoscaling_policy.this["out"].step_scaling_policy_configuration[0].step_adjustment).metric_interval_lower_bound == "0" &&
      one(aws_appautoscaling_policy.this["out"].step_scaling_policy_configuration[0].step_adjustment).metric_interval_upper_bound == null &&
      one(aws_appautoscaling_policy.this["in"].step_scaling_policy_configuration[0].step_adjustment).metric_interval_upper_bound == "0" &&
      one(aws_appautoscaling_policy.this["in"].step_scaling_policy_configuration[0].step_adjustment).metric_interval_lower_bound == null
    )
    error_message = "Each step must cover its side of the threshold."
  }
}

run "spot" {
  # A separate state: the provider keeps attributes of an earlier service.
  state_key = "spot"

  module {
    source = "./modules/worker"
  }

  variables {
    capacity_provider_strategy = [{ capacity_provider = "FARGATE", base = 1 }, { capacity_provider = "FARGATE_SPOT", weight = 3 }]
  }

  assert {
    condition     = aws_ecs_service.this.launch_type != "FARGATE" && aws_ecs_service.this.force_new_deployment
    error_message = "A service has a launch type or capacity providers, and a change of these must not replace it."
  }
  assert {
    condition = toset([for provider in aws_ecs_service.this.capacity_provider_strategy : "${provider.capacity_provider} ${provider.weight} ${provider.base}"]) == toset([
      "FARGATE 1 1", "FARGATE_SPOT 3 0",
    ])
    error_message = "The service must have these providers."
  }
  assert {
    condition     = aws_ecs_cluster_capacity_providers.this[0].capacity_providers == toset(["FARGATE", "FARGATE_SPOT"])
    error_message = "A cluster that is created must have both providers."
  }
}

run "as_an_organisation_may_want_it" {
  module {
    source = "./modules/worker"
  }

  variables {
    permissions_boundary          = "arn:aws:iam::123456789012:policy/boundary"
    log_kms_key_arn               = "arn:aws:kms:eu-west-1:123456789012:key/logs"
    container_insights            = "enhanced"
    availability_zone_rebalancing = false
    deployment_alarm_names        = ["errors"]
    scrape_security_group_id      = "sg-prometheus"
  }

  assert {
    condition     = aws_iam_role.task.permissions_boundary == var.permissions_boundary && aws_iam_role.execution.permissions_boundary == var.permissions_boundary
    error_message = "The boundary must hold for both roles."
  }
  assert {
    condition     = aws_cloudwatch_log_group.this.kms_key_id == var.log_kms_key_arn
    error_message = "The log must be encrypted by the given key."
  }
  assert {
    condition     = one(aws_ecs_cluster.this[0].setting).value == "enhanced" && aws_ecs_service.this.availability_zone_rebalancing == "DISABLED"
    error_message = "What is asked for must be set."
  }
  assert {
    condition     = aws_ecs_service.this.alarms[0].enable && aws_ecs_service.this.alarms[0].rollback && aws_ecs_service.this.alarms[0].alarm_names == toset(["errors"])
    error_message = "The alarms must roll a deployment back."
  }
  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.scrape[0].referenced_security_group_id == "sg-prometheus" &&
      aws_vpc_security_group_ingress_rule.scrape[0].from_port == 9090 && aws_vpc_security_group_ingress_rule.scrape[0].to_port == 9090 &&
      aws_vpc_security_group_ingress_rule.scrape[0].security_group_id == "sg-created" && aws_vpc_security_group_ingress_rule.scrape[0].cidr_ipv4 == null
    )
    error_message = "Prometheus, and nobody else, must be able to scrape."
  }
}

run "refuses_what_would_do_nothing" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    scrape_security_group_id   = "sg-prometheus"
    security_group_ids         = ["sg-mine"]
    container_insights         = "on"
    capacity_provider_strategy = [{ capacity_provider = "my-instances" }]
  }

  expect_failures = [var.scrape_security_group_id, var.container_insights, var.capacity_provider_strategy]
}

run "longest_drain" {
  module {
    source = "./modules/worker"
  }

  variables {
    shutdown_grace_seconds = 110
  }

  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 120 &&
      contains(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment, { name = "SHUTDOWN_GRACE", value = "110s" })
    )
    error_message = "stopTimeout must follow the grace, up to Fargate's 120 s."
  }
}

run "refuses_a_drain_that_ecs_would_cut_off" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    shutdown_grace_seconds = 111
  }

  expect_failures = [var.shutdown_grace_seconds]
}

run "configuration_file" {
  module {
    source = "./modules/worker"
  }

  variables {
    environment    = { QUEUE_URL = "https://sqs/alerts" }
    config_content = "[[channel]]\nname = \"a\"\nwebhook_secret_id = \"b\"\n"
  }

  assert {
    condition = contains(jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment, {
      name = "CONFIG_CONTENT", value = "[[channel]]\nname = \"a\"\nwebhook_secret_id = \"b\"\n"
    })
    error_message = "The worker must get the file's text unchanged."
  }
}

run "refuses_a_worker_without_webhook" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    environment = { QUEUE_URL = "https://sqs/alerts" }
  }

  expect_failures = [aws_ecs_task_definition.this]
}

run "refuses_an_empty_webhook" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    environment = { QUEUE_URL = "https://sqs/alerts", SLACK_WEBHOOK_SECRET_ID = "" }
  }

  expect_failures = [aws_ecs_task_definition.this]
}

run "accepts_a_bot_token" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    environment = { QUEUE_URL = "https://sqs/alerts", SLACK_BOT_TOKEN_SECRET_ID = "bot", SLACK_CHANNEL_ID = "C0123456789" }
  }

  assert {
    condition     = !contains(keys(var.environment), "SLACK_WEBHOOK_SECRET_ID")
    error_message = "A bot token must be enough."
  }
}

run "refuses_secrets_and_what_would_contradict" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    environment    = { SLACK_WEBHOOK_URL = "https://hooks.slack.com/services/T/B/x", SHUTDOWN_GRACE = "5m", HEARTBEAT_URL = "https://hc-ping.com/x" }
    config_content = "[[channel]]\nname = \"a\"\nwebhook_url = \"https://hooks.slack.com/services/T/B/x\"\n"
  }

  expect_failures = [var.environment, var.config_content]
}

run "refuses_what_aws_would_refuse_later" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    name               = "with space"
    image              = "ghcr.io/example/ecs-slack-alerts:latest"
    cpu_architecture   = "x86"
    cpu                = 300
    memory             = 700
    subnet_ids         = []
    autoscaling        = { min_tasks = 0, max_tasks = 1 }
    log_retention_days = 31
  }

  expect_failures = [
    var.name, var.image, var.cpu_architecture, var.cpu, var.memory, var.subnet_ids, var.autoscaling, var.log_retention_days,
  ]
}

run "refuses_an_image_without_version" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    image = "localhost:5000/ecs-slack-alerts"
  }

  expect_failures = [var.image]
}

run "refuses_fewer_at_most_than_at_least" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    autoscaling = { min_tasks = 4 }
  }

  expect_failures = [var.autoscaling]
}
