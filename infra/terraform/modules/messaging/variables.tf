variable "name" {
  description = "Name of the queue, and what the names of everything else begin with."
  type        = string
  default     = "ecs-slack-alerts"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,40}$", var.name))
    error_message = "name must have 1 to 40 letters, digits, hyphens or underscores: rules and roles add theirs, up to 64."
  }
}

variable "tags" {
  description = "Tags of everything that can have tags."
  type        = map(string)
  default     = {}
}

variable "problems" {
  description = "Whether to make the rules for every ECS event that the worker treats as a problem, for all deployments, for all stopped tasks, and for what AWS Health reports about ECS. Deployments and stopped tasks include routine ones (a completed deployment, a scale-in). A rule cannot distinguish them, so the worker does: it treats them as `info`, which no route takes unless its pattern asks for them."
  type        = bool
  default     = true
}

variable "recoveries" {
  description = "Whether to make the rule for recoveries of services, deployments and instances. The worker reports the recovery of an open incident; other recoveries are `info`, deleted and counted as `unrouted` unless a route's pattern asks for them. SERVICE_STEADY_STATE is the only event that reports that an impaired service has recovered; ECS repeats it every six hours or so for every healthy service, which costs about a hundredth of a cent per service and month."
  type        = bool
  default     = true
}

variable "start_failures" {
  description = "Whether to make the rule for calls of RunTask and StartTask that failed, or did not start every task: ECS sends no event of its own for a scheduled task that never starts. It needs a CloudTrail trail that records management events in this Region; without one no event arrives."
  type        = bool
  default     = false
}

variable "patterns" {
  description = "Further rules: name to event pattern in JSON, such as `{ alarms = jsonencode({ source = [\"aws.cloudwatch\"], detail-type = [\"CloudWatch Alarm State Change\"] }) }`. The name of a rule of the presets (services, deployments, tasks, instances, instance-health, others, health, start-failures, recoveries) replaces that rule, for example to leave out a cluster."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.patterns) : can(regex("^[a-z0-9-]{1,23}$", name))])
    error_message = "The names of patterns must have 1 to 23 lower-case letters, digits or hyphens: they end the names of rules."
  }

  validation {
    condition     = alltrue([for pattern in values(var.patterns) : can(keys(jsondecode(pattern)))])
    error_message = "Each of patterns must be a JSON object: write jsonencode({ source = [\"…\"] })."
  }

  validation {
    condition     = !contains(keys(var.patterns), "canary")
    error_message = "patterns must not have the name canary: the rule of the variable `canary` has it."
  }
}

variable "pattern_max_length" {
  description = "How many characters EventBridge takes in an event pattern: AWS's quota for this account and Region."
  type        = number
  default     = 2048
}

variable "canary" {
  description = "A schedule such as `rate(1 hour)`, by which EventBridge sends the worker an event that it counts and never posts. It shows that events reach the worker even if ECS sends none. None by default."
  type        = string
  default     = null

  validation {
    condition     = var.canary == null || can(regex("^(rate|cron)\\(.+\\)$", var.canary))
    error_message = "canary must be a schedule of EventBridge's: rate(1 hour), or cron(0 * * * ? *)."
  }
}

variable "event_bus_name" {
  description = "The event bus of the rules. ECS puts its events on the `default` bus of the account and region where they happen; on another there is only what was sent there, for example from other accounts."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]{1,256}$", var.event_bus_name))
    error_message = "event_bus_name must be a bus's name (not its ARN): letters, digits and . _ / -."
  }
}

variable "create_event_bus" {
  description = "Whether to create the bus `event_bus_name`; else it must exist."
  type        = bool
  default     = false
}

variable "allowed_account_ids" {
  description = "Other accounts that may put events on the bus."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.allowed_account_ids : can(regex("^[0-9]{12}$", id))])
    error_message = "allowed_account_ids must be account ids of 12 digits; quote them, or leading zeros are lost."
  }
}

variable "allowed_organization_id" {
  description = "The organisation whose accounts may put events on the bus."
  type        = string
  default     = null

  validation {
    condition     = var.allowed_organization_id == null || can(regex("^o-[a-z0-9]{10,32}$", var.allowed_organization_id))
    error_message = "allowed_organization_id must be an organisation's id such as o-a1b2c3d4e5."
  }
}

variable "message_retention_seconds" {
  description = "How long an event may wait for the worker: four days by default. The dead-letter queue keeps it until it is 14 days old, counted from the event."
  type        = number
  default     = 345600

  validation {
    condition     = var.message_retention_seconds >= 3600 && var.message_retention_seconds <= 1123200
    error_message = "message_retention_seconds must be between 3600 (an hour) and 1123200 (13 days, a day less than the dead-letter queue's)."
  }
}

variable "max_receive_count" {
  description = "Receives after which a message goes to the dead-letter queue. Each receive that does not end in a delete counts, even one whose answer was lost; the worker waits from 30 s up to an hour between its attempts."
  type        = number
  default     = 10

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count must be between 5 (fewer lose good messages) and 1000."
  }
}

variable "kms_key_arn" {
  description = "A customer key for the three queues, the table of incidents and the secret that is created here, in place of the services' own keys; also for the topic of `alarm_email`. Its policy must let EventBridge, and with that topic CloudWatch, use it (see \"A key of your own\")."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a customer key (arn:…:key/…). alias/aws/sqs will not do: its policy cannot let EventBridge in."
  }
}

variable "webhook_secret_arns" {
  description = "The full ARNs of the Secrets Manager secrets that hold Slack webhook URLs. When empty, one secret is created, without a value."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.webhook_secret_arns : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", arn))])
    error_message = "webhook_secret_arns must be full ARNs with the six characters that Secrets Manager adds to the name."
  }
}

variable "webhook_url" {
  description = "The webhook's URL, for the secret that is created when `webhook_secret_arns` is empty. Ephemeral: it is in no plan and no state. Set it by TF_VAR_webhook_url at every run, and `webhook_url_version` with it; or leave both out and put the value there by hand."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true

  # The provider needs the value at every run, whether it writes it or not.
  validation {
    condition     = var.webhook_url_version == null || var.webhook_url != null
    error_message = "webhook_url_version needs webhook_url at every run (TF_VAR_webhook_url), also where the version is the last one."
  }
}

variable "webhook_url_version" {
  description = "Says when to write `webhook_url`: at 1, and again whenever the number grows. Null: the secret's value is put there by hand."
  type        = number
  default     = null

  validation {
    condition     = var.webhook_url_version == null || length(var.webhook_secret_arns) == 0
    error_message = "webhook_url_version needs an empty webhook_secret_arns: the module writes no secret that it did not create."
  }
}

variable "heartbeat_secret_arn" {
  description = "The full ARN of the secret that holds the URL of the worker's heartbeat (HEARTBEAT_URL_SECRET_ID, `[heartbeat] url_secret_id`). The worker's role may read it, and `environment` names it."
  type        = string
  default     = null

  validation {
    condition     = var.heartbeat_secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.heartbeat_secret_arn))
    error_message = "heartbeat_secret_arn must be a full ARN with the six characters that Secrets Manager adds to the name."
  }
}

variable "secret_kms_key_arns" {
  description = "The customer keys that encrypt `webhook_secret_arns` and `heartbeat_secret_arn`, if any do."
  type        = list(string)
  default     = []
}

variable "secret_recovery_window_in_days" {
  description = "How long the secret that is created here can be restored after a destroy, 7 to 30 days; 0 deletes it at once, and its name is free again."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_window_in_days == 0 || (var.secret_recovery_window_in_days >= 7 && var.secret_recovery_window_in_days <= 30)
    error_message = "secret_recovery_window_in_days must be 0 or between 7 and 30."
  }
}

variable "incidents_table" {
  description = "Whether to make the DynamoDB table by which replicas of the worker share incidents, and by which an incident outlives a restart. It is billed by request, cents a month."
  type        = bool
  default     = true
}

variable "incidents_table_deletion_protection" {
  description = "Whether that table refuses to be deleted. Without it the worker only forgets open incidents."
  type        = bool
  default     = false
}

variable "alarms" {
  description = "Whether to make CloudWatch alarms: the dead-letter queue or the undelivered queue is not empty, the oldest message is old, nobody polls the queue, nothing is sent to it, EventBridge cannot deliver or loses events. They need `alarm_topic_arns` or `alarm_email`."
  type        = bool
  default     = true

  validation {
    condition     = !var.alarms || length(var.alarm_topic_arns) > 0 || var.alarm_email != null
    error_message = "The alarms would reach nobody: set alarm_topic_arns or alarm_email, or say alarms = false."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that the alarms notify, when they go off and when they end. They should reach people by another way than the Slack channels of the worker: they go off when it cannot post."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics."
  }
}

variable "alarm_email" {
  description = "An address for which to make an SNS topic that the alarms notify. AWS sends it a link to confirm first."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be one email address."
  }
}

variable "runbook_url" {
  description = "Where your people find docs/operations.md; each alarm's description ends with this address and the anchor of its section."
  type        = string
  default     = "docs/operations.md"
}

variable "nothing_sent_alarm_hours" {
  description = "For how many hours EventBridge may send nothing before the alarm goes off. ECS reports every healthy service as steady every six hours or so; with `canary = \"rate(1 hour)\"`, 2 will do."
  type        = number
  default     = 24

  # CloudWatch looks back a day at most for an alarm of hourly data.
  validation {
    condition     = contains(range(1, 25), var.nothing_sent_alarm_hours)
    error_message = "nothing_sent_alarm_hours must be a whole number from 1 to 24."
  }
}

variable "silent_rule_alarms" {
  description = "Rules, by name, of which each gets an alarm that goes off when it has sent nothing for a day: those that always have something to send, such as `[\"recoveries\"]` where services run. `nothing-sent` only notices that all rules are silent, and with a `canary` only that the canary is."
  type        = set(string)
  default     = []

  validation {
    condition = alltrue([
      for rule in var.silent_rule_alarms :
      contains(keys(var.patterns), rule) || (var.recoveries && rule == "recoveries") || (var.start_failures && rule == "start-failures") ||
      (var.canary != null && rule == "canary") ||
      (var.problems && contains(["services", "deployments", "tasks", "instances", "instance-health", "others", "health"], rule))
    ])
    error_message = "silent_rule_alarms must be names of rules that are made: of the presets that are on, of patterns, or canary."
  }
}

variable "oldest_message_alarm_seconds" {
  description = "How old the oldest message may be, for three minutes, before the alarm goes off."
  type        = number
  default     = 600

  validation {
    condition     = var.oldest_message_alarm_seconds >= 60
    error_message = "oldest_message_alarm_seconds must be at least 60: SQS reports once a minute."
  }
}

variable "diagnose_log_group_arns" {
  description = "ARNs of log groups whose last lines may go into alerts (`diagnose.log_lines`); none by default, because a log may hold anything."
  type        = list(string)
  default     = []
}
