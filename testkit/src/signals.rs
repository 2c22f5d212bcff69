//! Signals to child processes.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to a child that was not waited for yet.
pub fn send(child: &Child, signal: i32) {
    let signal = Signal::from_named_raw(signal).expect("a signal that has a name");
    kill_process(Pid::from_child(child), signal).expect("a child that was not waited for");
}
