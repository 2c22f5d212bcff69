//! `completions` and `man`: what is written from the command line's own definition.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Writes the completions of a shell.
///
/// # Errors
/// When `out` cannot be written to.
pub fn completions(shell: Shell, out: &mut dyn Write) -> std::io::Result<()> {
    // The generator takes no error: it writes into memory.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "task-engine", &mut text);
    out.write_all(&text)?;
    out.flush()
}

/// Writes the man page in roff; with `of` that of a subcommand.
///
/// # Errors
/// When there is no such subcommand, or `out` cannot be written to.
pub fn man(of: Option<&str>, out: &mut dyn Write) -> std::io::Result<()> {
    let mut all = Cli::command();
    all.build();
    let command = match of {
        None => all,
        Some(name) => match all.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let words = format!("task-engine has no command {name:?}; see task-engine --help");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, words));
            }
        },
    };
    clap_mangen::Man::new(command).render(out)?;
    out.flush()
}
