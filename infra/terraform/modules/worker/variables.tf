variable "name" {
  description = "Name of the service, and prefix of all other names."
  type        = string
  default     = "ecs-slack-alerts"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,40}$", var.name))
    error_message = "name must have 1 to 40 letters, digits, hyphens or underscores: the names of roles add a suffix to it, and AWS allows 64 characters."
  }
}

variable "tags" {
  description = "Tags for all resources that can have tags."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "The container image, with a tag (not latest) or a digest. If it is in a private ECR repository, the execution role may pull from that repository."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must end with a tag other than latest, or with a digest: otherwise a restart could change the version."
  }
}

variable "cpu_architecture" {
  description = "ARM64, which is a fifth cheaper, or X86_64. The image must be built for it."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture must be X86_64 or ARM64."
  }
}

variable "cpu" {
  description = "CPU units of a task: 256, 512, 1024, 2048 or 4096. 1024 are one vCPU."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048 or 4096."
  }
}

variable "memory" {
  description = "Memory of a task in MiB: 512 or a multiple of 1024. Fargate allows 2 to 8 times `cpu`."
  type        = number
  default     = 512

  validation {
    condition     = var.memory >= 512 && (var.memory == 512 || var.memory % 1024 == 0)
    error_message = "memory must be 512 or a multiple of 1024."
  }
}

variable "environment" {
  description = "Environment variables of the worker, such as QUEUE_URL. Use the output `environment` of `messaging`."
  type        = map(string)

  validation {
    condition     = length(setintersection(keys(var.environment), ["SHUTDOWN_GRACE", "CONFIG_CONTENT"])) == 0
    error_message = "environment must not have SHUTDOWN_GRACE or CONFIG_CONTENT: set shutdown_grace_seconds (stopTimeout follows it) and config_content."
  }

  validation {
    condition     = !contains(keys(var.environment), "SLACK_WEBHOOK_URL")
    error_message = "environment must not have SLACK_WEBHOOK_URL: everybody who may read task definitions could post. Keep it in Secrets Manager and set SLACK_WEBHOOK_SECRET_ID."
  }

  validation {
    condition     = !contains(keys(var.environment), "HEARTBEAT_URL")
    error_message = "environment must not have HEARTBEAT_URL: everybody who may read task definitions could send heartbeats. Keep it in Secrets Manager and set HEARTBEAT_URL_SECRET_ID."
  }
}

variable "config_content" {
  description = "The text of the worker's configuration file, in TOML, for example for several channels and routes. Environment variables override it. It becomes the variable CONFIG_CONTENT, so the worker refuses a webhook or token in it, even in a comment."
  type        = string
  default     = null

  # Finds the usual spelling at plan time; the worker refuses every other spelling.
  validation {
    condition     = !can(regex("(?m)^\\s*webhook_url\\s*=", var.config_content))
    error_message = "config_content must not have webhook_url: everybody who may read task definitions could post. Keep it in Secrets Manager and set webhook_secret_id."
  }
}

variable "task_policies" {
  description = "IAM policies for the worker's role: a map from name to JSON. The role needs the output `worker_policy_json` of `messaging`."
  type        = map(string)
}

variable "queue_name" {
  description = "Name of the queue whose number of waiting messages scales the service."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the tasks, in one VPC. The tasks must be able to reach Slack and AWS from them: through a NAT gateway, or with `assign_public_ip`."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids must name at least one subnet; two in different Availability Zones are better."
  }
}

variable "security_group_ids" {
  description = "Security groups of the tasks. When empty, the module creates one that allows HTTPS out and nothing in; `scrape_security_group_id` opens port 9090 in it."
  type        = list(string)
  default     = []
}

variable "scrape_security_group_id" {
  description = "The security group of your Prometheus, which may then reach port 9090 of the tasks. Only with the security group that the module creates."
  type        = string
  default     = null

  validation {
    condition     = var.scrape_security_group_id == null || length(var.security_group_ids) == 0
    error_message = "scrape_security_group_id works only with the security group that the module creates: with security_group_ids, add the rule to your own group."
  }
}

variable "assign_public_ip" {
  description = "Whether tasks get a public IP address, which they need in subnets without a NAT gateway. The security group that the module creates still allows nothing in."
  type        = bool
  default     = false
}

variable "cluster_name" {
  description = "Name of an existing ECS cluster to run in. When null, the module creates one."
  type        = string
  default     = null
}

variable "container_insights" {
  description = "Container Insights of the cluster that the module creates: disabled, enabled or enhanced. The module does not need it, and AWS bills it by the metric."
  type        = string
  default     = "disabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights must be disabled, enabled or enhanced."
  }
}

variable "capacity_provider_strategy" {
  description = "Capacity providers instead of the launch type FARGATE. `[{ capacity_provider = \"FARGATE_SPOT\" }]` is the cheapest: AWS stops a task with two minutes' notice, the worker drains, and the queue keeps new events until the next task runs. While AWS has no spare capacity, no task runs. Adding a strategy to a service without one replaces the service. The cluster of `cluster_name` must have the providers."
  type = list(object({
    capacity_provider = string
    weight            = optional(number, 1)
    base              = optional(number, 0)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for provider in var.capacity_provider_strategy : contains(["FARGATE", "FARGATE_SPOT"], provider.capacity_provider)])
    error_message = "capacity_provider_strategy must name FARGATE or FARGATE_SPOT: the task definition is for Fargate."
  }

  validation {
    condition     = length([for provider in var.capacity_provider_strategy : provider if provider.base > 0]) <= 1
    error_message = "Only one provider of capacity_provider_strategy may have a base."
  }
}

variable "autoscaling" {
  description = "The number of tasks; one by default. Up to `max_tasks`, a task is added each minute while more than `backlog` messages wait. Down to `min_tasks`, a task is removed after 15 minutes at or below `backlog`. Slack accepts one post a second per webhook, however many tasks there are, so more tasks help with many channels or very many events, not with one busy channel. `min_tasks = 2, max_tasks = 2` survives the loss of an Availability Zone without a pause."
  type = object({
    min_tasks = optional(number, 1)
    max_tasks = optional(number, 1)
    backlog   = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.autoscaling.min_tasks >= 1
    error_message = "autoscaling.min_tasks must be at least 1: without a running task, an alert would wait for minutes."
  }

  validation {
    condition     = var.autoscaling.max_tasks >= var.autoscaling.min_tasks
    error_message = "autoscaling.max_tasks must not be below min_tasks."
  }

  validation {
    condition     = var.autoscaling.backlog > 0
    error_message = "autoscaling.backlog must be above 0."
  }
}

variable "availability_zone_rebalancing" {
  description = "Whether ECS moves tasks when one Availability Zone has more of them than another. It starts the new task first."
  type        = bool
  default     = true
}

variable "deployment_alarm_names" {
  description = "CloudWatch alarms that stop a deployment of the worker and roll it back, in addition to ECS's circuit breaker. Do not use `not-polling` or `oldest-message` of the module messaging: outages of Slack set them off too."
  type        = list(string)
  default     = []
}

variable "permissions_boundary" {
  description = "The ARN of the IAM policy that is the permissions boundary of the two roles."
  type        = string
  default     = null
}

variable "shutdown_grace_seconds" {
  description = "How long the worker's drain may take (SHUTDOWN_GRACE). ECS kills the task 10 s later (stopTimeout)."
  type        = number
  default     = 25

  validation {
    condition     = var.shutdown_grace_seconds >= 5 && var.shutdown_grace_seconds <= 110
    error_message = "shutdown_grace_seconds must be between 5 and 110: stopTimeout is 10 s more, and Fargate's longest is 120 s."
  }

  validation {
    condition     = floor(var.shutdown_grace_seconds) == var.shutdown_grace_seconds
    error_message = "shutdown_grace_seconds must be a whole number."
  }
}

variable "log_retention_days" {
  description = "How many days CloudWatch Logs keeps the log."
  type        = number
  default     = 30

  validation {
    condition = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
    var.log_retention_days)
    error_message = "log_retention_days must be a number that CloudWatch Logs offers: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "log_kms_key_arn" {
  description = "The ARN of a customer managed KMS key for the log group. Its policy must allow CloudWatch Logs (`logs.REGION.amazonaws.com`) to use it."
  type        = string
  default     = null
}
