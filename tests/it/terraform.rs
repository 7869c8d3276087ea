//! Applies the Terraform module. A worker that is configured only by its outputs posts the events that its rules send to the queue. The test
//! is ignored by default, because it needs terraform and takes minutes: the AWS provider waits 25 s for each queue. `make test` runs it
//! if terraform is installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use lab::{
    aws::{Aws, DEFAULT_BUS},
    events::Ecs,
    slack::Slack,
    worker::Worker,
};
use serde_json::Value;

use crate::world::{BINARY, LIMIT, metric_is, outcome};

struct Terraform {
    /// A copy of the module, so that no state, plugin or lock file is written among the sources.
    folder: PathBuf,
    endpoint: String,
    webhook_url: String,
}

impl Terraform {
    fn copy(endpoint: &str, webhook_url: String) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("terraform");
        let _ = std::fs::remove_dir_all(&folder);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/terraform");
        let copied = Command::new("cp").arg("-R").args([&source, &folder]).status().unwrap();
        assert!(copied.success());
        std::fs::write(folder.join("cli.tfrc"), "").unwrap();
        Self { folder, endpoint: endpoint.to_owned(), webhook_url }
    }

    /// Runs terraform, and returns what it printed. Every exit code except 0 is a failure. So a plan with changes is one, with
    /// `-detailed-exitcode`.
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("terraform")
            .arg(format!("-chdir={}", self.folder.join("tests/apply").display()))
            .args(arguments)
            .env("TF_CLI_CONFIG_FILE", self.folder.join("cli.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_VAR_endpoint", &self.endpoint)
            .env("TF_VAR_webhook_url", &self.webhook_url)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "terraform {arguments:?}: {out}{err}");
        out.into_owned()
    }
}

/// Receives the canary from the queue. Checks that it has the time of its schedule, and that the worker recognises it.
async fn receive_canary(aws: &Aws, terraform: &Terraform) {
    let outputs: Value = serde_json::from_str(&terraform.run(&["output", "-json"])).unwrap();
    let queue_url = outputs["environment"]["value"]["QUEUE_URL"].as_str().unwrap();
    let sqs = aws_sdk_sqs::Client::new(&aws.sdk_config().await);
    let receive = async || {
        let receive = sqs.receive_message().queue_url(queue_url).wait_time_seconds(20);
        receive.send().await.unwrap().messages.unwrap_or_default().pop()
    };
    let mut received = None;
    // Six long polls of 20 s. The schedule sends a canary every minute.
    for _ in 0..6 {
        received = receive().await;
        if received.is_some() {
            break;
        }
    }
    let message = received.expect("a canary within two minutes");
    let event: Value = serde_json::from_str(message.body().unwrap()).unwrap();
    humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
    let file = terraform.folder.join("canary.json");
    std::fs::write(&file, message.body().unwrap()).unwrap();
    let webhook = ("SLACK_WEBHOOK_URL".to_owned(), "https://hooks.slack.com/services/T/B/x".to_owned());
    let (code, said) = outcome(vec![webhook], &["render", file.to_str().unwrap()]).await;
    let line: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &line["outcome"]), (Some(0), &"canary".into()), "{event}: {said}");
    let delete = sqs.delete_message().queue_url(queue_url).receipt_handle(message.receipt_handle().unwrap());
    delete.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs terraform and takes minutes"]
async fn the_module_is_applied_and_the_worker_runs_on_its_outputs() {
    let aws = Aws::start().await.unwrap();
    let slack = Slack::start().await.unwrap();
    let terraform = Terraform::copy(aws.endpoint(), slack.url("applied"));
    let plugins = std::env::var("TF_PLUGIN_DIR").ok().filter(|folder| !folder.is_empty());
    let plugins = plugins.map(|folder| format!("-plugin-dir={folder}"));
    let backend = format!("-backend-config=path={}", terraform.folder.join("state").display());
    let init: Vec<&str> = ["init", "-input=false", &backend].into_iter().chain(plugins.as_deref()).collect();
    terraform.run(&init);
    // First with a canary, whose schedule sends one after a minute. Then without it, so that the counts below contain only events.
    terraform.run(&["apply", "-input=false", "-auto-approve", "-var=canary=rate(1 minute)"]);
    receive_canary(&aws, &terraform).await;
    terraform.run(&["apply", "-input=false", "-auto-approve"]);
    terraform.run(&["plan", "-input=false", "-detailed-exitcode"]);

    let outputs: Value = serde_json::from_str(&terraform.run(&["output", "-json"])).unwrap();
    let output = |name: &str| outputs[name]["value"].clone();
    let state = std::fs::read_to_string(terraform.folder.join("state")).unwrap();
    assert!(!state.contains(&terraform.webhook_url), "the state holds the webhook");
    let mut environment = aws.environment();
    for (name, value) in output("environment").as_object().unwrap() {
        environment.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    environment.push(("SLACK_ALLOWED_HOSTS".into(), "127.0.0.1".into()));
    environment.push(("SHUTDOWN_GRACE".into(), "4s".into()));
    let mut worker = Worker::spawn(BINARY, environment, &["run"]).unwrap();
    worker.wait_ready().await.unwrap();

    let ecs = Ecs::default();
    let problems = [
        ecs.start_impaired("impaired"),
        ecs.placement_failure("unplaced"),
        ecs.deployment_failed("undeployed"),
        ecs.rollback("rolled-back"),
        ecs.image_missing("imageless"),
        ecs.out_of_memory("greedy"),
        ecs.failed_health_check("sick"),
        ecs.spot_warning("interrupted"),
    ];
    // The rules send recoveries and routine stops to the queue, for routes whose patterns match them. By default there is no such route.
    let routine = [ecs.steady_state("calm"), ecs.deployment_completed("finished"), ecs.scaled_in("shrunk")];
    // The rules keep the rest from the queue.
    let filtered = [
        ecs.service_action("untouched", "INFO", "SERVICE_DESIRED_COUNT_UPDATED", None),
        ecs.service_action("untouched", "INFO", "TASKS_STOPPED", None),
    ];
    for events in [&filtered[..], &routine, &problems] {
        aws.put_events(DEFAULT_BUS, events).await.unwrap();
    }
    let names = ["impaired", "unplaced", "undeployed", "rolled-back", "imageless", "greedy", "sick", "interrupted"];
    let all = |requests: &[lab::slack::Request]| {
        names.iter().all(|name| requests.iter().any(|request| request.accepted && request.mentions(name)))
    };
    slack.wait_for(all, LIMIT).await.unwrap();
    metric_is(&worker, "messages_total", &[("outcome", "unrouted")], routine.len() as f64).await;
    metric_is(&worker, "messages_received_total", &[], (routine.len() + problems.len()) as f64).await;
    for name in ["calm", "finished", "shrunk", "untouched"] {
        assert!(!slack.requests().iter().any(|request| request.mentions(name)), "{name} was posted");
    }
    worker.terminate().await.unwrap();
    assert_eq!(worker.wait(LIMIT).await.unwrap().code(), Some(0), "{worker}");

    terraform.run(&["destroy", "-input=false", "-auto-approve"]);
    assert_eq!(aws.inventory().await.unwrap(), Vec::<String>::new(), "destroy leaves nothing");
}
