variable "name" {
  description = "Name of the queue, and prefix of all other names."
  type        = string
  default     = "ecs-slack-alerts"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,40}$", var.name))
    error_message = "name must have 1 to 40 letters, digits, hyphens or underscores: the names of rules and roles add a suffix to it, and AWS allows 64 characters."
  }
}

variable "tags" {
  description = "Tags for all resources that can have tags."
  type        = map(string)
  default     = {}
}

variable "problems" {
  description = "Whether to create the rules for every ECS event that the worker treats as a problem, for all deployments, for all stopped tasks, and for AWS Health events about ECS. Deployments and stopped tasks include routine ones (a completed deployment, a scale-in), which a rule cannot distinguish. The worker treats these as `info`, which no route takes unless its pattern asks for them."
  type        = bool
  default     = true
}

variable "recoveries" {
  description = "Whether to create the rule for recoveries of services, deployments and instances. The worker reports the recovery of an open incident; other recoveries are `info`, deleted and counted as `unrouted` unless a route's pattern asks for them. SERVICE_STEADY_STATE is the only event that reports that an impaired service has recovered; ECS repeats it every six hours or so for every healthy service, which costs about a hundredth of a cent per service and month."
  type        = bool
  default     = true
}

variable "start_failures" {
  description = "Whether to create the rule for calls of RunTask and StartTask that failed or did not start every task. ECS sends no event of its own for a scheduled task that never starts. The rule needs a CloudTrail trail that records management events in this Region; without one no event arrives."
  type        = bool
  default     = false
}

variable "patterns" {
  description = "Further rules: a map from rule name to event pattern in JSON, such as `{ alarms = jsonencode({ source = [\"aws.cloudwatch\"], detail-type = [\"CloudWatch Alarm State Change\"] }) }`. A pattern with the name of a preset rule (services, deployments, tasks, instances, instance-health, others, health, start-failures, recoveries) replaces that rule, for example to exclude a cluster."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.patterns) : can(regex("^[a-z0-9-]{1,23}$", name))])
    error_message = "The names of patterns must have 1 to 23 lower-case letters, digits or hyphens: they become the end of the rules' names."
  }

  validation {
    condition     = alltrue([for pattern in values(var.patterns) : can(keys(jsondecode(pattern)))])
    error_message = "Each value of patterns must be a JSON object: write jsonencode({ source = [\"…\"] })."
  }

  validation {
    condition     = !contains(keys(var.patterns), "canary")
    error_message = "patterns must not have the name canary: that is the name of the rule that the variable `canary` creates."
  }
}

variable "pattern_max_length" {
  description = "How many characters EventBridge allows in an event pattern: AWS's quota for this account and Region."
  type        = number
  default     = 2048
}

variable "canary" {
  description = "A schedule such as `rate(1 hour)`, on which EventBridge sends a canary: an event that the worker counts and never posts. It shows that events reach the worker even if ECS sends none. No canary by default."
  type        = string
  default     = null

  validation {
    condition     = var.canary == null || can(regex("^(rate|cron)\\(.+\\)$", var.canary))
    error_message = "canary must be an EventBridge schedule, such as rate(1 hour) or cron(0 * * * ? *)."
  }
}

variable "event_bus_name" {
  description = "The event bus of the rules. ECS puts its events on the bus `default` of the account and Region in which they happen. Another bus has only the events that are sent to it, for example from other accounts."
  type        = string
  default     = "default"

  validation {
    condition     = can(regex("^[A-Za-z0-9._/-]{1,256}$", var.event_bus_name))
    error_message = "event_bus_name must be the name of an event bus, not its ARN: letters, digits and . _ / -."
  }
}

variable "create_event_bus" {
  description = "Whether to create the bus `event_bus_name`; otherwise it must exist."
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
  description = "How long a message may wait in the queue; four days by default. The dead-letter queue keeps it until 14 days after it was first sent."
  type        = number
  default     = 345600

  validation {
    condition     = var.message_retention_seconds >= 3600 && var.message_retention_seconds <= 1123200
    error_message = "message_retention_seconds must be between 3600 (an hour) and 1123200 (13 days, a day less than the dead-letter queue's)."
  }
}

variable "max_receive_count" {
  description = "After this many receives a message goes to the dead-letter queue. Each receive that does not end in a delete counts, even one whose answer was lost. Between attempts the worker waits 30 s up to an hour, and longer while a channel is blocked."
  type        = number
  default     = 10

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "max_receive_count must be between 5 and 1000: fewer receives would move messages to the dead-letter queue in a short outage of Slack."
  }
}

variable "kms_key_arn" {
  description = "The ARN of a customer managed KMS key for the three queues, the table of incidents, the secret that the module creates and the topic of `alarm_email`, instead of the services' own keys. The key's policy must allow EventBridge to use it and, with `alarm_email`, CloudWatch (see \"A key of your own\" in the README of modules/messaging)."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a customer key (arn:…:key/…). alias/aws/sqs does not work: its policy cannot allow EventBridge to use it."
  }
}

variable "webhook_secret_arns" {
  description = "The full ARNs of the Secrets Manager secrets that hold Slack webhook URLs or bot tokens; the worker's role may read them. When empty, the module creates one secret for a webhook, without a value."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.webhook_secret_arns : can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", arn))])
    error_message = "webhook_secret_arns must be full ARNs with the six characters that Secrets Manager adds to the name."
  }
}

variable "webhook_url" {
  description = "The webhook's URL, for the secret that the module creates when `webhook_secret_arns` is empty. Ephemeral: it is in no plan and no state. Set it at every run with TF_VAR_webhook_url, and set `webhook_url_version` too. Or leave both out and set the secret's value by hand."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true

  # The provider needs the value at every run, even if it does not write it.
  validation {
    condition     = var.webhook_url_version == null || var.webhook_url != null
    error_message = "webhook_url_version needs webhook_url (TF_VAR_webhook_url) at every run, even if the version has not changed."
  }
}

variable "webhook_url_version" {
  description = "Decides when the module writes `webhook_url`: first at 1, and again whenever you raise the number. Null: you set the secret's value by hand."
  type        = number
  default     = null

  validation {
    condition     = var.webhook_url_version == null || length(var.webhook_secret_arns) == 0
    error_message = "webhook_url_version needs an empty webhook_secret_arns: the module writes only to the secret that it creates."
  }
}

variable "heartbeat_secret_arn" {
  description = "The full ARN of the secret that holds the URL of the worker's heartbeat (`heartbeat.url_secret_id` of the configuration). The module allows the worker's role to read it, and adds HEARTBEAT_URL_SECRET_ID to the worker's environment."
  type        = string
  default     = null

  validation {
    condition     = var.heartbeat_secret_arn == null || can(regex("^arn:[a-z-]+:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:.+-[A-Za-z0-9]{6}$", var.heartbeat_secret_arn))
    error_message = "heartbeat_secret_arn must be a full ARN with the six characters that Secrets Manager adds to the name."
  }
}

variable "secret_kms_key_arns" {
  description = "The ARNs of the customer managed KMS keys that encrypt `webhook_secret_arns` and `heartbeat_secret_arn`, if there are any."
  type        = list(string)
  default     = []
}

variable "secret_recovery_window_in_days" {
  description = "For how many days after a destroy you can restore the secret that the module creates: 7 to 30. 0 deletes it at once, so that its name can be used again."
  type        = number
  default     = 7

  validation {
    condition     = var.secret_recovery_window_in_days == 0 || (var.secret_recovery_window_in_days >= 7 && var.secret_recovery_window_in_days <= 30)
    error_message = "secret_recovery_window_in_days must be 0 or between 7 and 30."
  }
}

variable "incidents_table" {
  description = "Whether to create the DynamoDB table in which replicas of the worker share incidents, and which keeps incidents across restarts. AWS bills it by request: cents a month."
  type        = bool
  default     = true
}

variable "incidents_table_deletion_protection" {
  description = "Whether the table of incidents has deletion protection. If somebody deletes the table, the worker only forgets open incidents."
  type        = bool
  default     = false
}

variable "alarms" {
  description = "Whether to create CloudWatch alarms: the dead-letter queue or the undelivered queue is not empty, the oldest message is old, nobody polls the queue, nothing is sent to it, EventBridge cannot deliver or loses events. They need `alarm_topic_arns` or `alarm_email`."
  type        = bool
  default     = true

  validation {
    condition     = !var.alarms || length(var.alarm_topic_arns) > 0 || var.alarm_email != null
    error_message = "The alarms would reach nobody: set alarm_topic_arns or alarm_email, or set alarms = false."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that the alarms notify when they go off and when they end. The topics should not depend on the worker's Slack channels, because the alarms go off when the worker cannot post."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "alarm_topic_arns must be ARNs of SNS topics."
  }
}

variable "alarm_email" {
  description = "An email address. The module creates an SNS topic for it, which the alarms notify. AWS first sends a link with which somebody must confirm the address."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@\\s]+@[^@\\s]+$", var.alarm_email))
    error_message = "alarm_email must be one email address."
  }
}

variable "runbook_url" {
  description = "The address at which your people read docs/operations.md. Each alarm's description ends with this address and the anchor of the alarm's section."
  type        = string
  default     = "docs/operations.md"
}

variable "nothing_sent_alarm_hours" {
  description = "After how many hours without a message from EventBridge the alarm `nothing-sent` goes off. ECS reports every healthy service as steady every six hours or so; with `canary = \"rate(1 hour)\"`, 2 is enough."
  type        = number
  default     = 24

  # An alarm on hourly data can look back a day at most.
  validation {
    condition     = contains(range(1, 25), var.nothing_sent_alarm_hours)
    error_message = "nothing_sent_alarm_hours must be a whole number from 1 to 24."
  }
}

variable "silent_rule_alarms" {
  description = "Names of rules that should never be silent, such as `[\"recoveries\"]` where services run. For each, the module creates an alarm that goes off when the rule has sent nothing for a day. The alarm `nothing-sent` goes off only if no rule sends anything; with a `canary`, only if the canary is missing too."
  type        = set(string)
  default     = []

  validation {
    condition = alltrue([
      for rule in var.silent_rule_alarms :
      contains(keys(var.patterns), rule) || (var.recoveries && rule == "recoveries") || (var.start_failures && rule == "start-failures") ||
      (var.canary != null && rule == "canary") ||
      (var.problems && contains(["services", "deployments", "tasks", "instances", "instance-health", "others", "health"], rule))
    ])
    error_message = "silent_rule_alarms must be names of rules that the module creates: of the presets that are on, of patterns, or canary."
  }
}

variable "oldest_message_alarm_seconds" {
  description = "The alarm `oldest-message` goes off when the oldest message has been older than this for three minutes."
  type        = number
  default     = 600

  validation {
    condition     = var.oldest_message_alarm_seconds >= 60
    error_message = "oldest_message_alarm_seconds must be at least 60: SQS reports the age once a minute."
  }
}

variable "diagnose_log_group_arns" {
  description = "ARNs of the log groups that the worker may read, to show the last lines of a crashed container (`diagnose.log_lines`). None by default, because a log may hold secrets."
  type        = list(string)
  default     = []
}
