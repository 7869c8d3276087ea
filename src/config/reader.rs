//! Reads one section of the configuration: each key by its type, and the variable that wins over it. A wrong value or an unknown key is
//! a fault. A value that is valid but probably a mistake is a warning.

use std::{cell::RefCell, ops::RangeInclusive, time::Duration};

use toml::{Table, Value};

/// The environment, and the lists that collect faults and warnings.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: &'a RefCell<Vec<String>>,
    pub(super) warnings: &'a RefCell<Vec<String>>,
}

/// One table of the file, with the path to it.
pub(super) struct Reader<'a> {
    path: String,
    table: Table,
    keys: Vec<Key>,
    context: Context<'a>,
}

struct Key {
    name: &'static str,
    variable: &'static str,
    from_env: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: &str, table: Table, context: Context<'a>) -> Self {
        Self { path: path.to_owned(), table, keys: Vec::new(), context }
    }

    /// The table under `name`; an empty one if there is none.
    pub(super) fn section(&mut self, name: &'static str) -> Reader<'a> {
        let table = match self.value(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.fault(name, &format!("is {}; it must be a table, [{name}]", describe(&other)));
                Table::new()
            }
        };
        Reader::new(&self.path_of(name), table, self.context)
    }

    /// The tables of the array under `name`.
    pub(super) fn sections(&mut self, name: &'static str) -> Vec<Reader<'a>> {
        let items = match self.value(name) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.fault(name, &format!("is {}; it must be an array of tables, [[{name}]]", describe(&other)));
                Vec::new()
            }
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(name));
            match item {
                Value::Table(table) => sections.push(Reader::new(&path, table, self.context)),
                other => self.push(&path, &format!("is {}; it must be a table, [[{name}]]", describe(&other))),
            }
        }
        sections
    }

    /// A string: from `variable`, unless that is empty or unset, else from the file.
    pub(super) fn string(&mut self, name: &'static str, variable: &'static str) -> Option<String> {
        if let Some(value) = self.env(name, variable) {
            return Some(value);
        }
        match self.value(name)? {
            Value::String(text) => Some(text),
            other => {
                self.fault(name, &format!("is {}; it must be a string", describe(&other)));
                None
            }
        }
    }

    /// A list of texts: an array in the file, separated by commas in the variable.
    pub(super) fn list(&mut self, name: &'static str, variable: &'static str) -> Option<Vec<String>> {
        let split = |text: String| text.split(',').map(|item| item.trim().to_owned()).collect();
        if let Some(value) = self.env(name, variable) {
            return Some(split(value));
        }
        match self.value(name)? {
            Value::String(text) => Some(split(text)),
            Value::Array(items) if items.iter().all(Value::is_str) => {
                Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            other => {
                self.fault(name, &format!("is {}; it must be an array of strings", describe(&other)));
                None
            }
        }
    }

    /// A duration such as "500ms" or "2m" within `range`.
    pub(super) fn duration(
        &mut self,
        name: &'static str,
        variable: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(text) = self.string(name, variable) else { return default };
        let (least, most) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        match humantime::parse_duration(&text) {
            Ok(duration) if range.contains(&duration) => duration,
            Ok(_) => {
                self.fault(name, &format!("{} is out of range; it may be {least} to {most}", quote(&text)));
                default
            }
            Err(error) => {
                let text = quote(&text);
                self.fault(name, &format!("{text} is not a duration ({error}); write e.g. \"500ms\" or \"2m\""));
                default
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&mut self, name: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        let Some(value) = self.value(name) else { return default };
        let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let (least, most) = range.into_inner();
            self.fault(name, &format!("is {}; it must be a whole number from {least} to {most}", describe(&value)));
            default
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, name: &'static str, default: bool) -> bool {
        match self.value(name) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(other) => {
                self.fault(name, &format!("is {}; it must be true or false", describe(&other)));
                default
            }
        }
    }

    /// One of the words in `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        variable: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(name, variable)?;
        let chosen = choices.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let words = choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
            self.fault(name, &format!("{} is unknown; it must be {words}", quote(&text)));
        }
        chosen.map(|(_, value)| *value)
    }

    /// The value under `name`, which can still be read afterwards.
    pub(super) fn peek(&self, name: &str) -> Option<&Value> {
        self.table.get(name)
    }

    /// The raw value under `name`.
    pub(super) fn value(&mut self, name: &'static str) -> Option<Value> {
        self.add_key(name, "", false);
        self.table.remove(name)
    }

    /// True when the value of `name` came from its variable.
    pub(super) fn is_from_env(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name && key.from_env)
    }

    /// Records a fault in the value of `name`. The fault names the variable if the value came from there.
    pub(super) fn fault(&self, name: &str, what: &str) {
        self.push(&self.place(name), what);
    }

    /// Records a warning about the value of `name`; about the section itself if `name` is empty.
    pub(super) fn warn(&self, name: &str, what: &str) {
        self.context.warnings.borrow_mut().push(format!("{}: {what}", self.place(name)));
    }

    /// Ends the section: every key that was not read is a fault.
    pub(super) fn finish(self) {
        for unknown in self.table.keys() {
            let known = self.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
            let unknown = if unknown.contains("://") { "(a URL)" } else { unknown };
            self.push(&self.path_of(unknown), &format!("is not a key; there are: {known}"));
        }
    }

    fn env(&mut self, name: &'static str, variable: &'static str) -> Option<String> {
        let value = (self.context.env)(variable);
        self.add_key(name, variable, value.is_some());
        if value.is_some() {
            self.table.remove(name);
        }
        value
    }

    fn add_key(&mut self, name: &'static str, variable: &'static str, from_env: bool) {
        if !self.keys.iter().any(|key| key.name == name) {
            self.keys.push(Key { name, variable, from_env });
        }
    }

    /// Where the value of `name` came from.
    fn place(&self, name: &str) -> String {
        match self.keys.iter().find(|key| key.name == name) {
            Some(key) if key.from_env => key.variable.to_owned(),
            Some(key) if !key.variable.is_empty() => format!("{} ({})", self.path_of(name), key.variable),
            _ => self.path_of(name),
        }
    }

    fn path_of(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    fn push(&self, place: &str, what: &str) {
        let place = format!("{place}: ");
        let mut faults = self.context.faults.borrow_mut();
        // Only the first fault of a key is kept: later ones follow from it.
        if !faults.iter().any(|fault| fault.starts_with(&place)) {
            faults.push(place + what);
        }
    }
}

/// A string, as an error may show it. A URL is not shown: it may be a webhook in the wrong place.
pub(super) fn quote(text: &str) -> String {
    if text.contains("://") { "a URL".into() } else { format!("{text:?}") }
}

/// A value, as an error may show it. A string is not shown: it may be a secret in the wrong place.
fn describe(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::String(_) => "a string".into(),
        Value::Datetime(_) => "a date".into(),
        Value::Array(_) => "an array".into(),
        Value::Table(_) => "a table".into(),
    }
}
