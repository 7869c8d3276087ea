//! Runs the program as a child process, with its log, its metrics and its signals.

use std::fmt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

/// One line of its log or output.
#[derive(Debug, Clone)]
pub struct Line {
    /// As it was written.
    pub text: String,
    /// The same, parsed; null if it is not JSON.
    pub json: Value,
}

impl Line {
    /// A field of a JSON line, at the top level or under `fields`; null if there is none.
    pub fn field(&self, name: &str) -> &Value {
        let top = &self.json[name];
        if top.is_null() { &self.json["fields"][name] } else { top }
    }

    /// The message of a JSON line.
    pub fn message(&self) -> &str {
        self.field("message").as_str().unwrap_or_default()
    }
}

/// A running worker. It is killed when this is dropped, and when the program that started it ends for any reason.
pub struct Worker {
    process: Child,
    /// A shell that kills the worker when its standard input closes.
    watchdog: Child,
    lines: Arc<watch::Sender<Lines>>,
    /// Its standard error, while it is not read.
    unread: Option<ChildStderr>,
    /// The address on which it listens, if the log is not read.
    listen: Option<String>,
}

/// Where a worker's standard error goes.
pub enum Log {
    /// It is read at once.
    Read,
    /// It goes to a pipe that is not read until [`Worker::read_log`] or [`Worker::close_log`].
    Unread,
    /// It goes to this and is not read here.
    To(Stdio),
}

#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    /// How many of standard output and standard error have ended.
    ended: u8,
}

impl Worker {
    /// Starts `binary` with these arguments, exactly this environment, a free port and a JSON log. Does not wait until it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        binary: impl AsRef<Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::spawn_logging(binary, environment, arguments, Log::Read)
    }

    /// The same with another destination of the log. If the log is not read, the environment must set `LISTEN_ADDR`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_logging(
        binary: impl AsRef<Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        arguments: &[&str],
        log: Log,
    ) -> Result<Self> {
        let environment: Vec<_> = environment.into_iter().collect();
        let listen = environment.iter().rev().find(|(name, _)| name == "LISTEN_ADDR").map(|(_, value)| value.clone());
        let listen = listen.filter(|_| !matches!(log, Log::Read));
        let (stderr, unread) = match log {
            Log::Read => (Stdio::piped(), false),
            Log::Unread => (Stdio::piped(), true),
            Log::To(elsewhere) => (elsewhere, false),
        };
        let mut process = Command::new(binary.as_ref())
            .args(arguments)
            // A developer's variables (AWS_PROFILE, RUST_LOG …) must not change the result of a test.
            .env_clear()
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // A separate process group, so that Ctrl-C in the terminal does not stop it: the program that started it stops it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.as_ref().display()))?;
        let watchdog = Command::new("/bin/sh")
            .args(["-c", "read -r _; kill -KILL \"$1\"", "watchdog"])
            .arg(process.id().unwrap_or_default().to_string())
            .stdin(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let lines = Arc::new(watch::Sender::new(Lines::default()));
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(collect(stdout, lines.clone()));
        }
        let stderr = process.stderr.take();
        let mut worker = Self { process, watchdog, lines, unread: stderr, listen };
        if !unread {
            worker.read_log();
        }
        Ok(worker)
    }

    /// Begins to read its log, if it is not read yet.
    pub fn read_log(&mut self) {
        match self.unread.take() {
            Some(stderr) => drop(tokio::spawn(collect(stderr, self.lines.clone()))),
            None => self.lines.send_modify(|lines| lines.ended += 1),
        }
    }

    /// Closes the reading end of its log, which was not read.
    pub fn close_log(&mut self) {
        drop(self.unread.take());
        self.read_log();
    }

    /// Its process id; `None` if it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Every line so far, of standard output and standard error.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.borrow().lines.clone()
    }

    /// Waits for lines after the first `count`, and returns them. Returns none if it has ended.
    pub async fn lines_after(&self, count: usize) -> Vec<Line> {
        let mut lines = self.lines.subscribe();
        let _ = lines.wait_for(|lines| lines.ended == 2 || lines.lines.len() > count).await;
        self.lines.borrow().lines.iter().skip(count).cloned().collect()
    }

    /// Waits until it has written a line as wanted, and returns the first one.
    ///
    /// # Errors
    /// After `limit`, or when it has ended without such a line; with everything that it wrote.
    pub async fn wait_for_line(&self, wanted: impl Fn(&Line) -> bool, limit: Duration) -> Result<Line> {
        let mut lines = self.lines.subscribe();
        let over = |lines: &Lines| lines.ended == 2 || lines.lines.iter().any(&wanted);
        let waited = tokio::time::timeout(limit, lines.wait_for(over)).await.map(drop);
        let found = self.lines.borrow().lines.iter().find(|line| wanted(line)).cloned();
        found.with_context(|| {
            let why = if waited.is_ok() { "the worker ended".to_owned() } else { format!("not within {limit:?}") };
            format!("{why}; the worker wrote:\n{self}")
        })
    }

    /// Waits until its HTTP server listens. Returns the URL of this path.
    ///
    /// # Errors
    /// When it does not listen within 10 s.
    pub async fn url(&self, path: &str) -> Result<String> {
        if let Some(listen) = &self.listen {
            return Ok(format!("http://{listen}{path}"));
        }
        let line = self.wait_for_line(|line| line.message() == "listening", Duration::from_secs(10)).await?;
        Ok(format!("http://{}{path}", line.field("listen").as_str().context("listening, but where?")?))
    }

    /// Requests this path of its HTTP server. Returns the status and the body.
    ///
    /// # Errors
    /// When it does not listen or answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        crate::get(&self.url(path).await?).await
    }

    /// Its current metrics.
    ///
    /// # Errors
    /// When it does not answer, or a line of the answer is not in the text format.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics").await?.1)
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it does not within 10 s, or has ended.
    pub async fn wait_ready(&self) -> Result<()> {
        let url = self.url("/readyz").await?;
        let mut last = (0, String::new());
        let asked = crate::eventually("/readyz answers 200", Duration::from_secs(10), async || {
            match crate::get(&url).await {
                Ok(answer) => last = answer,
                // If the port was known before, it may not listen yet.
                Err(_) if self.listen.is_some() && self.process.id().is_some() => {}
                Err(error) => return Err(error),
            }
            Ok(last.0 == 200)
        });
        asked.await.with_context(|| format!("{last:?}; the worker wrote:\n{self}"))
    }

    /// Sends SIGTERM, as ECS and Kubernetes do to stop it.
    ///
    /// # Errors
    /// When it has already ended.
    pub async fn terminate(&self) -> Result<()> {
        self.signal("TERM").await
    }

    /// Sends SIGINT, as Ctrl-C in a terminal does.
    ///
    /// # Errors
    /// When it has already ended.
    pub async fn interrupt(&self) -> Result<()> {
        self.signal("INT").await
    }

    /// Sends this signal: `HUP`, `QUIT` …
    ///
    /// # Errors
    /// When it has already ended.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let id = self.process.id().context("the worker has ended")?;
        let kill =
            Command::new("/bin/sh").args(["-c", "kill -\"$1\" \"$2\"", "kill", name]).arg(id.to_string()).status();
        if !kill.await?.success() {
            bail!("SIG{name} could not be sent");
        }
        Ok(())
    }

    /// Sends SIGKILL, and waits until it has ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await?;
        self.watchdog.kill().await?;
        Ok(())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// After `limit`, with everything that it wrote.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let Ok(status) = tokio::time::timeout(limit, self.process.wait()).await else {
            bail!("the worker has not ended within {limit:?}; it wrote:\n{self}");
        };
        // The watchdog must end before another process can get the worker's process id.
        self.watchdog.kill().await?;
        if self.unread.is_some() {
            return Ok(status?);
        }
        // Its last lines may still be in the pipes.
        let _ = self.lines.subscribe().wait_for(|lines| lines.ended == 2).await;
        Ok(status?)
    }
}

/// Everything it wrote.
impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.borrow().lines.iter().try_for_each(|line| writeln!(f, "  {}", line.text))
    }
}

/// The samples in an answer of `/metrics`.
#[derive(Debug, Clone)]
pub struct Metrics(Vec<Sample>);

/// One sample, which is one line of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its full name.
    pub name: String,
    /// Its labels, in order.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// The sum of the samples that have this name, without the prefix `ecs_slack_alerts_`, and at least these labels. `None` if there is no
    /// such sample.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has =
            |sample: &Sample, (label, value): (&str, &str)| sample.labels.iter().any(|(l, v)| l == label && v == value);
        let matching = self.0.iter().filter(|sample| {
            sample.name.strip_prefix("ecs_slack_alerts_").unwrap_or(&sample.name) == name
                && labels.iter().all(|label| has(sample, *label))
        });
        matching.map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// Every sample, in the order of the answer.
    pub fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// Parses Prometheus' text format.
    ///
    /// # Errors
    /// When a line is not in this format; the error names the first one.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("not a metric: {line}")));
        Ok(Self(samples.collect::<Result<_>>()?))
    }
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(list) = rest.strip_prefix('{') {
        rest = list;
        while !rest.starts_with('}') {
            let (label, after) = rest.trim_start_matches(',').split_once("=\"")?;
            let mut value = String::new();
            let mut characters = after.char_indices();
            rest = loop {
                match characters.next()? {
                    (at, '"') => break &after[at + 1..],
                    (_, '\\') => match characters.next()?.1 {
                        'n' => value.push('\n'),
                        escaped => value.push(escaped),
                    },
                    (_, character) => value.push(character),
                }
            };
            labels.push((label.to_owned(), value));
        }
        rest = &rest[1..];
    }
    Some(Sample { name: name.to_owned(), labels, value: rest.split_whitespace().next()?.parse().ok()? })
}

async fn collect(pipe: impl AsyncRead + Unpin, lines: Arc<watch::Sender<Lines>>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let json = serde_json::from_str(&text).unwrap_or_default();
        lines.send_modify(|lines| lines.lines.push(Line { text, json }));
        line.clear();
    }
    lines.send_modify(|lines| lines.ended += 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_is_parsed() {
        let text = "# HELP a b\n# TYPE a counter\n\
            ecs_slack_alerts_alerts_total{channel=\"a \\\"b\\\\ {x},\\n\",severity=\"critical\"} 3\n\
            ecs_slack_alerts_alerts_total{channel=\"c\",severity=\"critical\"} 4 1700000000000\n\
            h_bucket{le=\"+Inf\"} 1e3\nprocess_cpu_seconds_total 0.25\nempty{} NaN\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.samples()[0].labels[0].1, "a \"b\\ {x},\n");
        assert_eq!(metrics.get("alerts_total", &[("severity", "critical")]), Some(7.0));
        assert_eq!(metrics.get("alerts_total", &[("severity", "critical"), ("channel", "c")]), Some(4.0));
        assert_eq!(metrics.get("h_bucket", &[("le", "+Inf")]), Some(1000.0));
        assert_eq!(metrics.get("process_cpu_seconds_total", &[]), Some(0.25));
        assert_eq!(metrics.get("alerts_total", &[("channel", "missing")]), None);
        assert!(Metrics::parse("what?").is_err());
    }
}
