//! Formats a log line as a JSON object: time, level, fields (the message among them) and spans.
//!
//! `tracing_subscriber` has such a format too. This one writes the same lines, but without a serializer. The worker logs a line for each
//! message, and `tracing_subscriber`'s format took a tenth of the processor time.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// Formats events. The fields of spans must already be formatted as JSON objects.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        write!(line, "\",\"level\":\"{}\"", event.metadata().level())?;
        let mut fields = Fields { line: line.by_ref(), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        if let Some(spans) = context.event_scope() {
            line.write_str(",\"spans\":[")?;
            for (index, span) in spans.from_root().enumerate() {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.fields.as_str());
                let fields =
                    fields.strip_suffix('}').filter(|fields| *fields != "{").map(|fields| [fields, ","].concat());
                let separator = if index == 0 { "" } else { "," };
                write!(line, "{separator}{}\"name\":", fields.as_deref().unwrap_or("{"))?;
                string(&mut line, span.name())?;
                line.write_char('}')?;
            }
            line.write_char(']')?;
        }
        line.write_str("}\n")
    }
}

/// Writes each recorded field, after a comma.
struct Fields<'a> {
    line: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        let write = |line: &mut Writer<'_>| {
            line.write_char(',')?;
            string(line, field.name())?;
            line.write_char(':')?;
            value(line)
        };
        if self.result.is_ok() {
            self.result = write(&mut self.line);
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, |line| if value.is_finite() { write!(line, "{value}") } else { line.write_str("null") });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |line| string(line, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |line| {
            line.write_char('"')?;
            write!(Escaped(line), "{value:?}")?;
            line.write_char('"')
        });
    }
}

fn string(line: &mut Writer<'_>, text: &str) -> fmt::Result {
    line.write_char('"')?;
    Escaped(line).write_str(text)?;
    line.write_char('"')
}

/// Writes a text with the escapes of a JSON string.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
            // The found character has one byte.
            let (plain, special) = rest.split_at(at);
            self.0.write_str(plain)?;
            match special.as_bytes()[0] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                control => write!(self.0, "\\u{control:04x}")?,
            }
            rest = &special[1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use serde_json::Value;
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    use tracing::{info, info_span, subscriber::with_default, warn};
    use tracing_subscriber::{
        Layer, Registry,
        fmt::{self, format::JsonFields},
        layer::SubscriberExt,
        registry,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that this layer writes for some events, without their times.
    fn written(layer: impl FnOnce(Sink) -> Box<dyn Layer<Registry> + Send + Sync>) -> Vec<Value> {
        let sink = Sink::default();
        with_default(registry().with(layer(sink.clone())), || {
            info!("plain");
            let (text, nothing) = ("a\"b\\c\n\r\t\u{1}é\u{7f}🦀", None::<u32>);
            warn!(text, debug = ?text, display = %text, number = -1, big = u64::MAX, float = 1.5, nothing, yes = true, "{text}");
            warn!(not_a_number = f64::NAN, "odd \"name\"" = 0.1);
            info_span!("outer", id = 7, text)
                .in_scope(|| info_span!("inner").in_scope(|| info!(kind = "k", "in spans")));
        });
        let lines = String::from_utf8(sink.0.lock().clone()).unwrap();
        let without_time = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
            OffsetDateTime::parse(time.as_str().unwrap(), &Rfc3339).unwrap();
            line
        };
        lines.lines().map(without_time).collect()
    }

    #[test]
    fn the_lines_are_the_same_as_those_of_tracing_subscriber() {
        let own = written(|sink| {
            let layer = fmt::layer().with_writer(move || sink.clone()).fmt_fields(JsonFields::new());
            layer.event_format(JsonLine).boxed()
        });
        let theirs = written(|sink| {
            let layer = fmt::layer().with_writer(move || sink.clone()).with_target(false);
            layer.json().flatten_event(true).with_current_span(false).boxed()
        });
        assert_eq!(own, theirs);
        assert_eq!(own.last().unwrap()["spans"][0]["id"], 7);
    }
}
