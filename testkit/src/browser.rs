//! A headless Chromium that opens a page and says what is in it.
//!
//! Promises that each wait has a deadline, and that the browser ends with the value. It is spoken to over two pipes (Chromium's
//! `--remote-debugging-pipe`, messages of JSON that end with a zero byte), so that no port is taken.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

use crate::wait::PATIENCE;

/// Names of the program in Debian's packages, the smallest first.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium-shell", "chromium"];

/// How often the page is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
pub struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: String,
    next: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Opens a page in a window of so many pixels; the reader's language is `language`.
    pub fn open(url: &str, (width, height): (u32, u32), language: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temp folder");
        let (asked, said) = (folder.path().join("asked"), folder.path().join("said"));
        let made = Command::new("mkfifo").args([&asked, &said]).status().expect("mkfifo");
        assert!(made.success(), "two pipes");
        let child = started(folder.path());
        let to = File::options().write(true).open(&asked).expect("a pipe to the browser");
        let (send, from) = channel();
        let said = File::open(&said).expect("a pipe from the browser");
        std::thread::spawn(move || {
            for message in BufReader::new(said).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, to, from, session: String::new(), next: 0, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            browser.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        let reader = json!({ "userAgent": "a test of task-engine", "acceptLanguage": language });
        browser.call("Emulation.setUserAgentOverride", reader);
        browser.call("Page.navigate", json!({ "url": url }));
        browser
    }

    /// What an expression of the page gives.
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of what a selector finds first; empty when it finds nothing.
    pub fn text(&mut self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        found.as_str().expect("a text").to_owned()
    }

    /// Waits until an expression of the page is true.
    pub fn wait(&mut self, what: &str, expression: &str) {
        let began = Instant::now();
        loop {
            let is_so = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
            if is_so["result"]["value"] == true {
                return;
            }
            if began.elapsed() > PATIENCE {
                panic!("the page never shows: {what} ({expression}); it shows:\n{}", self.text("body"));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// The page as a picture.
    pub fn png(&mut self) -> Vec<u8> {
        let all = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        base64::engine::general_purpose::STANDARD.decode(all["data"].as_str().expect("a picture")).expect("base64")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut ask = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            ask["sessionId"] = self.session.as_str().into();
        }
        self.to.write_all(&[ask.to_string().as_bytes(), b"\0"].concat()).expect("the browser listens");
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.from.recv_timeout(left).unwrap_or_else(|why| panic!("{method}: no answer: {why}"));
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser with its two pipes as descriptors 3 and 4.
fn started(folder: &Path) -> Child {
    let is_there = |program: &&&str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let program = PROGRAMS.iter().find(is_there);
    let program = program.unwrap_or_else(|| panic!("none of {PROGRAMS:?} is there: run `make servers`"));
    let flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run --remote-debugging-pipe";
    let line =
        format!("exec {program} {flags} --user-data-dir='{0}/profile' 3<'{0}/asked' 4>'{0}/said'", folder.display());
    let mut shell = Command::new("sh");
    // A browser that runs on its own ends with the test: it reads the end of its pipe.
    shell.args(["-c", &line]).env("HOME", folder);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a browser starts")
}
