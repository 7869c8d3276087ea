//! Reads events from files: the elements of an array, a sequence of JSON values, or lines.
//!
//! Invariant: memory holds only the current event, and the line or two that are needed to see that an event is broken.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::de::IgnoredAny;
use serde_json::Deserializer;

/// The bodies in all files, or in standard input if there are no files. `-` is standard input too.
///
/// # Errors
/// When a file cannot be opened. A later read error is an item.
pub(super) fn bodies(files: &[PathBuf]) -> Result<impl Iterator<Item = Result<String>> + Send + use<>> {
    let standard_input = [PathBuf::from("-")];
    let files = if files.is_empty() { &standard_input } else { files };
    let opened: Vec<_> = files.iter().map(|file| Ok((name(file), open(file)?))).collect::<Result<_>>()?;
    Ok(opened.into_iter().flat_map(|(name, reader)| {
        Bodies::new(reader).map(move |body| body.with_context(|| format!("cannot read {name}")))
    }))
}

fn name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn open(file: &Path) -> Result<Box<dyn BufRead + Send>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = File::open(file).with_context(|| format!("cannot read {}", name(file)))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// The bodies in one text.
struct Bodies<R> {
    text: RewindReader<R>,
    /// Whether the position is between the brackets of a top-level array.
    in_array: bool,
    has_begun: bool,
}

impl<R: BufRead> Bodies<R> {
    fn new(reader: R) -> Self {
        Self {
            text: RewindReader { reader, taken: Vec::new(), rewound: Vec::new() },
            in_array: false,
            has_begun: false,
        }
    }

    fn next_body(&mut self) -> io::Result<Option<String>> {
        if !self.has_begun {
            self.has_begun = true;
            self.text.skip_byte_order_mark()?;
        }
        let mut is_first = false;
        while let Some(byte) = self.text.skip_blank()? {
            match byte {
                b'[' if !self.in_array => {
                    self.text.skip()?;
                    (self.in_array, is_first) = (true, true);
                }
                b']' if self.in_array => {
                    self.text.skip()?;
                    self.in_array = false;
                }
                b',' if self.in_array && !is_first => {
                    self.text.skip()?;
                    is_first = true;
                }
                _ => return self.value().map(Some),
            }
        }
        Ok(None)
    }

    /// The value that begins here. If it is not valid JSON, the text up to where the next one may begin.
    fn value(&mut self) -> io::Result<String> {
        self.text.taken.clear();
        let mut values = Deserializer::from_reader(&mut self.text).into_iter::<IgnoredAny>();
        let end = match values.next() {
            Some(Ok(_)) => Some(values.byte_offset()),
            Some(Err(error)) if error.is_io() => return Err(error.into()),
            _ => None,
        };
        match end {
            Some(end) => self.text.rewind(end),
            None => {
                self.in_array = false;
                self.text.rewind(0);
                self.text.take_broken()?;
            }
        }
        Ok(String::from_utf8_lossy(&self.text.taken).trim_end().to_owned())
    }
}

impl<R: BufRead> Iterator for Bodies<R> {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_body().transpose()
    }
}

/// A reader that can go back over the bytes that were read since `taken` was cleared.
struct RewindReader<R> {
    reader: R,
    taken: Vec<u8>,
    /// The bytes to read again, in reverse order.
    rewound: Vec<u8>,
}

impl<R: BufRead> RewindReader<R> {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        match self.rewound.last() {
            Some(byte) => Ok(Some(*byte)),
            None => Ok(self.reader.fill_buf()?.first().copied()),
        }
    }

    fn skip(&mut self) -> io::Result<()> {
        if self.rewound.pop().is_none() && !self.reader.fill_buf()?.is_empty() {
            self.reader.consume(1);
        }
        Ok(())
    }

    /// Skips white space and returns the byte after it.
    fn skip_blank(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.peek()? {
                Some(byte) if byte.is_ascii_whitespace() => self.skip()?,
                byte => return Ok(byte),
            }
        }
    }

    fn skip_byte_order_mark(&mut self) -> io::Result<()> {
        for expected in "\u{feff}".bytes() {
            if self.peek()? != Some(expected) {
                return Ok(());
            }
            self.skip()?;
        }
        Ok(())
    }

    /// Keeps the first `kept` bytes of `taken`, and makes the others readable again.
    fn rewind(&mut self, kept: usize) {
        self.rewound.extend(self.taken.drain(kept..).rev());
    }

    /// Takes a line. If it begins like an object or an array, also takes the following lines, up to the next one that begins like that.
    fn take_broken(&mut self) -> io::Result<()> {
        let may_begin = |byte: u8| matches!(byte, b'{' | b'[');
        let is_long = self.peek()?.is_some_and(may_begin);
        while let Some(byte) = self.peek()? {
            let ends_line = self.taken.last() == Some(&b'\n');
            if ends_line && (!is_long || may_begin(byte)) {
                break;
            }
            self.skip()?;
            self.taken.push(byte);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for RewindReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(first), Some(byte)) = (buffer.first_mut(), self.peek()?) else { return Ok(0) };
        *first = byte;
        self.taken.push(byte);
        self.skip().map(|()| 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        Bodies::new(text.as_bytes()).collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn events_come_as_an_object_an_array_or_lines() {
        for (text, expected) in [
            (r#"{"a":1}"#, vec![r#"{"a":1}"#]),
            ("\u{feff}{\n  \"a\": 1\n}\n", vec!["{\n  \"a\": 1\n}"]),
            (r#"[{"a":1},{"b":2}]"#, vec![r#"{"a":1}"#, r#"{"b":2}"#]),
            (" [\n {\"a\":[1]} , 7,[8] ]\n{\"b\":2}", vec![r#"{"a":[1]}"#, "7", "[8]", r#"{"b":2}"#]),
            ("{\"a\":1}\n{\"b\":2}\n\n", vec![r#"{"a":1}"#, r#"{"b":2}"#]),
            ("{\n\"a\":1}\r\n{\n\"b\":2}", vec!["{\n\"a\":1}", "{\n\"b\":2}"]),
            (r#"{"a":1}{"b":"}"}12 "c""#, vec![r#"{"a":1}"#, r#"{"b":"}"}"#, "12", r#""c""#]),
            (r#"{"a":1e999}{"b":"\ud800"}"#, vec![r#"{"a":1e999}"#, r#"{"b":"\ud800"}"#]),
            ("[][]", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(split(&format!("{deep}\n{deep}")), [deep.as_str(), &deep]);
    }

    #[test]
    fn a_bad_line_affects_no_other_line() {
        for (text, expected) in [
            ("{\"a\":1}\nnot json\n{\"b\":2}", vec![r#"{"a":1}"#, "not json", r#"{"b":2}"#]),
            ("oops\noh\n{\"b\":2}", vec!["oops", "oh", r#"{"b":2}"#]),
            // A line that was cut.
            ("{\"a\":\n{\"b\":2}\n{\"c\":3}\n", vec!["{\"a\":", r#"{"b":2}"#, r#"{"c":3}"#]),
            ("{\"a\":\"x\n{\"b\":2}\n{\"c\":3}\n", vec!["{\"a\":\"x", r#"{"b":2}"#, r#"{"c":3}"#]),
            ("{\"a\":[\n{\"b\":2}\n{\"c\":3}\n", vec!["{\"a\":[", r#"{"b":2}"#, r#"{"c":3}"#]),
            // A file that was cut.
            ("{\n  \"a\": 1,\n", vec!["{\n  \"a\": 1,"]),
            ("[{\"a\":1},\n {\"b\":", vec![r#"{"a":1}"#, "{\"b\":"]),
            ("[{\"a\":1} {\"b\":2}]", vec![r#"{"a":1}"#, r#"{"b":2}"#]),
            ("[{\"a\":1},\noops,\n{\"b\":2}]", vec![r#"{"a":1}"#, "oops,", r#"{"b":2}"#, "]"]),
            ("[,]", vec![",]"]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    /// The input has no end: bodies are returned while it is read, and memory does not grow.
    #[test]
    fn bodies_are_returned_before_the_input_ends() {
        struct Endless(usize);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                let line = format!("{{\"n\":{}}}\n", self.0);
                buffer[..line.len()].copy_from_slice(line.as_bytes());
                Ok(line.len())
            }
        }
        for begin in ["", "[", "{\"cut\":\n"] {
            let lines = BufReader::new(begin.as_bytes().chain(Endless(0)));
            let mut bodies = Bodies::new(lines);
            let last = bodies.by_ref().take(10_000).last().unwrap().unwrap();
            assert!(last.starts_with("{\"n\":"), "{last}");
            assert!(bodies.text.rewound.capacity() + bodies.text.taken.capacity() < 1000);
        }
    }
}
