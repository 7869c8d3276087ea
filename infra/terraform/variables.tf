# Each is validated by the module that it is for, modules/messaging or modules/worker.

variable "name" {
  description = "Name of the queue and the service, and what the names of everything else begin with."
  type        = string
  default     = "ecs-slack-alerts"
}

variable "image" {
  description = "The container image, with a tag or a digest. From a private ECR repository, the execution role may pull that one."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the tasks, in one VPC. From there they must reach Slack and AWS: through a NAT gateway, or by `assign_public_ip`."
  type        = list(string)
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
}

variable "event_bus_name" {
  description = "The event bus of the rules. ECS puts its events on the `default` bus of the account and region where they happen; on another there is only what was sent there, for example from other accounts."
  type        = string
  default     = "default"
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
}

variable "allowed_organization_id" {
  description = "The organisation whose accounts may put events on the bus."
  type        = string
  default     = null
}

variable "message_retention_seconds" {
  description = "How long an event may wait for the worker: four days by default. The dead-letter queue keeps it until it is 14 days old, counted from the event."
  type        = number
  default     = 345600
}

variable "max_receive_count" {
  description = "Receives after which a message goes to the dead-letter queue. Each receive that does not end in a delete counts, even one whose answer was lost; the worker waits from 30 s up to an hour between its attempts."
  type        = number
  default     = 10
}

variable "kms_key_arn" {
  description = "A customer key for the three queues, the table of incidents and the secret that is created here, in place of the services' own keys; also for the topic of `alarm_email`. Its policy must let EventBridge, and with that topic CloudWatch, use it (see \"A key of your own\")."
  type        = string
  default     = null
}

variable "webhook_secret_arns" {
  description = "The full ARNs of the Secrets Manager secrets that hold Slack webhook URLs. When empty, one secret is created, without a value."
  type        = list(string)
  default     = []
}

variable "webhook_url" {
  description = "The webhook's URL, for the secret that is created when `webhook_secret_arns` is empty. Ephemeral: it is in no plan and no state. Set it by TF_VAR_webhook_url at every run, and `webhook_url_version` with it; or leave both out and put the value there by hand."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "webhook_url_version" {
  description = "Says when to write `webhook_url`: at 1, and again whenever the number grows. Null: the secret's value is put there by hand."
  type        = number
  default     = null
}

variable "heartbeat_secret_arn" {
  description = "The full ARN of the secret that holds the URL of the worker's heartbeat (HEARTBEAT_URL_SECRET_ID, `[heartbeat] url_secret_id`). The worker's role may read it, and `environment` names it."
  type        = string
  default     = null
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
}

variable "alarm_topic_arns" {
  description = "SNS topics that the alarms notify, when they go off and when they end. They should reach people by another way than the Slack channels of the worker: they go off when it cannot post."
  type        = list(string)
  default     = []
}

variable "alarm_email" {
  description = "An address for which to make an SNS topic that the alarms notify. AWS sends it a link to confirm first."
  type        = string
  default     = null
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
}

variable "silent_rule_alarms" {
  description = "Rules, by name, of which each gets an alarm that goes off when it has sent nothing for a day: those that always have something to send, such as `[\"recoveries\"]` where services run. `nothing-sent` only notices that all rules are silent, and with a `canary` only that the canary is."
  type        = set(string)
  default     = []
}

variable "oldest_message_alarm_seconds" {
  description = "How old the oldest message may be, for three minutes, before the alarm goes off."
  type        = number
  default     = 600
}

variable "cpu_architecture" {
  description = "ARM64, which is a fifth cheaper, or X86_64; the image must be for it."
  type        = string
  default     = "ARM64"
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 256
}

variable "memory" {
  description = "Memory of a task in MiB; Fargate offers 2 to 8 times `cpu`."
  type        = number
  default     = 512
}

variable "environment" {
  description = "Further environment variables of the worker, such as ACCOUNT_NAME or RUST_LOG."
  type        = map(string)
  default     = {}
}

variable "config_content" {
  description = "The worker's configuration file, as TOML; for several channels and routes. Environment variables win over it."
  type        = string
  default     = null
}

variable "dlq_commands" {
  description = "Whether the worker's role may also run `dlq list` and `dlq redrive`, for `aws ecs run-task` with that command. Else attach `dlq_policy_json` to the role of a person."
  type        = bool
  default     = false
}

variable "diagnose" {
  description = "Whether the worker's role may ask ECS why a service is in trouble: it reads services, their deployments, tasks and task definitions, and the health of their load balancers' targets; alerts show the names that changed in a task definition and never a value."
  type        = bool
  default     = true
}

variable "diagnose_log_group_arns" {
  description = "ARNs of log groups whose last lines may go into alerts (`diagnose.log_lines`); none by default, because a log may hold anything."
  type        = list(string)
  default     = []
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
}

variable "log_retention_days" {
  description = "How long CloudWatch Logs keeps the log."
  type        = number
  default     = 30
}

variable "log_kms_key_arn" {
  description = "A customer key for the log group. Its policy must let CloudWatch Logs use it (`logs.REGION.amazonaws.com`)."
  type        = string
  default     = null
}

variable "dashboard" {
  description = "Whether to make a CloudWatch dashboard from the metrics of SQS, ECS and EventBridge and from the worker's log, for those who have no Prometheus. It has no metrics of its own; beyond three dashboards in the account AWS bills $3 a month."
  type        = bool
  default     = false
}
