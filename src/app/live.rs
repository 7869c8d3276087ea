//! `check --live`: asks AWS and Slack whether the worker could run. Posts nothing.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{Misconfigured, load_aws, queue_error, resolve, secrets, slack_client, unusable_table};
use crate::{
    config::Config,
    diagnose, heartbeat,
    incident::store::dynamodb::DynamoDb,
    log,
    metrics::SlackOutcome,
    output,
    reporter::IncidentSettings,
    slack::{
        client::Client,
        render,
        target::{Bot, Target},
        web_api::{BotIdentity, QuestionError},
    },
    sqs::{Queue, Redrive},
};

/// The smallest `maxReceiveCount` that AWS advises.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html>
const MIN_MAX_RECEIVE_COUNT: u32 = 5;

/// Checks the queue, the roles, the webhooks and tokens, the heartbeat's URL and the table. Prints what it finds; a fault is an error.
///
/// # Errors
/// When the queue, a webhook or token, the heartbeat's URL or the table cannot be used.
pub async fn check_live(config: &Config) -> Result<()> {
    let aws = load_aws(Some(&config.queue.url)).await?;
    let queue = Queue::new(&aws, &config.queue.url);
    let state = queue.state().await.map_err(|error| queue_error(&error, &config.queue.url))?;
    // Only a receive shows whether the queue may be read. A receive counts towards maxReceiveCount, so a queue with messages is not read.
    if state.visible == 0 {
        let read = queue.receive(1, Duration::ZERO, Duration::ZERO).await;
        read.map_err(|error| queue_error(&error, &config.queue.url))?;
        output::print("queue: readable")?;
    } else {
        let held = state.visible;
        output::print(format_args!(
            "queue: exists; not read, because a receive would count against the {held} messages in it"
        ))?;
    }
    match &state.redrive {
        None => log::say(
            "warning: the queue has no dead-letter queue; messages that cannot be decoded stay until they expire",
        ),
        Some(redrive) if redrive.max_receive_count < MIN_MAX_RECEIVE_COUNT => log::say(format_args!(
            "warning: maxReceiveCount is {}; AWS advises at least {MIN_MAX_RECEIVE_COUNT}, and 10 suits alerts better",
            redrive.max_receive_count
        )),
        Some(Redrive { dead_letter_arn, max_receive_count }) => {
            output::print(format_args!("dead-letter queue: {dead_letter_arn} after {max_receive_count} receives"))?;
        }
    }
    if let Some(settings) = &config.diagnose {
        for (action, cost) in diagnose::denied_actions(&aws, settings, &state.arn).await {
            log::say(format_args!(
                "warning: the role may not {action} on every cluster; for a cluster where it may not, {cost}"
            ));
        }
    }
    let secrets = secrets(config, Some(&aws));
    for channel in &config.channels {
        match resolve(&secrets, channel).await?.target {
            Target::Webhook(_) => {
                output::print(format_args!("channel {}: its webhook is an allowed URL", channel.name))?;
            }
            Target::Bot(bot) => check_bot(config, &slack_client()?, &bot, &channel.name).await?,
        }
    }
    if let Some(settings) = &config.heartbeat {
        let url = heartbeat::resolve(&settings.source, &secrets.webhooks, &config.allowed_hosts).await;
        url.map_err(|error| {
            let what = format!("heartbeat: the secret (heartbeat.url_secret_id, HEARTBEAT_URL_SECRET_ID): {error}");
            if error.is_transient() { anyhow::anyhow!(what) } else { Misconfigured(what).into() }
        })?;
        output::print("heartbeat: its URL is valid; it was not requested")?;
    }
    if let Some(IncidentSettings { table: Some(name), .. }) = &config.incidents {
        let table = DynamoDb::new(&aws, name);
        table.check_schema().await.map_err(|error| unusable_table(name, &error))?;
        table.check_access().await.map_err(|error| unusable_table(name, &error))?;
        output::print(format_args!("table {name}: can be read and written"))?;
    }
    Ok(())
}

/// Checks what a bot token may do, whether its bot is in the channel, and whether Slack accepts an alert as valid. Posts nothing.
async fn check_bot(config: &Config, slack: &Client, bot: &Bot, channel: &str) -> Result<()> {
    let timeout = config.consumer().request_timeout();
    let identity = slack.identify(bot, timeout).await;
    let BotIdentity { team, user, scopes } = identity.map_err(|answer| match answer.outcome() {
        SlackOutcome::Refused => Misconfigured(format!("channel {channel:?}: its bot token: Slack {answer}")).into(),
        _ => anyhow::anyhow!("channel {channel:?}: its bot token could not be checked: Slack {answer}"),
    })?;
    let may = |wanted: &str| scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope == wanted));
    if !may("chat:write") {
        let what = format!("channel {channel:?}: its bot token lacks the scope chat:write");
        bail!(Misconfigured(what));
    }
    output::print(format_args!("channel {channel}: its bot token is that of {user} in {team}"))?;
    match slack.is_member(bot, timeout).await {
        Ok(true) => output::print(format_args!("channel {channel}: the bot is in it"))?,
        Ok(false) if may("chat:write.public") => {
            log::say(format_args!(
                "warning: channel {channel:?}: the bot is not in it; Slack takes its posts if it is public"
            ));
        }
        Ok(false) => {
            let id = &bot.channel;
            bail!(Misconfigured(format!(
                "channel {channel:?}: the bot is not in {id}; invite it there, or give it chat:write.public"
            )));
        }
        Err(QuestionError::MissingScope(scope)) => {
            let scope = scope.as_deref().unwrap_or("channels:read");
            output::print(format_args!(
                "channel {channel}: membership of the bot is unknown without the scope {scope}"
            ))?;
        }
        Err(error) => {
            log::say(format_args!("warning: channel {channel:?}: membership of the bot is unknown: {error}"));
        }
    }
    match slack.fault_of(bot, &render::example(), timeout).await {
        Ok(None) => output::print(format_args!("channel {channel}: Slack finds an alert valid"))?,
        Ok(Some(code)) => {
            log::say(format_args!("warning: channel {channel:?}: Slack finds an alert not valid: {code}"));
        }
        Err(error) => {
            log::say(format_args!("warning: channel {channel:?}: Slack did not validate an alert: {error}"));
        }
    }
    Ok(())
}
