# The table in which replicas of the worker share incidents. It has one item for each incident, so that two replicas do not open the
# same incident and a restart forgets none. Items expire by themselves. The worker stores nothing else here.

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

  # Without a customer managed key, DynamoDB encrypts with a key that AWS owns.
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
  # DescribeTable is for the check of the table's primary key at start, DeleteItem for `check --live`, which deletes the item that it wrote.
  incidents_statements = [for table in aws_dynamodb_table.incidents : {
    Sid      = "ShareIncidents"
    Effect   = "Allow"
    Action   = ["dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    Resource = [table.arn]
  }]
}
