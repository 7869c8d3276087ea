# The worker on ECS Fargate. Nothing can reach it from outside unless you allow it, its root file system is read-only, and its role has
# only the given policies. Roles are in roles.tf, scaling in autoscaling.tf.

locals {
  # arn:PARTITION:logs:REGION:ACCOUNT:log-group:NAME
  log_group_arn = split(":", aws_cloudwatch_log_group.this.arn)
  partition     = local.log_group_arn[1]
  region        = local.log_group_arn[3]
  account       = local.log_group_arn[4]

  # The drain ends within shutdown_grace_seconds. The further 10 s are for a last request and the exit. Fargate allows 120 s.
  stop_timeout = var.shutdown_grace_seconds + 10

  environment = merge(
    var.environment,
    { SHUTDOWN_GRACE = "${var.shutdown_grace_seconds}s" },
    var.config_content == null ? {} : { CONFIG_CONTENT = var.config_content },
  )

  cluster_name       = one(concat(aws_ecs_cluster.this[*].name, data.aws_ecs_cluster.given[*].cluster_name))
  security_group_ids = coalescelist(aws_security_group.this[*].id, var.security_group_ids)
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_ecs_cluster" "this" {
  count = var.cluster_name == null ? 1 : 0

  name = var.name
  tags = var.tags

  # The module does not need Container Insights, and AWS bills it by the metric.
  setting {
    name  = "containerInsights"
    value = var.container_insights
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  count = length(aws_ecs_cluster.this)

  cluster_name       = aws_ecs_cluster.this[count.index].name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

data "aws_ecs_cluster" "given" {
  count = var.cluster_name == null ? 0 : 1

  cluster_name = var.cluster_name
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = var.tags

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  container_definitions = jsonencode([{
    name      = "worker"
    image     = var.image
    command   = ["run"]
    essential = true

    # Sorted, so that the order of a map is never a change.
    environment = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]

    user                   = "65532:65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    stopTimeout            = local.stop_timeout

    healthCheck = {
      command     = ["CMD", "/ecs-slack-alerts", "health"]
      interval    = 30
      timeout     = 5
      retries     = 3
      startPeriod = 60
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = local.region
        awslogs-stream-prefix = "ecs"
        # While CloudWatch Logs is down, lose log lines rather than delay alerts.
        mode            = "non-blocking"
        max-buffer-size = "4m"
      }
    }
  }])

  lifecycle {
    precondition {
      condition = var.config_content != null || anytrue([
        for name in ["SLACK_WEBHOOK_SECRET_ID", "SLACK_BOT_TOKEN_SECRET_ID"] : lookup(local.environment, name, "") != ""
      ])
      error_message = "The worker has no webhook: set SLACK_WEBHOOK_SECRET_ID in environment, or name the channels and their secrets in config_content. For a bot token, set SLACK_BOT_TOKEN_SECRET_ID and SLACK_CHANNEL_ID."
    }
  }
}

resource "aws_ecs_service" "this" {
  name            = var.name
  cluster         = local.cluster_name
  task_definition = aws_ecs_task_definition.this.arn
  launch_type     = length(var.capacity_provider_strategy) == 0 ? "FARGATE" : null
  desired_count   = var.autoscaling.min_tasks
  propagate_tags  = "SERVICE"
  tags            = var.tags

  # ECS starts a new worker before it stops an old one. Meanwhile both consume the queue, which does no harm.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  dynamic "alarms" {
    for_each = length(var.deployment_alarm_names) == 0 ? [] : [var.deployment_alarm_names]
    content {
      enable      = true
      rollback    = true
      alarm_names = alarms.value
    }
  }

  dynamic "capacity_provider_strategy" {
    for_each = var.capacity_provider_strategy
    content {
      capacity_provider = capacity_provider_strategy.value.capacity_provider
      weight            = capacity_provider_strategy.value.weight
      base              = capacity_provider_strategy.value.base
    }
  }

  # Without it the provider replaces the service when the strategy changes.
  force_new_deployment = length(var.capacity_provider_strategy) > 0

  # Always set: if it is missing, version 5 of the provider uses DISABLED, and ECS itself ENABLED.
  availability_zone_rebalancing = var.availability_zone_rebalancing ? "ENABLED" : "DISABLED"

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = local.security_group_ids
    assign_public_ip = var.assign_public_ip
  }

  # A worker without its permissions exits at once, and the circuit breaker would treat that as a bad version.
  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy.task,
    aws_vpc_security_group_egress_rule.https,
    aws_ecs_cluster_capacity_providers.this,
  ]

  lifecycle {
    # Autoscaling sets the number, even if min_tasks and max_tasks are equal.
    ignore_changes = [desired_count]
  }
}

data "aws_subnet" "first" {
  count = length(var.security_group_ids) == 0 ? 1 : 0

  id = var.subnet_ids[0]
}

resource "aws_security_group" "this" {
  count = length(var.security_group_ids) == 0 ? 1 : 0

  name        = var.name
  description = "ecs-slack-alerts: HTTPS to AWS and Slack, nothing in but Prometheus."
  vpc_id      = data.aws_subnet.first[0].vpc_id
  tags        = var.tags
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = length(var.security_group_ids) == 0 ? toset(["ipv4", "ipv6"]) : []

  security_group_id = aws_security_group.this[0].id
  description       = "HTTPS to AWS and Slack"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key == "ipv4" ? "0.0.0.0/0" : null
  cidr_ipv6         = each.key == "ipv6" ? "::/0" : null
}

resource "aws_vpc_security_group_ingress_rule" "scrape" {
  count = var.scrape_security_group_id == null ? 0 : 1

  security_group_id            = aws_security_group.this[0].id
  description                  = "Prometheus scrapes /metrics"
  ip_protocol                  = "tcp"
  from_port                    = 9090
  to_port                      = 9090
  referenced_security_group_id = var.scrape_security_group_id
}
