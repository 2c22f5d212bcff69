//! Promise: where the machine lets no shard run (RLIMIT_MEMLOCK, a seccomp profile without io_uring) the engine says which,
//! what to change, and ends with exit code 1 before it connects to anything; a soft limit is raised by itself.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::pages;
use harness::servers::{free_port, free_ports};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PATIENCE: Duration = Duration::from_secs(30);

/// The engine with all servers on a port where nobody answers, after `lacks` was done in its process.
#[allow(unsafe_code, reason = "what the child lacks is taken from it between fork and exec")]
fn engine(nats: u16, admin: u16, lacks: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
    command.args(["--cores", "1", "--admin", &format!("127.0.0.1:{admin}")]);
    let closed = free_port().expect("a free port");
    command
        .current_dir(std::env::temp_dir())
        .env("RESONANCE_NATS_URL", format!("nats://127.0.0.1:{nats}"))
        .env("RESONANCE_REDIS_ADDR", format!("127.0.0.1:{closed}"))
        .env("RESONANCE_MYSQL_HOST", "127.0.0.1")
        .env("RESONANCE_MYSQL_PORT", closed.to_string())
        .env("RESONANCE_ETCD_ENDPOINTS", format!("127.0.0.1:{closed}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: `lacks` makes system calls only, which is what may be done between fork and exec.
    unsafe { command.pre_exec(lacks) };
    command
}

fn limit_memlock(soft_bytes: u64, hard_bytes: Option<u64>) -> io::Result<()> {
    let maximum = hard_bytes.or(getrlimit(Resource::Memlock).maximum);
    Ok(setrlimit(Resource::Memlock, Rlimit { current: Some(soft_bytes), maximum })?)
}

/// A seccomp filter that answers one system call with an error, as container profiles do.
#[allow(unsafe_code, reason = "no crate of ours wraps seccomp's filter")]
fn refuse(call: libc::c_long, error: i32) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain system calls; the program lives until they have read it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs it to its end; asserts exit code 1, these words, and that nobody came to the NATS port.
fn ends_with(words: &[&str], lacks: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    let nats = TcpListener::bind("127.0.0.1:0").expect("a port");
    nats.set_nonblocking(true).expect("it does not wait");
    let port = nats.local_addr().expect("its address").port();
    let output = engine(port, free_port().expect("a free port"), lacks).output().expect("the engine starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(nats.accept().map_err(|error| error.kind()).err(), Some(ErrorKind::WouldBlock), "it connected to NATS");
}

#[test]
fn a_hard_memlock_limit_that_is_too_low_is_named() {
    let words = ["may lock 64 KiB", "RLIMIT_MEMLOCK", "512 KiB are needed", "LimitMEMLOCK", "--ulimit memlock"];
    ends_with(&words, || limit_memlock(64 << 10, Some(64 << 10)));
}

#[test]
fn a_profile_that_forbids_io_uring_is_named() {
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter] {
        ends_with(&["is refused", "seccomp", "io_uring_setup", "kernel.io_uring_disabled"], move || {
            refuse(call, libc::EPERM)
        });
    }
    ends_with(&["io_uring_setup is not there", "5.8"], || refuse(libc::SYS_io_uring_setup, libc::ENOSYS));
}

#[test]
fn a_soft_memlock_limit_is_raised() {
    let ports = free_ports(2).expect("free ports");
    let mut child = engine(ports[0], ports[1], || limit_memlock(64 << 10, None)).spawn().expect("the engine starts");
    let deadline = Instant::now() + PATIENCE;
    while !is_alive(ports[1]) {
        assert!(Instant::now() < deadline && child.try_wait().expect("a child").is_none(), "it never ran");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    testkit::signals::send(&child, libc::SIGTERM);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Whether the shard moves.
fn is_alive(admin: u16) -> bool {
    pages::get(admin, "/metrics")
        .is_some_and(|page| pages::series(&page.body, "task_engine_turns_total").any(|(_, turns)| turns > 0.0))
}
