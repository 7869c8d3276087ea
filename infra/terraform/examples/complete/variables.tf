variable "region" {
  description = "The Region of the ECS services whose events are reported."
  type        = string
}

variable "image" {
  description = "The worker's image, such as 123456789012.dkr.ecr.eu-west-1.amazonaws.com/ecs-slack-alerts:0.2.0."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets with a route to the internet through a NAT gateway, in two Availability Zones."
  type        = list(string)
}

variable "sending_account_ids" {
  description = "Other accounts whose rules send their ECS events to this account's default bus."
  type        = list(string)
  default     = []
}
