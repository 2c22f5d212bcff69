//! A running engine reads a configuration that was written anew.

use crate::process::Process;
use crate::wait::eventually;

/// What it says at the end of each reload.
const ENDS: [&str; 2] = ["configuration reloaded: ", "; what held holds on"];

impl Process {
    /// Has it read this configuration from now on; gives what it wrote until it had.
    pub fn reload(&self, yaml: &str) -> String {
        std::fs::write(&self.config, yaml).expect("a configuration");
        let before = self.output();
        self.send(libc::SIGHUP);
        let mut said = String::new();
        eventually("it reads the configuration again", || {
            said = self.output().split_off(before.len());
            ENDS.iter().any(|end| said.contains(end))
        });
        said
    }
}
