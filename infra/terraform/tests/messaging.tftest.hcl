# Tests modules/messaging without AWS: names, rules, policies, and refused inputs.

mock_provider "aws" {
  override_resource {
    target = aws_sqs_queue.main
    values = { arn = "arn:aws:sqs:eu-west-1:123456789012:alerts", url = "https://sqs/alerts" }
  }
  override_resource {
    target = aws_sqs_queue.dlq
    values = { arn = "arn:aws:sqs:eu-west-1:123456789012:alerts-dlq", url = "https://sqs/alerts-dlq" }
  }
  override_resource {
    target = aws_sqs_queue.undelivered
    values = { arn = "arn:aws:sqs:eu-west-1:123456789012:alerts-undelivered", url = "https://sqs/alerts-undelivered" }
  }
  override_resource {
    target = aws_secretsmanager_secret.webhook
    values = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:alerts/slack-webhook-AbCdEf" }
  }
  override_resource {
    target = aws_sns_topic.alarms
    values = { arn = "arn:aws:sns:eu-west-1:123456789012:alerts-alarms" }
  }
  override_resource {
    target = aws_dynamodb_table.incidents
    values = { arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/alerts-incidents" }
  }
}

variables {
  name             = "alerts"
  alarm_topic_arns = ["arn:aws:sns:eu-west-1:123456789012:on-call"]
  # Terraform 1.11's tests cannot apply a module whose ephemeral variable is not set. Without webhook_url_version the module does not use it.
  webhook_url = "https://hooks.slack.com/services/T/B/x"
}

run "queues" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = [for queue in [aws_sqs_queue.main, aws_sqs_queue.dlq, aws_sqs_queue.undelivered] : queue.name] == ["alerts", "alerts-dlq", "alerts-undelivered"]
    error_message = "The queues must be named after var.name."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.main.redrive_policy) == { deadLetterTargetArn = aws_sqs_queue.dlq.arn, maxReceiveCount = 10 }
    error_message = "After 10 receives a message must go to the dead-letter queue."
  }
  assert {
    condition = jsondecode(aws_sqs_queue_redrive_allow_policy.dlq.redrive_allow_policy) == {
      redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.main.arn]
    }
    error_message = "Only the main queue may use the dead-letter queue."
  }
  assert {
    condition     = aws_sqs_queue.main.visibility_timeout_seconds == 120 && aws_sqs_queue.main.receive_wait_time_seconds == 20
    error_message = "The main queue must hide messages for 120 s and poll for 20 s."
  }
  assert {
    condition = (
      aws_sqs_queue.dlq.message_retention_seconds == 1209600 &&
      aws_sqs_queue.undelivered.message_retention_seconds == 1209600 &&
      aws_sqs_queue.main.message_retention_seconds < 1209600
    )
    error_message = "The dead-letter queues must keep messages for 14 days, longer than the main queue."
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.main, aws_sqs_queue.dlq, aws_sqs_queue.undelivered] : queue.sqs_managed_sse_enabled])
    error_message = "Without a key, SSE-SQS must encrypt all queues."
  }
}

run "rules" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = join(" ", keys(output.rule_arns)) == "deployments health instance-health instances others recoveries services tasks"
    error_message = "The presets must be these rules."
  }
  assert {
    condition     = alltrue([for key, rule in aws_cloudwatch_event_rule.this : rule.name == "alerts-${key}" && rule.event_bus_name == "default"])
    error_message = "Rules must be named after var.name, on the default bus."
  }
  assert {
    condition     = alltrue([for key, rule in aws_cloudwatch_event_rule.this : length(rule.event_pattern) <= 2048 && jsondecode(rule.event_pattern).source == [key == "health" ? "aws.health" : "aws.ecs"]])
    error_message = "Each pattern must match events of ECS or AWS Health, and have at most EventBridge's 2048 characters."
  }
  assert {
    condition = alltrue([
      for target in aws_cloudwatch_event_target.queue :
      target.arn == aws_sqs_queue.main.arn
      && target.dead_letter_config[0].arn == aws_sqs_queue.undelivered.arn
      && target.retry_policy[0].maximum_event_age_in_seconds == 86400
      && target.retry_policy[0].maximum_retry_attempts == 185
    ])
    error_message = "Each rule must target the queue, retry for a day, and keep what cannot be delivered."
  }
  assert {
    condition     = keys(aws_cloudwatch_event_target.queue) == keys(aws_cloudwatch_event_rule.this)
    error_message = "Each rule must have its target."
  }
}

run "problems_preset" {
  module {
    source = "./modules/messaging"
  }

  variables {
    recoveries = false
  }

  # Each kind of event that can be a problem is in exactly one rule.
  assert {
    condition = sort(flatten([
      for key, rule in aws_cloudwatch_event_rule.this : jsondecode(rule.event_pattern).detail-type if key != "others"
      ])) == tolist([
      "AWS Health Event",
      "ECS Container Instance Health Change",
      "ECS Container Instance State Change",
      "ECS Daemon Deployment State Change",
      "ECS Daemon Service Action",
      "ECS Deployment State Change",
      "ECS Hook State Change",
      "ECS Service Action",
      "ECS Task State Change",
    ])
    error_message = "A kind of ECS event is missing, or in two rules."
  }
  assert {
    condition = sort(jsondecode(aws_cloudwatch_event_rule.this["others"].event_pattern).detail-type[0].anything-but) == sort(flatten([
      for key, rule in aws_cloudwatch_event_rule.this : jsondecode(rule.event_pattern).detail-type if !contains(["others", "health"], key)
    ]))
    error_message = "The rule `others` must leave out the kinds of event of the other rules."
  }
  assert {
    condition = alltrue([
      for name in [
        "SERVICE_TASK_START_IMPAIRED", "SERVICE_TASK_PLACEMENT_FAILURE", "SERVICE_TASK_CONFIGURATION_FAILURE",
        "SERVICE_DAEMON_PLACEMENT_CONSTRAINT_VIOLATED", "SERVICE_DISCOVERY_INSTANCE_UNHEALTHY",
        "SERVICE_DISCOVERY_OPERATION_THROTTLED", "ECS_OPERATION_THROTTLED", "VPC_LATTICE_TARGET_UNHEALTHY",
        "SERVICE_HEALTH_UNKNOWN", "SERVICE_DEPLOYMENT_FAILED", "SERVICE_DEPLOYMENT_IN_PROGRESS", "A_NAME_OF_TOMORROW",
      ] : !contains(jsondecode(aws_cloudwatch_event_rule.this["services"].event_pattern).detail.eventName[0].anything-but, name)
    ])
    error_message = "The rule `services` must not filter out a service's problem."
  }
  assert {
    condition = alltrue([
      for name in ["SERVICE_STEADY_STATE", "SERVICE_DESIRED_COUNT_UPDATED", "TASKS_STOPPED"] :
      contains(jsondecode(aws_cloudwatch_event_rule.this["services"].event_pattern).detail.eventName[0].anything-but, name)
    ])
    error_message = "The rule `services` must filter out routine actions."
  }
  assert {
    condition     = !can(jsondecode(aws_cloudwatch_event_rule.this["deployments"].event_pattern).detail)
    error_message = "The rule `deployments` must send all deployment events: only their text shows a rollback."
  }
  assert {
    condition = (
      jsonencode(jsondecode(aws_cloudwatch_event_rule.this["tasks"].event_pattern).detail["$or"][0].lastStatus) == "[\"STOPPED\",{\"exists\":false}]" &&
      jsonencode(jsondecode(aws_cloudwatch_event_rule.this["tasks"].event_pattern).detail["$or"][1]) == "{\"lastStatus\":[\"RUNNING\"],\"stopCode\":[\"SpotInterruption\",\"TerminationNotice\"]}"
    )
    error_message = "The rule `tasks` must send stopped tasks and Spot warnings, and no other states of tasks."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.this["instances"].event_pattern).detail.status[0] == "REGISTRATION_FAILED"
    error_message = "The rule `instances` must send instances that failed to register."
  }
  assert {
    condition     = !contains(jsondecode(aws_cloudwatch_event_rule.this["instance-health"].event_pattern).detail.overallStatus[0].anything-but, "IMPAIRED")
    error_message = "The rule `instance-health` must send impaired instances."
  }
}

run "health_of_ecs_only" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.this["health"].event_pattern).detail == { service = ["ECS"] }
    error_message = "AWS Health has events of every AWS service: the rule must take only those of ECS."
  }
}

run "failed_starts_are_an_option" {
  module {
    source = "./modules/messaging"
  }

  variables {
    problems       = false
    recoveries     = false
    start_failures = true
  }

  assert {
    condition     = keys(output.rule_arns) == ["start-failures"] && length(aws_cloudwatch_event_rule.this["start-failures"].event_pattern) <= 2048
    error_message = "The option must make one rule, within EventBridge's 2048 characters."
  }
  assert {
    condition = (
      jsondecode(aws_cloudwatch_event_rule.this["start-failures"].event_pattern).detail-type == ["AWS API Call via CloudTrail"] &&
      jsondecode(aws_cloudwatch_event_rule.this["start-failures"].event_pattern).detail.eventName == ["RunTask", "StartTask"]
    )
    error_message = "The rule must take what CloudTrail records of RunTask and StartTask."
  }
  assert {
    condition = jsonencode(jsondecode(aws_cloudwatch_event_rule.this["start-failures"].event_pattern).detail["$or"]) == jsonencode([
      { errorCode = [{ exists = true }] },
      { responseElements = { failures = { reason = [{ exists = true }] } } },
    ])
    error_message = "The rule must take calls that failed and calls that started less than they were asked for, and no others."
  }
}

run "recoveries_preset" {
  module {
    source = "./modules/messaging"
  }

  variables {
    problems = false
  }

  assert {
    condition     = keys(output.rule_arns) == ["recoveries"]
    error_message = "There must be only the rule `recoveries`."
  }
  assert {
    condition = alltrue([
      for name in ["SERVICE_STEADY_STATE", "SERVICE_DEPLOYMENT_COMPLETED"] :
      contains(jsondecode(aws_cloudwatch_event_rule.this["recoveries"].event_pattern).detail["$or"][0].eventName, name)
    ])
    error_message = "The rule `recoveries` must send these recoveries."
  }
}

run "own_patterns" {
  module {
    source = "./modules/messaging"
  }

  variables {
    recoveries = false
    patterns = {
      alarms = "{\"source\":[\"aws.cloudwatch\"]}"
      tasks  = "{\"source\":[\"aws.ecs\"],\"detail\":{\"stopCode\":[\"TaskFailedToStart\"]}}"
    }
  }

  assert {
    condition     = aws_cloudwatch_event_rule.this["alarms"].event_pattern == "{\"source\":[\"aws.cloudwatch\"]}"
    error_message = "Each of var.patterns must become a rule."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.this["tasks"].event_pattern).detail.stopCode == ["TaskFailedToStart"]
    error_message = "A pattern with the name of a preset's rule must replace it."
  }
}

run "queue_policies" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition = alltrue([
      for key in ["main", "undelivered"] : jsonencode(jsondecode(aws_sqs_queue_policy.this[key].policy).Statement[0]) == jsonencode({
        Sid       = "OnlyTheseRulesSend"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = key == "main" ? aws_sqs_queue.main.arn : aws_sqs_queue.undelivered.arn
        Condition = { ArnEquals = { "aws:SourceArn" = sort(values(output.rule_arns)) } }
      })
    ])
    error_message = "Only EventBridge, for exactly these rules, may send."
  }
  assert {
    condition = alltrue([
      for policy in aws_sqs_queue_policy.this : contains([
        for statement in jsondecode(policy.policy).Statement :
        "${statement.Effect} ${jsonencode(statement.Principal)} ${statement.Action} ${jsonencode(statement.Condition)}"
      ], "Deny \"*\" sqs:* {\"Bool\":{\"aws:SecureTransport\":\"false\"}}")
    ])
    error_message = "Every queue must refuse plain HTTP."
  }
  assert {
    condition     = [for statement in jsondecode(aws_sqs_queue_policy.this["dlq"].policy).Statement : statement.Effect] == ["Deny"]
    error_message = "The policy of the dead-letter queue must allow nobody to send."
  }
}

run "without_rules_nobody_may_send" {
  module {
    source = "./modules/messaging"
  }

  variables {
    problems   = false
    recoveries = false
  }

  assert {
    condition     = alltrue([for policy in aws_sqs_queue_policy.this : [for statement in jsondecode(policy.policy).Statement : statement.Effect] == ["Deny"]])
    error_message = "Without rules, the policy must allow nobody to send."
  }
}

run "worker_policy" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition = jsondecode(output.worker_policy_json) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "Consume"
          Effect   = "Allow"
          Action   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:alerts"]
        },
        {
          Sid      = "CountDeadLetters"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:alerts-dlq"]
        },
        {
          Sid      = "ReadWebhooks"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:alerts/slack-webhook-AbCdEf"]
        },
        {
          Sid      = "ShareIncidents"
          Effect   = "Allow"
          Action   = ["dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
          Resource = ["arn:aws:dynamodb:eu-west-1:123456789012:table/alerts-incidents"]
        },
      ]
    }
    error_message = "The worker must get exactly this: ${output.worker_policy_json}"
  }
  assert {
    condition = jsondecode(output.dlq_policy_json) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid    = "ListAndRedrive"
          Effect = "Allow"
          Action = [
            "sqs:CancelMessageMoveTask", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl", "sqs:ListMessageMoveTasks", "sqs:ReceiveMessage", "sqs:StartMessageMoveTask",
          ]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:alerts-dlq", "arn:aws:sqs:eu-west-1:123456789012:alerts-undelivered"]
        },
        {
          Sid      = "RedriveTo"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
          Resource = ["arn:aws:sqs:eu-west-1:123456789012:alerts"]
        },
      ]
    }
    error_message = "The policy for dlq list and dlq redrive must allow exactly this: ${output.dlq_policy_json}"
  }
  assert {
    condition = jsondecode(output.diagnose_policy_json) == {
      Version = "2012-10-17"
      Statement = [
        {
          Sid      = "SeeServices"
          Effect   = "Allow"
          Action   = ["ecs:DescribeServiceDeployments", "ecs:DescribeServices", "ecs:DescribeTasks", "ecs:ListServiceDeployments"]
          Resource = ["arn:aws:ecs:*:123456789012:service/*", "arn:aws:ecs:*:123456789012:service-deployment/*", "arn:aws:ecs:*:123456789012:task/*"]
        },
        {
          Sid      = "SeeStoppedTasks"
          Effect   = "Allow"
          Action   = ["ecs:DescribeTaskDefinition", "ecs:ListTasks"]
          Resource = ["*"]
        },
        {
          Sid      = "SeeTargets"
          Effect   = "Allow"
          Action   = ["elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth"]
          Resource = ["*"]
        },
      ]
    }
    error_message = "To diagnose, the worker must get exactly this: ${output.diagnose_policy_json}"
  }
  assert {
    condition = output.environment == {
      QUEUE_URL               = "https://sqs/alerts"
      UNDELIVERED_QUEUE_URL   = "https://sqs/alerts-undelivered"
      AWS_REGION              = "eu-west-1"
      INCIDENTS_TABLE         = "alerts-incidents"
      SLACK_WEBHOOK_SECRET_ID = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:alerts/slack-webhook-AbCdEf"
    }
    error_message = "The environment must hold all variables that a worker needs."
  }
}

run "customer_keys" {
  module {
    source = "./modules/messaging"
  }

  variables {
    kms_key_arn         = "arn:aws:kms:eu-west-1:123456789012:key/queues"
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:mine-AbCdEf"]
    secret_kms_key_arns = ["arn:aws:kms:eu-west-1:123456789012:key/secrets"]

    diagnose_log_group_arns = ["arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/shop:*"]
  }

  assert {
    condition     = jsondecode(output.diagnose_policy_json).Statement[3].Resource == ["arn:aws:logs:eu-west-1:123456789012:log-group:/ecs/shop:log-stream:*"]
    error_message = "The worker must be able to read only the given log groups."
  }

  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.main, aws_sqs_queue.dlq, aws_sqs_queue.undelivered] : queue.kms_master_key_id == var.kms_key_arn])
    error_message = "The key must encrypt all queues."
  }
  assert {
    condition = jsondecode(output.worker_policy_json).Statement[4] == {
      Sid      = "Decrypt"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = ["arn:aws:kms:eu-west-1:123456789012:key/queues", "arn:aws:kms:eu-west-1:123456789012:key/secrets"]
    }
    error_message = "The worker must be able to decrypt with these keys and no other."
  }
  assert {
    condition = jsondecode(output.dlq_policy_json).Statement[2] == {
      Sid      = "Encrypt"
      Effect   = "Allow"
      Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
      Resource = ["arn:aws:kms:eu-west-1:123456789012:key/queues"]
    }
    error_message = "A redrive must be able to decrypt and encrypt."
  }
  assert {
    condition     = length(aws_secretsmanager_secret.webhook) == 0 && output.secret_arn == null
    error_message = "The module must create no secret if one is given."
  }
  assert {
    condition     = output.environment["SLACK_WEBHOOK_SECRET_ID"] == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:mine-AbCdEf"
    error_message = "The environment must name the given secret."
  }
}

run "table_of_incidents" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition = (
      aws_dynamodb_table.incidents[0].name == "alerts-incidents" &&
      aws_dynamodb_table.incidents[0].hash_key == "pk" &&
      aws_dynamodb_table.incidents[0].billing_mode == "PAY_PER_REQUEST" &&
      aws_dynamodb_table.incidents[0].ttl[0].attribute_name == "expires" &&
      aws_dynamodb_table.incidents[0].ttl[0].enabled &&
      length(aws_dynamodb_table.incidents[0].server_side_encryption) == 0
    )
    error_message = "The table must have the worker's key, expire its items, and be billed by request."
  }
  assert {
    condition     = output.environment["INCIDENTS_TABLE"] == "alerts-incidents" && output.incidents_table_name == "alerts-incidents"
    error_message = "The environment must name the table."
  }
}

run "table_with_a_key" {
  module {
    source = "./modules/messaging"
  }

  variables {
    kms_key_arn                         = "arn:aws:kms:eu-west-1:123456789012:key/queues"
    incidents_table_deletion_protection = true
  }

  assert {
    condition = (
      aws_dynamodb_table.incidents[0].server_side_encryption[0].kms_key_arn == var.kms_key_arn &&
      aws_dynamodb_table.incidents[0].deletion_protection_enabled
    )
    error_message = "The table must be encrypted by the given key, and be protected."
  }
}

run "no_table" {
  module {
    source = "./modules/messaging"
  }

  variables {
    incidents_table = false
  }

  assert {
    condition = (
      length(aws_dynamodb_table.incidents) == 0 &&
      !contains(keys(output.environment), "INCIDENTS_TABLE") &&
      length(jsondecode(output.worker_policy_json).Statement) == 3 &&
      output.incidents_table_name == null
    )
    error_message = "Without a table, the environment must name none, and the worker's policy must allow no DynamoDB action."
  }
}

run "several_secrets" {
  module {
    source = "./modules/messaging"
  }

  variables {
    webhook_secret_arns = [
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:one-AbCdEf",
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:two-AbCdEf",
    ]
  }

  assert {
    condition     = tolist(jsondecode(output.worker_policy_json).Statement[2].Resource) == var.webhook_secret_arns
    error_message = "The worker must be able to read these secrets and no other."
  }
  assert {
    condition     = !contains(keys(output.environment), "SLACK_WEBHOOK_SECRET_ID")
    error_message = "With several secrets, the environment must not name one: the configuration does."
  }
}

run "bus_of_its_own_for_other_accounts" {
  module {
    source = "./modules/messaging"
  }

  variables {
    event_bus_name          = "ecs-events"
    create_event_bus        = true
    allowed_account_ids     = ["111111111111", "222222222222"]
    allowed_organization_id = "o-a1b2c3d4e5"
  }

  assert {
    condition     = aws_cloudwatch_event_bus.this[0].name == "ecs-events" && alltrue([for rule in aws_cloudwatch_event_rule.this : rule.event_bus_name == "ecs-events"])
    error_message = "The rules must be on the new bus."
  }
  assert {
    condition = {
      for permission in aws_cloudwatch_event_permission.account : permission.principal => "${permission.action} ${permission.event_bus_name} ${permission.statement_id}"
      } == {
      "111111111111" = "events:PutEvents ecs-events alerts-111111111111"
      "222222222222" = "events:PutEvents ecs-events alerts-222222222222"
    }
    error_message = "Each account must be able to put events, and nothing else."
  }
  assert {
    condition = (
      aws_cloudwatch_event_permission.organization[0].principal == "*" &&
      aws_cloudwatch_event_permission.organization[0].condition[0].key == "aws:PrincipalOrgID" &&
      aws_cloudwatch_event_permission.organization[0].condition[0].value == "o-a1b2c3d4e5"
    )
    error_message = "The principal * must be limited to the organisation."
  }
}

run "nobody_else_by_default" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = length(aws_cloudwatch_event_permission.account) + length(aws_cloudwatch_event_permission.organization) + length(aws_cloudwatch_event_bus.this) == 0
    error_message = "By default no other account may put events."
  }
}

run "heartbeat" {
  module {
    source = "./modules/messaging"
  }

  variables {
    heartbeat_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:monitoring/heartbeat-AbCdEf"
  }

  assert {
    condition = jsondecode(output.worker_policy_json).Statement[3] == {
      Sid      = "ReadHeartbeat"
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:monitoring/heartbeat-AbCdEf"]
    }
    error_message = "The worker must be able to read the heartbeat's URL."
  }
  assert {
    condition     = output.environment["HEARTBEAT_URL_SECRET_ID"] == var.heartbeat_secret_arn
    error_message = "The environment must name the heartbeat's secret."
  }
}

run "no_webhook_passes_through_terraform_unless_asked" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = length(aws_secretsmanager_secret.webhook) == 1 && length(aws_secretsmanager_secret_version.webhook) == 0
    error_message = "A person must set the secret's value."
  }
}

run "webhook_is_written_and_kept_nowhere" {
  module {
    source = "./modules/messaging"
  }

  variables {
    webhook_url_version = 1
  }

  assert {
    condition = (
      aws_secretsmanager_secret_version.webhook[0].secret_string_wo_version == 1 &&
      aws_secretsmanager_secret_version.webhook[0].secret_string_wo == null &&
      aws_secretsmanager_secret_version.webhook[0].secret_string != "https://hooks.slack.com/services/T/B/x"
    )
    error_message = "A write-only argument must write the webhook, so that no state has a copy."
  }
}

run "refuses_to_write_a_secret_of_somebody_else" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    webhook_url_version = 1
    webhook_secret_arns = ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:mine-AbCdEf"]
  }

  expect_failures = [var.webhook_url_version]
}

run "refuses_to_write_nothing" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    webhook_url         = null
    webhook_url_version = 1
  }

  expect_failures = [var.webhook_url]
}

run "canary" {
  module {
    source = "./modules/messaging"
  }

  variables {
    canary = "rate(1 hour)"
    # The canary's rule is on the default bus, even if the others are not.
    event_bus_name   = "central"
    create_event_bus = true
  }

  assert {
    condition     = aws_cloudwatch_event_rule.canary[0].schedule_expression == "rate(1 hour)" && aws_cloudwatch_event_rule.canary[0].event_bus_name == "default"
    error_message = "The canary must be scheduled on the default bus, the only one with schedules."
  }
  assert {
    condition = (
      aws_cloudwatch_event_target.canary[0].arn == aws_sqs_queue.main.arn &&
      aws_cloudwatch_event_target.canary[0].dead_letter_config[0].arn == aws_sqs_queue.undelivered.arn &&
      aws_cloudwatch_event_target.canary[0].input_transformer[0].input_paths == tomap({ time = "$.time" })
    )
    error_message = "The canary must go to the queue with the time of its schedule."
  }
  # As EventBridge fills in the template: it puts quotes around a text.
  assert {
    condition = jsondecode(replace(aws_cloudwatch_event_target.canary[0].input_transformer[0].input_template, "<time>", "\"2026-11-25T12:00:00Z\"")) == {
      version = "0", id = "ecs-slack-alerts-canary", source = "ecs-slack-alerts.canary", detail-type = "ecs-slack-alerts canary",
      time    = "2026-11-25T12:00:00Z", detail = {}
    }
    error_message = "The canary must be the event that the worker recognises."
  }
  assert {
    condition     = contains(jsondecode(aws_sqs_queue_policy.this["main"].policy).Statement[0].Condition.ArnEquals["aws:SourceArn"], aws_cloudwatch_event_rule.canary[0].arn)
    error_message = "The canary's rule must be allowed to send."
  }
}

run "no_canary_unless_asked" {
  module {
    source = "./modules/messaging"
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.canary) + length(aws_cloudwatch_event_target.canary) == 0
    error_message = "There must be no canary by default."
  }
}

run "alarms" {
  module {
    source = "./modules/messaging"
  }

  variables {
    runbook_url = "https://wiki.example.org/alerts"
  }

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name => join(" ", [
        join("+", [for query in alarm.metric_query : query.metric[0].metric_name if query.expression == null]),
        alarm.comparison_operator, alarm.threshold, "for", alarm.evaluation_periods, "x",
        one(distinct([for query in alarm.metric_query : query.metric[0].period if query.expression == null])), alarm.treat_missing_data,
      ])
      if !contains(["failed-invocations", "events-lost"], key)
      } == {
      alerts-dlq-not-empty         = "ApproximateNumberOfMessagesVisible GreaterThanThreshold 0 for 1 x 60 notBreaching"
      alerts-undelivered-not-empty = "ApproximateNumberOfMessagesVisible GreaterThanThreshold 0 for 1 x 60 notBreaching"
      alerts-oldest-message        = "ApproximateAgeOfOldestMessage GreaterThanThreshold 600 for 3 x 60 notBreaching"
      alerts-not-polling           = "NumberOfEmptyReceives+NumberOfMessagesReceived LessThanThreshold 1 for 2 x 300 breaching"
      alerts-nothing-sent          = "NumberOfMessagesSent LessThanThreshold 1 for 24 x 3600 breaching"
    }
    error_message = "The alarms must watch the queues, the polls, and whether anything is sent."
  }
  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => one(distinct([
        for query in alarm.metric_query : query.metric[0].dimensions["QueueName"] if query.expression == null
      ])) if !contains(["failed-invocations", "events-lost"], key)
      } == {
      dlq-not-empty         = "alerts-dlq"
      undelivered-not-empty = "alerts-undelivered"
      oldest-message        = "alerts"
      not-polling           = "alerts"
      nothing-sent          = "alerts"
    }
    error_message = "Each alarm must watch its queue."
  }
  # A missing data point of one metric must not hide a data point of the other.
  assert {
    condition = (
      one([for query in aws_cloudwatch_metric_alarm.this["not-polling"].metric_query : query if query.return_data]).expression ==
      "SUM([FILL(empty, 0), FILL(received, 0)])"
    )
    error_message = "The alarm must count polls with and without messages."
  }
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this : length([for query in alarm.metric_query : query if query.return_data]) == 1
    ])
    error_message = "Each alarm must watch one number."
  }
  assert {
    condition = alltrue([
      for key, metric in { failed-invocations = "FailedInvocations", events-lost = "InvocationsFailedToBeSentToDlq" } :
      toset([
        for query in aws_cloudwatch_metric_alarm.this[key].metric_query :
        "${query.metric[0].namespace} ${query.metric[0].metric_name} ${query.metric[0].stat} ${jsonencode(query.metric[0].dimensions)}"
        if query.expression == null
      ]) == toset([for rule in aws_cloudwatch_event_rule.this : "AWS/Events ${metric} Sum ${jsonencode({ RuleName = rule.name })}"])
    ])
    error_message = "The alarms must watch failed deliveries of every rule."
  }
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      alarm.alarm_actions == toset(var.alarm_topic_arns) && alarm.ok_actions == toset(var.alarm_topic_arns)
    ])
    error_message = "The alarms must notify the topics when they go off and when they end."
  }
  assert {
    condition = alltrue([
      for key, alarm in aws_cloudwatch_metric_alarm.this : endswith(alarm.alarm_description, "Runbook: https://wiki.example.org/alerts#ecs-slack-alerts-${key}")
    ])
    error_message = "Each alarm must name its section of the runbook."
  }
  assert {
    condition     = length(aws_sns_topic.alarms) == 0
    error_message = "The module must create no topic if topics are given."
  }
  # AWS bills alarms by their metrics.
  assert {
    condition = 22 == sum([
      for alarm in aws_cloudwatch_metric_alarm.this : length([for query in alarm.metric_query : query if query.expression == null])
    ])
    error_message = "The number of metrics must be the one in docs/operations.md (Cost)."
  }
}

run "alarms_of_many_rules_on_another_bus" {
  module {
    source = "./modules/messaging"
  }

  variables {
    event_bus_name           = "central"
    canary                   = "rate(1 hour)"
    start_failures           = true
    nothing_sent_alarm_hours = 2
    patterns                 = { a = "{\"source\":[\"a\"]}", b = "{\"source\":[\"b\"]}" }
  }

  # Twelve rules, and ten metrics in an alarm at most.
  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => length([for query in alarm.metric_query : query if query.expression == null])
      if startswith(key, "failed-invocations") || startswith(key, "events-lost")
    } == { failed-invocations = 10, failed-invocations-2 = 2, events-lost = 10, events-lost-2 = 2 }
    error_message = "An alarm has at most ten metrics, and no rule may be left out."
  }
  assert {
    condition = toset(flatten([
      for key, alarm in aws_cloudwatch_metric_alarm.this : [
        for query in alarm.metric_query : jsonencode(query.metric[0].dimensions) if query.expression == null
      ] if startswith(key, "events-lost")
      ])) == setunion(
      [for rule in aws_cloudwatch_event_rule.this : jsonencode({ EventBusName = "central", RuleName = rule.name })],
      [jsonencode({ RuleName = "alerts-canary" })],
    )
    error_message = "Metrics of a bus that is not the default one must name it."
  }
  assert {
    condition     = endswith(aws_cloudwatch_metric_alarm.this["events-lost-2"].alarm_description, "docs/operations.md#ecs-slack-alerts-events-lost")
    error_message = "All alarms of a kind must name its one section of the runbook."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["nothing-sent"].evaluation_periods == 2
    error_message = "nothing_sent_alarm_hours must set the number of hours."
  }
}

run "alarms_of_silent_rules" {
  module {
    source = "./modules/messaging"
  }

  variables {
    event_bus_name     = "central"
    canary             = "rate(1 hour)"
    patterns           = { a = "{\"source\":[\"a\"]}" }
    silent_rule_alarms = ["recoveries", "canary", "a"]
  }

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this : key => join(" ", [
        for query in alarm.metric_query :
        "${query.metric[0].namespace} ${query.metric[0].metric_name} ${query.metric[0].stat} ${jsonencode(query.metric[0].dimensions)} ${alarm.comparison_operator} ${alarm.threshold} for ${alarm.evaluation_periods} x ${query.metric[0].period} ${alarm.treat_missing_data}"
      ]) if startswith(key, "silent-rule-")
      } == {
      for rule, dimensions in {
        recoveries = { EventBusName = "central", RuleName = "alerts-recoveries" }
        canary     = { RuleName = "alerts-canary" }
        a          = { EventBusName = "central", RuleName = "alerts-a" }
      } : "silent-rule-${rule}" => "AWS/Events Invocations Sum ${jsonencode(dimensions)} LessThanThreshold 1 for 24 x 3600 breaching"
    }
    error_message = "Each silent-rule alarm must watch its rule on the rule's bus."
  }
  assert {
    condition     = endswith(aws_cloudwatch_metric_alarm.this["silent-rule-recoveries"].alarm_description, "docs/operations.md#ecs-slack-alerts-silent-rule")
    error_message = "All alarms of a kind must name its one section of the runbook."
  }
}

run "refuses_to_watch_a_rule_that_is_not_made" {
  command = plan
  module {
    source = "./modules/messaging"
  }

  variables {
    recoveries         = false
    silent_rule_alarms = ["recoveries"]
  }

  expect_failures = [var.silent_rule_alarms]
}

run "silence_is_no_alarm_where_it_is_normal" {
  module {
    source = "./modules/messaging"
  }

  variables {
    recoveries = false
  }

  assert {
    condition     = !contains(keys(output.alarm_arns), "nothing-sent") && contains(keys(output.alarm_arns), "not-polling")
    error_message = "Without recoveries and canary there must be no alarm nothing-sent, because no messages is normal."
  }
}

run "alarms_by_email" {
  module {
    source = "./modules/messaging"
  }

  variables {
    alarm_topic_arns = []
    alarm_email      = "on-call@example.org"
    kms_key_arn      = "arn:aws:kms:eu-west-1:123456789012:key/queues"
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_actions == toset([aws_sns_topic.alarms[0].arn])])
    error_message = "The alarms must notify the topic."
  }
  assert {
    condition = (
      aws_sns_topic_subscription.email[0].endpoint == "on-call@example.org" && aws_sns_topic_subscription.email[0].protocol == "email" &&
      aws_sns_topic.alarms[0].kms_master_key_id == var.kms_key_arn && aws_sns_topic.alarms[0].name == "alerts-alarms"
    )
    error_message = "The topic must notify the address, and be encrypted with the given key."
  }
  assert {
    condition = jsondecode(aws_sns_topic_policy.alarms[0].policy).Statement == [
      {
        Sid       = "OnlyAlarmsOfThisAccountPublish"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[0].arn
        Condition = {
          StringEquals = { "aws:SourceAccount" = "123456789012" }
          ArnLike      = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:*" }
        }
      },
      {
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.alarms[0].arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
    error_message = "Only alarms of this account may publish, and only over TLS."
  }
}

run "refuses_alarms_that_reach_nobody" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    alarm_topic_arns = []
  }

  expect_failures = [var.alarms]
}

run "no_alarms" {
  module {
    source = "./modules/messaging"
  }

  variables {
    alarms           = false
    alarm_topic_arns = []
    alarm_email      = "on-call@example.org"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + length(aws_sns_topic.alarms) == 0
    error_message = "alarms = false must make none."
  }
}

run "refuses_what_aws_would_refuse_later" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    name                           = "with.dot"
    patterns                       = { UPPER = "[]" }
    event_bus_name                 = "arn:aws:events:eu-west-1:123456789012:event-bus/x"
    allowed_account_ids            = ["12345"]
    allowed_organization_id        = "123456789012"
    message_retention_seconds      = 1209600
    max_receive_count              = 1
    kms_key_arn                    = "alias/aws/sqs"
    webhook_secret_arns            = ["monitoring/webhook"]
    secret_recovery_window_in_days = 3
    alarm_topic_arns               = ["on-call"]
    alarm_email                    = "on call"
    oldest_message_alarm_seconds   = 1
    nothing_sent_alarm_hours       = 25
    canary                         = "hourly"
    heartbeat_secret_arn           = "monitoring/heartbeat"
  }

  expect_failures = [
    var.name, var.patterns, var.event_bus_name, var.allowed_account_ids, var.allowed_organization_id,
    var.message_retention_seconds, var.max_receive_count, var.kms_key_arn, var.webhook_secret_arns,
    var.secret_recovery_window_in_days, var.alarm_topic_arns, var.alarm_email, var.oldest_message_alarm_seconds,
    var.nothing_sent_alarm_hours, var.canary, var.heartbeat_secret_arn,
  ]
}

run "refuses_a_name_that_is_taken" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    patterns = { canary = "{\"source\":[\"x\"]}" }
  }

  expect_failures = [var.patterns]
}

run "refuses_patterns_beyond_the_quota" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    patterns = { long = jsonencode({ source = [join("", [for i in range(700) : "xxx"])] }) }
  }

  expect_failures = [aws_cloudwatch_event_rule.this]
}

run "takes_long_patterns_where_the_quota_is_higher" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    patterns           = { long = jsonencode({ source = [join("", [for i in range(700) : "xxx"])] }) }
    pattern_max_length = 4096
  }

  assert {
    condition     = length(aws_cloudwatch_event_rule.this["long"].event_pattern) > 2100
    error_message = "pattern_max_length must allow longer patterns."
  }
}

run "refuses_to_create_the_default_bus" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    create_event_bus = true
  }

  expect_failures = [aws_cloudwatch_event_bus.this]
}

run "accepts_the_longest_name" {
  command = plan

  module {
    source = "./modules/messaging"
  }

  variables {
    name     = "a234567890123456789012345678901234567890"
    patterns = { a2345678901234567890123 = "{\"source\":[\"x\"]}" }
  }

  assert {
    condition     = max([for rule in aws_cloudwatch_event_rule.this : length(rule.name)]...) <= 64
    error_message = "The names of rules must have at most 64 characters."
  }
}
