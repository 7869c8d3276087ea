# Creates modules/messaging on an AWS stand-in. The integration tests apply it, put events on the bus, run a worker that gets
# only the module's outputs, and destroy it.

terraform {
  required_version = ">= 1.11"

  # `terraform init` sets the path, so that no state is written among the sources.
  backend "local" {}

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7"
    }
  }
}

variable "endpoint" {
  description = "The stand-in's address, such as http://127.0.0.1:4566."
  type        = string
}

variable "region" {
  type    = string
  default = "eu-west-1"
}

variable "name" {
  type    = string
  default = "ecs-slack-alerts"
}

variable "webhook_url" {
  type      = string
  ephemeral = true
}

variable "canary" {
  type    = string
  default = null
}

provider "aws" {
  region = var.region
  # The stand-in uses an access key of twelve digits as the account's id.
  access_key                  = "123456789012"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true

  endpoints {
    dynamodb       = var.endpoint
    events         = var.endpoint
    secretsmanager = var.endpoint
    sqs            = var.endpoint
  }
}

module "messaging" {
  source = "../../modules/messaging"

  name = var.name
  tags = { environment = "test" }

  # The stand-in (ministack) does not store everything: it returns alarms without their actions and treat_missing_data, and it returns
  # the condition of allowed_organization_id in a form that the provider cannot read. tests/messaging.tftest.hcl covers both.
  alarms              = false
  allowed_account_ids = ["111111111111"]
  canary              = var.canary

  patterns = {
    alarms = jsonencode({ source = ["aws.cloudwatch"], detail-type = ["CloudWatch Alarm State Change"] })
  }

  webhook_url         = var.webhook_url
  webhook_url_version = 1

  # Otherwise the name could not be used again after the destroy.
  secret_recovery_window_in_days = 0
}

output "environment" {
  value = module.messaging.environment
}

output "dlq_url" {
  value = module.messaging.dlq_url
}

output "undelivered_queue_url" {
  value = module.messaging.undelivered_queue_url
}

output "rule_arns" {
  value = module.messaging.rule_arns
}

output "incidents_table_name" {
  value = module.messaging.incidents_table_name
}

output "worker_policy_json" {
  value = module.messaging.worker_policy_json
}
