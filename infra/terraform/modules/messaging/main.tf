# EventBridge rules -> queue -> (after max_receive_count receives) dead-letter queue.
#                  \-> undelivered queue, for events that EventBridge could not put on the queue.
#
# Rules are in rules.tf, the canary in canary.tf, permissions in policies.tf, the table of incidents in incidents.tf, alarms in alarms.tf.

locals {
  # arn:PARTITION:sqs:REGION:ACCOUNT:NAME. A data source for the Region would need a request, and versions 5 and 6 of the provider
  # name its attributes differently.
  queue_arn = split(":", aws_sqs_queue.main.arn)
  partition = local.queue_arn[1]
  region    = local.queue_arn[3]
  account   = local.queue_arn[4]

  queues = {
    main        = aws_sqs_queue.main
    dlq         = aws_sqs_queue.dlq
    undelivered = aws_sqs_queue.undelivered
  }
}

resource "aws_sqs_queue" "main" {
  name = var.name

  # The worker sets its own timeout at every receive; this one applies when a person looks at the queue.
  visibility_timeout_seconds = 120
  # SQS's longest poll, so that the fewest empty receives are billed.
  receive_wait_time_seconds = 20
  message_retention_seconds = var.message_retention_seconds

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dlq.arn
    maxReceiveCount     = var.max_receive_count
  })

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = var.tags
}

# The dead-letter queue: messages that the worker could not handle.
resource "aws_sqs_queue" "dlq" {
  name = "${var.name}-dlq"

  # SQS's longest retention. A message keeps the age that it had on the main queue.
  message_retention_seconds = 1209600

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = var.tags
}

# Events that EventBridge could not deliver. They have a separate queue, because their cause is a different one (a policy, a key) and
# the worker never received them. Each message has the attributes RULE_ARN, ERROR_CODE and ERROR_MESSAGE.
resource "aws_sqs_queue" "undelivered" {
  name = "${var.name}-undelivered"

  message_retention_seconds = 1209600

  sqs_managed_sse_enabled = var.kms_key_arn == null ? true : null
  kms_master_key_id       = var.kms_key_arn
  tags                    = var.tags
}

resource "aws_sqs_queue_redrive_allow_policy" "dlq" {
  queue_url = aws_sqs_queue.dlq.url

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.main.arn]
  })
}

# A person sets its value, or it is `webhook_url`.
resource "aws_secretsmanager_secret" "webhook" {
  count = length(var.webhook_secret_arns) == 0 ? 1 : 0

  name                    = "${var.name}/slack-webhook"
  description             = "The URL of the Slack incoming webhook that ecs-slack-alerts posts to, as plain text."
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.secret_recovery_window_in_days
  tags                    = var.tags
}

# The argument is write-only, so the URL is in no plan and no state. Terraform writes it when the version changes.
resource "aws_secretsmanager_secret_version" "webhook" {
  count = var.webhook_url_version == null ? 0 : length(aws_secretsmanager_secret.webhook)

  secret_id                = aws_secretsmanager_secret.webhook[count.index].id
  secret_string_wo         = var.webhook_url
  secret_string_wo_version = var.webhook_url_version
}

locals {
  webhook_secret_arns = coalescelist(aws_secretsmanager_secret.webhook[*].arn, var.webhook_secret_arns)
}
