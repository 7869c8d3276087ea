//! Standard output, for what a command was run to print.

use std::{
    fmt::Display,
    io::{ErrorKind, Write, stdout},
};

use anyhow::{Context, Result, bail};

/// Whoever read standard output has seen enough, as in `render … | head`. The command has nothing more to do, and that is no
/// failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct Closed;

/// Prints a line. `println!` would panic where that fails.
///
/// # Errors
/// [`Closed`], or why the line cannot be written.
pub fn print(line: impl Display) -> Result<()> {
    match writeln!(stdout().lock(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => bail!(Closed),
        written => written.context("cannot write to standard output"),
    }
}
