//! Real servers: started, crashed, brought back, orphaned. Each on a scratch directory of its own.

use std::io::BufRead as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use async_nats::jetstream::{self, stream};

use super::*;

fn state() -> StateDir {
    StateDir::open().unwrap()
}

async fn connect(url: &str) -> Result<async_nats::Client, async_nats::ConnectError> {
    async_nats::connect(url).await
}

#[tokio::test]
async fn a_private_server_listens_on_loopback_unprivileged_and_leaves_nothing() {
    let server = PrivateNats::throw_away(&state()).await.unwrap();
    let directory = server.server.home.clone();
    connect(server.url()).await.unwrap();
    assert!(server.url().starts_with("nats://127.0.0.1:"));
    assert_ne!(fs::metadata(format!("/proc/{}", server.pid().unwrap())).unwrap().uid(), 0);
    server.stop().await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn what_a_stream_accepted_survives_a_crash_on_the_same_url() {
    let mut server = PrivateNats::throw_away(&state()).await.unwrap();
    let url = server.url().to_owned();
    let jetstream = jetstream::new(connect(&url).await.unwrap());
    // More than a machine has: what is reserved isn't used.
    let config = stream::Config {
        name: "kept".into(),
        subjects: vec!["kept.>".into()],
        max_bytes: 100 << 30,
        ..Default::default()
    };
    jetstream.create_stream(config).await.unwrap();
    jetstream.publish("kept.a", "7".into()).await.unwrap().await.unwrap();

    assert!(server.server.home.join("streams/jetstream").is_dir());

    server.kill_hard().await.unwrap();
    assert!(connect(&url).await.is_err());
    server.restart().await.unwrap();
    assert_eq!(server.url(), url);
    let mut kept = jetstream::new(connect(&url).await.unwrap()).get_stream("kept").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.messages, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_behind_is_ended_before_another_uses_its_store() {
    let state = state();
    let program = provision::nats::find_or_install(&state).await.unwrap();
    let scratch = Scratch::create(&state).unwrap();
    let start = || {
        let (store_dir, program) = (scratch.path().join("nats"), program.clone());
        PrivateNats::start(NatsOptions { store_dir, program, configuration: String::new() })
    };
    let first = start().await.unwrap();
    let left_behind = first.pid().unwrap();
    // As if this run had been killed and its server hadn't noticed: nobody stops it.
    std::mem::forget(first);
    let second = start().await.unwrap();
    assert!(process::gone(left_behind, Duration::ZERO).await);
    second.stop().await.unwrap();
}

const ORPHAN: &str = "WATCHBELL_TEST_ORPHAN";

/// Run by the test below, in a process of its own: starts a server, says its pid, and waits to be killed.
#[tokio::test]
async fn a_process_that_starts_a_server_and_waits() {
    if std::env::var_os(ORPHAN).is_none() {
        return;
    }
    let server = PrivateNats::throw_away(&state()).await.unwrap();
    eprintln!("pid {}", server.pid().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_parent_leaves_no_server_behind() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dev::nats::tests::a_process_that_starts_a_server_and_waits", "--nocapture"])
        .env(ORPHAN, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(parent.stderr.take().unwrap()).lines().map_while(Result::ok);
    let pid = said.find_map(|line| line.strip_prefix("pid ").map(|pid| pid.parse().unwrap()));
    let pid = pid.expect("the process says which server it started");
    assert!(!process::gone(pid, Duration::ZERO).await);
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(process::gone(pid, Duration::from_secs(10)).await);
}
