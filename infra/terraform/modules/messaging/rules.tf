# Each pattern keeps to EventBridge's quota of 2,048 characters. The rules filter out frequent routine events. They let all rare events
# through, and the worker decides about these. No event matches two of the preset rules.

locals {
  # The eventNames of "ECS Service Action" that are never a problem. The pattern excludes these, so that it lets names through that ECS
  # adds later. SERVICE_DEPLOYMENT_IN_PROGRESS is not in the list, because only its text shows whether it is a rollback.
  routine = ["CAPACITY_PROVIDER_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED", "SERVICE_DESIRED_COUNT_UPDATED",
  "SERVICE_STEADY_STATE", "TASKSET_STEADY_STATE", "TASKS_STOPPED"]

  problems = {
    services = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Service Action", "ECS Daemon Service Action"]
      detail      = { eventName = [{ anything-but = local.routine }, { exists = false }] }
    }

    # There are few of these events, and only their text shows a rollback.
    deployments = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Deployment State Change", "ECS Daemon Deployment State Change", "ECS Hook State Change"]
    }

    # All stopped tasks: the cause follows from stopCode, reasons and exit codes together. And Spot's two-minute warning, which
    # comes while the task still runs.
    tasks = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Task State Change"]
      detail = {
        "$or" = [
          { lastStatus = ["STOPPED", { exists = false }] },
          { lastStatus = ["RUNNING"], stopCode = ["SpotInterruption", "TerminationNotice"] },
        ]
      }
    }

    # Agents normally reconnect several times an hour; those events are left out.
    instances = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Container Instance State Change"]
      detail      = { status = ["REGISTRATION_FAILED", { exists = false }] }
    }

    instance-health = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Container Instance Health Change"]
      detail = {
        overallStatus = [{ anything-but = ["OK", "INITIALIZING", "INSUFFICIENT_DATA"] }, { exists = false }]
      }
    }

    # Kinds of event that ECS adds later, if ECS itself marks them as an error or a warning.
    others = {
      source = ["aws.ecs"]
      detail-type = [{
        anything-but = [
          "ECS Container Instance Health Change",
          "ECS Container Instance State Change",
          "ECS Daemon Deployment State Change",
          "ECS Daemon Service Action",
          "ECS Deployment State Change",
          "ECS Hook State Change",
          "ECS Service Action",
          "ECS Task State Change",
        ]
      }]
      detail = { eventType = ["ERROR", "WARN", "WARNING"] }
    }

    # Tasks that AWS retires, and problems of ECS itself.
    health = {
      source      = ["aws.health"]
      detail-type = ["AWS Health Event"]
      detail      = { service = ["ECS"] }
    }
  }

  # A call that succeeds may still have started no task: then its answer has failures.
  start_failures = {
    start-failures = {
      source      = ["aws.ecs"]
      detail-type = ["AWS API Call via CloudTrail"]
      detail = {
        eventSource = ["ecs.amazonaws.com"]
        eventName   = ["RunTask", "StartTask"]
        "$or" = [
          { errorCode = [{ exists = true }] },
          { responseElements = { failures = { reason = [{ exists = true }] } } },
        ]
      }
    }
  }

  recoveries = {
    recoveries = {
      source      = ["aws.ecs"]
      detail-type = ["ECS Service Action", "ECS Container Instance Health Change"]
      detail = {
        "$or" = [
          {
            eventName = ["CAPACITY_PROVIDER_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED", "SERVICE_STEADY_STATE",
            "TASKSET_STEADY_STATE"]
          },
          { overallStatus = ["OK"] },
        ]
      }
    }
  }

  descriptions = {
    services        = "Services and daemons: all but routine actions."
    deployments     = "Deployments, rollbacks and lifecycle hooks."
    tasks           = "Tasks that stopped, and Spot interruption warnings."
    instances       = "Container instances that failed to register."
    instance-health = "Container instances that are impaired."
    health          = "AWS Health events about ECS: tasks that are retired, problems of ECS itself."
    start-failures  = "Tasks that RunTask or StartTask did not start, by CloudTrail."
    others          = "New kinds of event that ECS calls errors or warnings."
    recoveries      = "Recoveries of services, deployments and instances."
  }

  patterns = merge(
    var.problems ? { for name, pattern in local.problems : name => jsonencode(pattern) } : {},
    var.start_failures ? { for name, pattern in local.start_failures : name => jsonencode(pattern) } : {},
    var.recoveries ? { for name, pattern in local.recoveries : name => jsonencode(pattern) } : {},
    var.patterns,
  )

  # The rules of all patterns, and the canary's.
  rules = merge(aws_cloudwatch_event_rule.this, { for rule in aws_cloudwatch_event_rule.canary : "canary" => rule })

  event_bus_name = var.create_event_bus ? aws_cloudwatch_event_bus.this[0].name : var.event_bus_name
}

resource "aws_cloudwatch_event_bus" "this" {
  count = var.create_event_bus ? 1 : 0

  name = var.event_bus_name
  tags = var.tags

  lifecycle {
    precondition {
      condition     = var.event_bus_name != "default"
      error_message = "create_event_bus needs an event_bus_name: the bus named \"default\" exists in every account."
    }
  }
}

# One statement for each sender. These do not change statements that the bus's policy already has.
resource "aws_cloudwatch_event_permission" "account" {
  for_each = toset(var.allowed_account_ids)

  event_bus_name = local.event_bus_name
  statement_id   = "${var.name}-${each.key}"
  action         = "events:PutEvents"
  principal      = each.key
}

resource "aws_cloudwatch_event_permission" "organization" {
  count = var.allowed_organization_id == null ? 0 : 1

  event_bus_name = local.event_bus_name
  statement_id   = "${var.name}-organization"
  action         = "events:PutEvents"
  principal      = "*"

  condition {
    key   = "aws:PrincipalOrgID"
    type  = "StringEquals"
    value = var.allowed_organization_id
  }
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = local.patterns

  name           = "${var.name}-${each.key}"
  description    = lookup(local.descriptions, each.key, "Sends events to ${var.name}.")
  event_bus_name = local.event_bus_name
  event_pattern  = each.value
  tags           = var.tags

  lifecycle {
    precondition {
      condition     = length(each.value) <= var.pattern_max_length
      error_message = "The pattern ${each.key} has ${length(each.value)} characters, more than EventBridge allows (pattern_max_length = ${var.pattern_max_length}): split it into several patterns, or ask AWS for a higher quota."
    }
  }
}

resource "aws_cloudwatch_event_target" "queue" {
  for_each = aws_cloudwatch_event_rule.this

  rule           = each.value.name
  event_bus_name = local.event_bus_name
  target_id      = "queue"
  arn            = aws_sqs_queue.main.arn

  # EventBridge's longest retry policy. With a shorter one, a long outage of SQS would lose events, because the undelivered queue
  # would be down too.
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }

  # EventBridge does not retry an event that comes before the queue's policy allows it.
  depends_on = [aws_sqs_queue_policy.this]
}
