//! Promise: `probe` says what the admin port says, in its exit code as well; `completions` and `man` are what shells and man
//! can read.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;

use harness::servers::free_port;

use crate::port;

fn engine(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_task-engine")).args(args).env_clear().output().expect("task-engine runs")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn probe_says_what_the_admin_port_says() {
    let (address, stopping) = port::start(None);
    let probe = |more: &[&str]| engine(&[&["probe", "--admin", &address.to_string()], more].concat());
    let ready = probe(&["--ready"]);
    assert_eq!((ready.status.code(), said(&ready.stdout)), (Some(0), "[+] shards ok\nready\n".to_owned()));
    stopping.store(true, Ordering::Relaxed);
    let not = probe(&["--ready"]);
    assert_eq!((not.status.code(), said(&not.stdout)), (Some(1), "[+] shards ok\nstopping\n".to_owned()));
    let alive = probe(&[]);
    assert_eq!((alive.status.code(), said(&alive.stdout)), (Some(0), "ok\n".to_owned()));
}

#[test]
fn probe_says_who_does_not_answer_and_why() {
    let nobody = format!("127.0.0.1:{}", free_port().expect("a port"));
    let refused = engine(&["probe", "--ready", "--admin", &nobody]);
    let words = said(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains(&nobody) && words.contains("refused") && words.contains("admin.listen"), "{words}");

    // One that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let waited = engine(&["probe", "--admin", &address]);
    assert_eq!(waited.status.code(), Some(1));
    assert!(said(&waited.stderr).contains("not within 5 s"), "{}", said(&waited.stderr));

    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stranger.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().expect("a client");
        let asked = stream.read(&mut [0; 4096]).expect("a request");
        assert!(asked > 0);
        stream.write_all(b"+OK redis\r\n").expect("it reads");
    });
    let not_http = engine(&["probe", "--admin", &address]);
    assert!(said(&not_http.stderr).contains("does not speak HTTP"), "{}", said(&not_http.stderr));

    let wrong = engine(&["probe", "--admin", "nowhere"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong.stderr));
}

#[test]
fn completions_are_what_the_shells_can_read() {
    let bash = engine(&["completions", "bash"]);
    assert!(bash.status.success());
    let mut shell = Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bash");
    shell.stdin.take().expect("it is piped").write_all(&bash.stdout).expect("bash reads");
    let output = shell.wait_with_output().expect("bash ends");
    assert!(output.status.success(), "{}", said(&output.stderr));
    for name in ["zsh", "fish", "elvish", "powershell"] {
        let text = said(&engine(&["completions", name]).stdout);
        for word in ["check-config", "partitions", "probe", "dry-run"] {
            assert!(text.contains(word), "{name} does not know {word}");
        }
    }
    assert_eq!(engine(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn man_pages_have_the_commands_and_their_flags() {
    let page = said(&engine(&["man"]).stdout);
    assert!(page.contains(".TH task-engine 1") && page.contains("Exit codes"), "{page}");
    for command in ["dlq", "partitions", "setup", "probe", "check\\-config"] {
        assert!(page.contains(command), "{command} is not in\n{page}");
    }
    let page = said(&engine(&["man", "setup"]).stdout);
    assert!(page.contains(".TH task-engine-setup 1") || page.contains(".TH task\\-engine\\-setup 1"), "{page}");
    assert!(page.contains("dry\\-run"), "{page}");
    let unknown = engine(&["man", "nothing"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(said(&unknown.stderr).contains("no command \"nothing\""), "{}", said(&unknown.stderr));
}
