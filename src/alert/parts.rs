//! The parts of an alert that depend on the kind of event. The module for each kind fills in [`Parts`]; then the texts are cut to length.

use super::{Link, MAX_COMMAND, Page, Severity, console};
use crate::cause::{self, Cause};
use crate::event::Event;
use crate::text::{line, lines, make_line};

/// The maximum number of facts in an alert, so that a phone can show it.
const MAX_FACTS: usize = 5;
const MAX_COMMANDS: usize = 3;

/// The fields of an [`Alert`](super::Alert) that the kind of event decides.
pub(super) struct Parts {
    pub(super) kind: String,
    pub(super) severity: Severity,
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) reason: Option<String>,
    pub(super) cause: Option<Cause>,
    pub(super) advice: Option<String>,
    pub(super) commands: Vec<String>,
    pub(super) note: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) account: Option<String>,
    pub(super) region: Option<String>,
    pub(super) facts: Vec<(String, String)>,
    pub(super) links: Vec<Link>,
    pub(super) exited_task_id: Option<String>,
}

impl Parts {
    /// The parts that every event has. The severity is a warning until the module for the kind of event changes it.
    pub(super) fn of(event: &Event) -> Self {
        Self {
            kind: event.detail_type().unwrap_or_default().to_owned(),
            severity: Severity::Warning,
            subject: String::new(),
            what: String::new(),
            reason: None,
            cause: None,
            advice: None,
            commands: Vec::new(),
            note: None,
            cluster: event.cluster().map(str::to_owned),
            account: event.account().map(str::to_owned),
            region: event.region().map(str::to_owned),
            facts: Vec::new(),
            links: Vec::new(),
            exited_task_id: None,
        }
    }

    /// Sets the reason, and the cause that the catalogue finds for it.
    pub(super) fn set_reason(&mut self, reason: &str) {
        self.reason = Some(reason.to_owned());
        self.cause = cause::explain_text(reason);
    }

    /// Adds a command made of these words, unless one of them has a character that a shell may interpret.
    pub(super) fn command<'a>(&mut self, words: impl IntoIterator<Item = &'a str>) {
        let words: Vec<&str> = words.into_iter().collect();
        let is_plain = |word: &&str| {
            !word.is_empty() && word.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_./:=+,@".contains(&c))
        };
        if words.iter().all(is_plain) && words.iter().map(|word| word.len() + 1).sum::<usize>() <= MAX_COMMAND {
            self.commands.push(words.join(" "));
        }
    }

    pub(super) fn fact(&mut self, label: &str, value: Option<&str>) {
        self.facts.extend(value.map(|value| (label.to_owned(), value.to_owned())));
    }

    pub(super) fn link(&mut self, page: Page, url: Option<String>) {
        self.links.extend(url.map(|url| Link { page, url }));
    }

    /// Adds the page of the event's service, else of its cluster.
    pub(super) fn link_to_service(&mut self, event: &Event) {
        let page = console(event).zip(self.cluster.as_deref()).and_then(|(console, cluster)| match event.service() {
            Some(service) => console.service(cluster, service),
            None => console.cluster(cluster),
        });
        self.link(Page::Subject, page);
    }

    /// Cuts every text to its maximum length. AWS's names have at most 255 characters.
    pub(super) fn bounded(mut self) -> Self {
        for (field, max) in [(&mut self.kind, 100), (&mut self.subject, 255), (&mut self.what, 500)] {
            make_line(field, max);
        }
        self.reason = self.reason.as_deref().map(|reason| lines(reason, 10_000)).filter(|reason| !reason.is_empty());
        self.advice = self.advice.as_deref().map(|advice| line(advice, 500)).filter(|advice| !advice.is_empty());
        self.note = self.note.as_deref().map(|note| lines(note, 1_024)).filter(|note| !note.is_empty());
        self.commands.truncate(MAX_COMMANDS);
        for field in [&mut self.kind, &mut self.subject].into_iter().filter(|field| field.is_empty()) {
            *field = "UNKNOWN".to_owned();
        }
        for (field, max) in [(&mut self.cluster, 255), (&mut self.account, 64), (&mut self.region, 64)] {
            field.iter_mut().for_each(|name| make_line(name, max));
            field.take_if(|name| name.is_empty());
        }
        self.facts.truncate(MAX_FACTS);
        for (label, value) in &mut self.facts {
            make_line(label, 50);
            make_line(value, 255);
        }
        self
    }
}
