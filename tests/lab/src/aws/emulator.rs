//! The process that emulates AWS. It ends when its standard input is closed. So it never outlives the program that started it, even if that
//! program is killed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};

/// The child process. Dropping it closes its standard input, which ends it.
pub(super) struct Emulator {
    pub(super) port: u16,
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Emulator {
    pub(super) fn spawn() -> Result<Self> {
        // The crate always runs on the machine on which it was built.
        let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = crate_root.join("../../.venv/bin/python");
        if !python.exists() {
            bail!("the AWS stand-in is not installed: run `make .venv` (needs python3)");
        }
        let mut process = Command::new(python)
            .arg(crate_root.join("aws_stand_in.py"))
            .env("LOG_LEVEL", "ERROR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A separate process group, so that Ctrl-C in the terminal does not end it: the program that started it may still need it.
            .process_group(0)
            .spawn()
            .context("cannot start the AWS stand-in")?;
        let stdin = process.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.trim().parse().context("the AWS stand-in ended at its start; see its output above")?;
        Ok(Self { port, process, stdin })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // An error does not matter: the process has ended.
        let _ = self.process.wait();
    }
}
