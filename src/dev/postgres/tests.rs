//! Real servers: started, crashed, brought back. Each on a scratch directory of its own.

use std::os::unix::fs::MetadataExt as _;

use tokio_postgres::Client;

use super::*;

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn start(scratch: &Scratch, durable: bool) -> anyhow::Result<PrivatePostgres> {
    let data_dir = scratch.path().join("postgres");
    PrivatePostgres::start(PostgresOptions { data_dir, durable, settings: Vec::new() }).await
}

fn scratch() -> Scratch {
    Scratch::create(&StateDir::open().unwrap()).unwrap()
}

#[tokio::test]
async fn a_private_server_is_utf8_on_loopback_with_a_password_and_leaves_nothing() {
    let server = PrivatePostgres::throw_away(&StateDir::open().unwrap()).await.unwrap();
    let directory = server.server.home.clone();
    let client = connect(server.url()).await.unwrap();
    let shown = client.query_one(
        "SELECT current_setting('server_encoding'), current_setting('lc_collate'), \
                current_setting('listen_addresses'), current_setting('fsync'), inet_server_addr()::text",
        &[],
    );
    let shown = shown.await.unwrap();
    let shown: Vec<String> = (0..5).map(|column| shown.get(column)).collect();
    assert_eq!(shown, ["UTF8", "C", "127.0.0.1", "off", "127.0.0.1/32"]);

    let wrong = server.url().replace(&server.server.password, "wrong");
    let refused = connect(&wrong).await.err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    let command_line = fs::read(format!("/proc/{}/cmdline", server.pid().unwrap())).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains(&server.server.password));
    assert_eq!(fs::metadata(server.server.data()).unwrap().mode() & 0o077, 0);
    assert_ne!(fs::metadata(format!("/proc/{}", server.pid().unwrap())).unwrap().uid(), 0);

    server.stop().await.unwrap();
    assert!(!directory.exists());
}

#[tokio::test]
async fn what_was_committed_survives_a_crash_on_the_same_url() {
    let mut server = PrivatePostgres::throw_away(&StateDir::open().unwrap()).await.unwrap();
    let client = connect(server.url()).await.unwrap();
    client.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();
    // A busy backend, which doesn't notice by itself that the postmaster is gone.
    let busy = connect(server.url()).await.unwrap();
    let busy = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(600)").await });

    server.kill_hard().await.unwrap();
    assert!(busy.await.unwrap().is_err());
    assert!(connect(server.url()).await.is_err());
    assert!(server.server.strays().unwrap().is_empty());

    server.restart().await.unwrap();
    let kept: i32 =
        connect(server.url()).await.unwrap().query_one("SELECT n FROM kept", &[]).await.unwrap().get(0);
    assert_eq!(kept, 7);
    server.take_down().await.unwrap();
    assert!(connect(server.url()).await.is_err());
    server.restart().await.unwrap();
    connect(server.url()).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn kept_data_are_found_again_and_a_server_left_behind_is_ended_first() {
    let scratch = scratch();
    let first = start(&scratch, true).await.unwrap();
    connect(first.url()).await.unwrap().batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.unwrap();
    let left_behind = first.pid().unwrap();
    // As if this run had been killed and its server hadn't noticed: nobody stops it.
    std::mem::forget(first);

    let second = start(&scratch, true).await.unwrap();
    assert!(process::gone(left_behind, Duration::ZERO).await);
    let client = connect(second.url()).await.unwrap();
    let row = client.query_one("SELECT n, current_setting('fsync') FROM kept", &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (7, "on"));
    second.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_are_refused_with_what_to_do() {
    let scratch = scratch();
    let home = scratch.path().join("postgres");
    make_directory(&home).unwrap();
    fs::create_dir(home.join("data")).unwrap();
    fs::write(home.join("data/PG_VERSION"), "9\n").unwrap();
    let refused = start(&scratch, true).await.unwrap_err().to_string();
    assert!(refused.contains("made by PostgreSQL 9") && refused.contains("PG_BIN_DIR"), "{refused}");
}

#[tokio::test]
async fn a_creation_cut_short_is_done_again() {
    let scratch = scratch();
    let home = scratch.path().join("postgres");
    make_directory(&home).unwrap();
    fs::create_dir(home.join("data.new")).unwrap();
    fs::write(home.join("data.new/PG_VERSION"), "15\n").unwrap();
    fs::write(home.join("password.initdb"), "old").unwrap();
    let server = start(&scratch, false).await.unwrap();
    connect(server.url()).await.unwrap();
    assert!(!home.join("data.new").exists() && !home.join("password.initdb").exists());
    server.stop().await.unwrap();
}

#[test]
fn only_processes_on_our_data_are_taken_for_ours() {
    let (data, cluster) = (Path::new("/d/data"), "watchbell-1");
    assert!(is_ours(b"/usr/bin/postgres\0-D\0/d/data\0-p\x001", data, cluster));
    assert!(is_ours(b"postgres: watchbell-1: checkpointer ", data, cluster));
    assert!(!is_ours(b"/usr/bin/postgres\0-D\0/d/data2\0", data, cluster));
    assert!(!is_ours(b"postgres: watchbell-12: checkpointer ", data, cluster));
    assert!(!is_ours(b"", data, cluster));
}
