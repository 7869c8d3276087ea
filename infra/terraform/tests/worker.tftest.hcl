# modules/worker without AWS: the task, its roles, its scaling, and what is refused.

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
  mock_data "aws_ecs_cluster" {
    defaults = { setting = [{ name = "containerInsights", value = "enhanced" }] }
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
    error_message = "The container must be locked down."
  }
  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].command == ["run"] &&
      jsondecode(aws_ecs_task_definition.this.container_definitions)[0].healthCheck.command == ["CMD", "/ecs-slack-alerts", "health"]
    )
    error_message = "The container must run the worker, and ask it how it is without a shell."
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
      aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "X86_64" &&
      aws_ecs_task_definition.this.requires_compatibilities == toset(["FARGATE"]) &&
      aws_ecs_task_definition.this.network_mode == "awsvpc"
    )
    error_message = "The task must be one of Fargate's, on x86-64 unless told otherwise."
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
    condition = (
      aws_vpc_security_group_egress_rule.https[0].from_port == 443 && aws_vpc_security_group_egress_rule.https[0].to_port == 443 &&
      aws_vpc_security_group_egress_rule.https[0].ip_protocol == "tcp"
    )
    error_message = "Only HTTPS may leave."
  }
  assert {
    condition     = aws_ecs_cluster.this[0].name == "alerts" && one(aws_ecs_cluster.this[0].setting).value == "enabled"
    error_message = "Without a cluster, one with Container Insights must be created."
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
    cpu_architecture   = "ARM64"
  }

  assert {
    condition     = length(aws_ecs_cluster.this) + length(aws_security_group.this) + length(aws_vpc_security_group_egress_rule.https) == 0
    error_message = "Nothing must be created beside what is given."
  }
  assert {
    condition = (
      aws_ecs_service.this.cluster == "platform" &&
      aws_ecs_service.this.network_configuration[0].security_groups == toset(["sg-mine"]) &&
      aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64" &&
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
    error_message = "Only ECS tasks of this account may take on the role."
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

run "scaling" {
  module {
    source = "./modules/worker"
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 1 && aws_appautoscaling_target.this.max_capacity == 3 && aws_ecs_service.this.desired_count == 1
    error_message = "One task by default, up to three."
  }
  assert {
    condition = {
      for metric in aws_appautoscaling_policy.backlog[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      metric.id => metric.return_data ? metric.expression : try("${metric.metric_stat[0].stat} ${metric.metric_stat[0].metric[0].namespace} ${metric.metric_stat[0].metric[0].metric_name}", metric.expression)
      } == {
      visible = "Sum AWS/SQS ApproximateNumberOfMessagesVisible"
      running = "Average ECS/ContainerInsights RunningTaskCount"
      tasks   = "FILL(running, REPEAT)"
      backlog = "visible / IF(tasks > 0, tasks, 1)"
    }
    error_message = "The metric must be the backlog per task, also with no task."
  }
  assert {
    condition = {
      for metric in aws_appautoscaling_policy.backlog[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].metrics :
      metric.id => { for dimension in metric.metric_stat[0].metric[0].dimensions : dimension.name => dimension.value }
      if length(metric.metric_stat) > 0
      } == {
      visible = { QueueName = "alerts" }
      running = { ClusterName = "alerts", ServiceName = "alerts" }
    }
    error_message = "The metrics must be of this queue and this service."
  }
  assert {
    condition = (
      aws_appautoscaling_policy.backlog[0].target_tracking_scaling_policy_configuration[0].target_value == 1000 &&
      aws_appautoscaling_policy.backlog[0].target_tracking_scaling_policy_configuration[0].scale_out_cooldown == 60 &&
      aws_appautoscaling_policy.backlog[0].target_tracking_scaling_policy_configuration[0].scale_in_cooldown == 900
    )
    error_message = "It must scale out quickly and in slowly."
  }
}

run "fixed_number_of_tasks" {
  module {
    source = "./modules/worker"
  }

  variables {
    autoscaling  = { min_tasks = 2, max_tasks = 2 }
    cluster_name = "platform"
  }

  # Then the cluster needs no Container Insights.
  override_data {
    target = data.aws_ecs_cluster.given
    values = { setting = [{ name = "containerInsights", value = "disabled" }] }
  }

  assert {
    condition     = length(aws_appautoscaling_policy.backlog) == 0 && aws_appautoscaling_target.this.min_capacity == 2 && aws_appautoscaling_target.this.max_capacity == 2
    error_message = "min_tasks = max_tasks must fix the number."
  }
}

run "refuses_to_scale_by_a_metric_that_is_not_there" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    cluster_name = "platform"
  }

  override_data {
    target = data.aws_ecs_cluster.given
    values = { setting = [{ name = "containerInsights", value = "disabled" }] }
  }

  expect_failures = [aws_appautoscaling_policy.backlog]
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
    error_message = "The file must reach the worker as it is."
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

run "refuses_secrets_and_what_would_contradict" {
  command = plan

  module {
    source = "./modules/worker"
  }

  variables {
    environment    = { SLACK_WEBHOOK_URL = "https://hooks.slack.com/services/T/B/x", SHUTDOWN_GRACE = "5m" }
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
