# The modules messaging and worker validate these variables.

variable "name" {
  description = "Name of the queue and the service, and prefix of all other names."
  type        = string
  default     = "ecs-slack-alerts"
}

variable "image" {
  description = "The container image, with a tag (not latest) or a digest. If it is in a private ECR repository, the execution role may pull from that repository."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the tasks, in one VPC. The tasks must be able to reach Slack and AWS from them: through a NAT gateway, or with `assign_public_ip`."
  type        = list(string)
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
}

variable "event_bus_name" {
  description = "The event bus of the rules. ECS puts its events on the bus `default` of the account and Region in which they happen. Another bus has only the events that are sent to it, for example from other accounts."
  type        = string
  default     = "default"
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
}

variable "allowed_organization_id" {
  description = "The organisation whose accounts may put events on the bus."
  type        = string
  default     = null
}

variable "message_retention_seconds" {
  description = "How long a message may wait in the queue; four days by default. The dead-letter queue keeps it until 14 days after it was first sent."
  type        = number
  default     = 345600
}

variable "max_receive_count" {
  description = "After this many receives a message goes to the dead-letter queue. Each receive that does not end in a delete counts, even one whose answer was lost. Between attempts the worker waits 30 s up to an hour, and longer while a channel is blocked."
  type        = number
  default     = 10
}

variable "kms_key_arn" {
  description = "The ARN of a customer managed KMS key for the three queues, the table of incidents, the secret that the module creates and the topic of `alarm_email`, instead of the services' own keys. The key's policy must allow EventBridge to use it and, with `alarm_email`, CloudWatch (see \"A key of your own\" in the README of modules/messaging)."
  type        = string
  default     = null
}

variable "webhook_secret_arns" {
  description = "The full ARNs of the Secrets Manager secrets that hold Slack webhook URLs or bot tokens; the worker's role may read them. When empty, the module creates one secret for a webhook, without a value."
  type        = list(string)
  default     = []
}

variable "webhook_url" {
  description = "The webhook's URL, for the secret that the module creates when `webhook_secret_arns` is empty. Ephemeral: it is in no plan and no state. Set it at every run with TF_VAR_webhook_url, and set `webhook_url_version` too. Or leave both out and set the secret's value by hand."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "webhook_url_version" {
  description = "Decides when the module writes `webhook_url`: first at 1, and again whenever you raise the number. Null: you set the secret's value by hand."
  type        = number
  default     = null
}

variable "heartbeat_secret_arn" {
  description = "The full ARN of the secret that holds the URL of the worker's heartbeat (`heartbeat.url_secret_id` of the configuration). The module allows the worker's role to read it, and adds HEARTBEAT_URL_SECRET_ID to the worker's environment."
  type        = string
  default     = null
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
}

variable "alarm_topic_arns" {
  description = "SNS topics that the alarms notify when they go off and when they end. The topics should not depend on the worker's Slack channels, because the alarms go off when the worker cannot post."
  type        = list(string)
  default     = []
}

variable "alarm_email" {
  description = "An email address. The module creates an SNS topic for it, which the alarms notify. AWS first sends a link with which somebody must confirm the address."
  type        = string
  default     = null
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
}

variable "silent_rule_alarms" {
  description = "Names of rules that should never be silent, such as `[\"recoveries\"]` where services run. For each, the module creates an alarm that goes off when the rule has sent nothing for a day. The alarm `nothing-sent` goes off only if no rule sends anything; with a `canary`, only if the canary is missing too."
  type        = set(string)
  default     = []
}

variable "oldest_message_alarm_seconds" {
  description = "The alarm `oldest-message` goes off when the oldest message has been older than this for three minutes."
  type        = number
  default     = 600
}

variable "cpu_architecture" {
  description = "ARM64, which is a fifth cheaper, or X86_64. The image must be built for it."
  type        = string
  default     = "ARM64"
}

variable "cpu" {
  description = "CPU units of a task: 256, 512, 1024, 2048 or 4096. 1024 are one vCPU."
  type        = number
  default     = 256
}

variable "memory" {
  description = "Memory of a task in MiB: 512 or a multiple of 1024. Fargate allows 2 to 8 times `cpu`."
  type        = number
  default     = 512
}

variable "environment" {
  description = "Further environment variables of the worker, such as ACCOUNT_NAME or RUST_LOG."
  type        = map(string)
  default     = {}
}

variable "config_content" {
  description = "The text of the worker's configuration file, in TOML, for example for several channels and routes. Environment variables override it."
  type        = string
  default     = null
}

variable "dlq_commands" {
  description = "Whether the worker's role also allows `dlq list` and `dlq redrive`, so that you can run them with `aws ecs run-task`. Otherwise attach `dlq_policy_json` to a person's role."
  type        = bool
  default     = false
}

variable "diagnose" {
  description = "Whether the worker's role may ask ECS why a service fails. The worker reads services, their deployments, tasks and task definitions, and the health of their load balancers' targets. Alerts show which names changed in a task definition, and never a value."
  type        = bool
  default     = true
}

variable "diagnose_log_group_arns" {
  description = "ARNs of the log groups that the worker may read, to show the last lines of a crashed container (`diagnose.log_lines`). None by default, because a log may hold secrets."
  type        = list(string)
  default     = []
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
}

variable "log_retention_days" {
  description = "How many days CloudWatch Logs keeps the log."
  type        = number
  default     = 30
}

variable "log_kms_key_arn" {
  description = "The ARN of a customer managed KMS key for the log group. Its policy must allow CloudWatch Logs (`logs.REGION.amazonaws.com`) to use it."
  type        = string
  default     = null
}

variable "dashboard" {
  description = "Whether to create a CloudWatch dashboard from the metrics of SQS, ECS and EventBridge and from the worker's log, for teams without Prometheus. It creates no metrics. AWS bills $3 a month for it if the account already has three dashboards."
  type        = bool
  default     = false
}
