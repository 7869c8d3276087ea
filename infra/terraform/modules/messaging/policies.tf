# The resource policies of the queues, and the IAM policies that a worker and an operator need (outputs, to attach to their roles).

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = each.value.url

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      # SQS itself moves messages to the dead-letter queue, which needs no permission. Without rules nobody may send.
      each.key == "dlq" || length(local.rules) == 0 ? [] : [{
        Sid       = "OnlyTheseRulesSend"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = each.value.arn
        Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arns } }
      }],
      [{
        Sid       = "OnlyTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = each.value.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
    )
  })
}

locals {
  rule_arns = sort([for rule in local.rules : rule.arn])

  worker_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid    = "Consume"
          Effect = "Allow"
          # These actions cover the batch requests too.
          Action = [
            "sqs:ChangeMessageVisibility",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:ReceiveMessage",
          ]
          Resource = [aws_sqs_queue.main.arn]
        },
        {
          Sid      = "CountDeadLetters"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
          Resource = [aws_sqs_queue.dlq.arn]
        },
        {
          Sid      = "ReadWebhooks"
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue"]
          Resource = local.webhook_secret_arns
        },
      ],
      var.heartbeat_secret_arn == null ? [] : [{
        Sid      = "ReadHeartbeat"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = [var.heartbeat_secret_arn]
      }],
      local.incidents_statements,
      length(local.kms_key_arns) == 0 ? [] : [{
        Sid      = "Decrypt"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = local.kms_key_arns
      }],
    )
  }

  kms_key_arns = distinct(concat(var.kms_key_arn == null ? [] : [var.kms_key_arn], var.secret_kms_key_arns))

  # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html:
  # a move task needs ReceiveMessage and DeleteMessage on its source, in addition to its own action. For SQS, the undelivered queue is
  # not the dead-letter queue of a queue, so `dlq redrive --from undelivered` moves the messages itself.
  dlq_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid    = "ListAndRedrive"
          Effect = "Allow"
          Action = [
            "sqs:CancelMessageMoveTask",
            "sqs:ChangeMessageVisibility",
            "sqs:DeleteMessage",
            "sqs:GetQueueAttributes",
            "sqs:GetQueueUrl",
            "sqs:ListMessageMoveTasks",
            "sqs:ReceiveMessage",
            "sqs:StartMessageMoveTask",
          ]
          Resource = [aws_sqs_queue.dlq.arn, aws_sqs_queue.undelivered.arn]
        },
        {
          Sid      = "RedriveTo"
          Effect   = "Allow"
          Action   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
          Resource = [aws_sqs_queue.main.arn]
        },
      ],
      var.kms_key_arn == null ? [] : [{
        Sid      = "Encrypt"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [var.kms_key_arn]
      }],
    )
  }

  # Services may be in any Region. AWS offers no narrower resources for ListTasks and DescribeTaskDefinition than `*`: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
  ecs = "arn:${local.partition}:ecs:*:${local.account}"

  diagnose_policy = {
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          # The services' tags need no action of their own.
          # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html
          Sid      = "SeeServices"
          Effect   = "Allow"
          Action   = ["ecs:DescribeServiceDeployments", "ecs:DescribeServices", "ecs:DescribeTasks", "ecs:ListServiceDeployments"]
          Resource = ["${local.ecs}:service/*", "${local.ecs}:service-deployment/*", "${local.ecs}:task/*"]
        },
        {
          Sid      = "SeeStoppedTasks"
          Effect   = "Allow"
          Action   = ["ecs:DescribeTaskDefinition", "ecs:ListTasks"]
          Resource = ["*"]
        },
        {
          # Optional: what a failed health check requested, expected and got. AWS offers no narrower resource than `*`.
          # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html
          Sid      = "SeeTargets"
          Effect   = "Allow"
          Action   = ["elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth"]
          Resource = ["*"]
        },
      ],
      length(var.diagnose_log_group_arns) == 0 ? [] : [{
        Sid      = "ReadLogs"
        Effect   = "Allow"
        Action   = ["logs:GetLogEvents"]
        Resource = [for arn in var.diagnose_log_group_arns : "${trimsuffix(arn, ":*")}:log-stream:*"]
      }],
    )
  }
}
