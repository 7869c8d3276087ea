variable "name" {
  description = "Name of the service, and what the names of everything else begin with."
  type        = string
  default     = "ecs-slack-alerts"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,40}$", var.name))
    error_message = "name must have 1 to 40 letters, digits, hyphens or underscores: roles add theirs, up to 64."
  }
}

variable "tags" {
  description = "Tags of everything that can have tags."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "The container image, with a tag or a digest. From a private ECR repository, the execution role may pull that one."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must name a version, by a tag other than latest or by a digest: else a restart could change the version."
  }
}

variable "cpu_architecture" {
  description = "ARM64, which is a fifth cheaper, or X86_64; the image must be for it."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture must be X86_64 or ARM64."
  }
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 256

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "cpu must be 256, 512, 1024, 2048 or 4096."
  }
}

variable "memory" {
  description = "Memory of a task in MiB; Fargate offers 2 to 8 times `cpu`."
  type        = number
  default     = 512

  validation {
    condition     = var.memory >= 512 && (var.memory == 512 || var.memory % 1024 == 0)
    error_message = "memory must be 512 or a multiple of 1024."
  }
}

variable "environment" {
  description = "Environment variables of the worker: QUEUE_URL and the like. The `environment` output of `messaging` fits."
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
  description = "The worker's configuration file, as TOML; for several channels and routes. Environment variables win over it. It becomes the variable CONFIG_CONTENT, so the worker refuses a webhook or token in it, also in a comment."
  type        = string
  default     = null

  # An early hint for the usual spelling; the worker itself refuses every other one.
  validation {
    condition     = !can(regex("(?m)^\\s*webhook_url\\s*=", var.config_content))
    error_message = "config_content must not have webhook_url: everybody who may read task definitions could post. Keep it in Secrets Manager and set webhook_secret_id."
  }
}

variable "task_policies" {
  description = "IAM policies for the worker's role, name to JSON. The `worker_policy_json` output of `messaging` is what it needs."
  type        = map(string)
}

variable "queue_name" {
  description = "Name of the queue by whose depth the service is scaled."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the tasks, in one VPC. From there they must reach Slack and AWS: through a NAT gateway, or by `assign_public_ip`."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids must name at least one subnet; two in different Availability Zones are better."
  }
}

variable "security_group_ids" {
  description = "Security groups of the tasks. When empty, one is created that lets HTTPS out and nothing in; `scrape_security_group_id` opens port 9090 in it."
  type        = list(string)
  default     = []
}

variable "scrape_security_group_id" {
  description = "The security group of your Prometheus, which may then reach port 9090 of the tasks. For the security group that is created here only."
  type        = string
  default     = null

  validation {
    condition     = var.scrape_security_group_id == null || length(var.security_group_ids) == 0
    error_message = "scrape_security_group_id changes only the security group that is created here: with security_group_ids, add the rule to yours."
  }
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address: needed in subnets without a NAT gateway. The security group still lets nothing in."
  type        = bool
  default     = false
}

variable "cluster_name" {
  description = "The ECS cluster to run in, by name. When null, one is created."
  type        = string
  default     = null
}

variable "container_insights" {
  description = "Container Insights of the cluster that is created: disabled, enabled or enhanced. Nothing here needs it, and AWS bills it by the metric."
  type        = string
  default     = "disabled"

  validation {
    condition     = contains(["disabled", "enabled", "enhanced"], var.container_insights)
    error_message = "container_insights must be disabled, enabled or enhanced."
  }
}

variable "capacity_provider_strategy" {
  description = "Capacity providers in place of the launch type FARGATE. `[{ capacity_provider = \"FARGATE_SPOT\" }]` is the cheapest: AWS stops a task with two minutes' notice, the worker drains, and the queue keeps what comes until the next task runs. While AWS has no spare capacity, no task runs. A change from none to some replaces the service. A cluster that is given must have the providers."
  type = list(object({
    capacity_provider = string
    weight            = optional(number, 1)
    base              = optional(number, 0)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for provider in var.capacity_provider_strategy : contains(["FARGATE", "FARGATE_SPOT"], provider.capacity_provider)])
    error_message = "capacity_provider_strategy must name FARGATE or FARGATE_SPOT: the task is one of Fargate's."
  }

  validation {
    condition     = length([for provider in var.capacity_provider_strategy : provider if provider.base > 0]) <= 1
    error_message = "Only one provider of capacity_provider_strategy may have a base."
  }
}

variable "autoscaling" {
  description = "How many tasks there are; one by default. From `min_tasks` up to `max_tasks`, a task is added each minute while more than `backlog` messages wait, and one is removed after a quarter of an hour below. Slack takes one post a second per webhook however many tasks there are, so more tasks help with many channels or very many events, not with one busy channel. `min_tasks = 2, max_tasks = 2` survive the loss of an Availability Zone without a pause."
  type = object({
    min_tasks = optional(number, 1)
    max_tasks = optional(number, 1)
    backlog   = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.autoscaling.min_tasks >= 1
    error_message = "autoscaling.min_tasks must be at least 1: with none running, an alert would wait for minutes."
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
  description = "CloudWatch alarms that stop a deployment of the worker and roll it back, beside ECS's circuit breaker. Not `not-polling` or `oldest-message` of the module messaging: Slack's outages set them off too."
  type        = list(string)
  default     = []
}

variable "permissions_boundary" {
  description = "The ARN of an IAM policy that bounds what the two roles may do."
  type        = string
  default     = null
}

variable "shutdown_grace_seconds" {
  description = "How long a drain may take (SHUTDOWN_GRACE). ECS kills the task 10 s later (stopTimeout)."
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
  description = "How long CloudWatch Logs keeps the log."
  type        = number
  default     = 30

  validation {
    condition = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
    var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch Logs offers: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "log_kms_key_arn" {
  description = "A customer key for the log group. Its policy must let CloudWatch Logs use it (`logs.REGION.amazonaws.com`)."
  type        = string
  default     = null
}
