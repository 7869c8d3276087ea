//! Standard output: the results of a command.

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stdout},
};

use anyhow::{Context, Result, bail};

/// The reader of standard output has closed it, as `head` does in `render … | head`. The command ends without a failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct Closed;

/// Prints a line. `println!` would panic if the write fails.
///
/// # Errors
/// [`Closed`] when the reader is gone, or why the line cannot be written.
pub fn print(line: impl Display) -> Result<()> {
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => bail!(Closed),
        written => written.context("cannot write to standard output"),
    }
}
