# What replicas of the worker share: one item for each incident, so that two never open the same one, and none is forgotten
# at a restart. Items expire by themselves; nothing else is ever stored here.

resource "aws_dynamodb_table" "incidents" {
  count = var.incidents_table ? 1 : 0

  name         = "${var.name}-incidents"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "pk"

  attribute {
    name = "pk"
    type = "S"
  }

  ttl {
    attribute_name = "expires"
    enabled        = true
  }

  # Without a key of one's own, DynamoDB encrypts with one that it owns.
  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]
    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  deletion_protection_enabled = var.incidents_table_deletion_protection
  tags                        = var.tags
}

locals {
  # DescribeTable is for the check of the key at start, DeleteItem for `check --live`, which removes the item that it wrote.
  incidents_statements = [for table in aws_dynamodb_table.incidents : {
    Sid      = "ShareIncidents"
    Effect   = "Allow"
    Action   = ["dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    Resource = [table.arn]
  }]
}
