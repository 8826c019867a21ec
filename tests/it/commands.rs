//! The commands: what they refuse, what they never say, and how they end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use async_nats::jetstream::consumer::pull;
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;
use uuid::Uuid;
use watchbell::dev::nats::{NatsOptions, PrivateNats};
use watchbell::dev::postgres::PrivatePostgres;
use watchbell::dev::provision;
use watchbell::dev::scratch::Scratch;
use watchbell::dev::state::StateDir;
use watchbell::runtime::{Role, Roles};

use super::support::app::{TestApp, temperature};
use super::support::command::{Finished, watchbell};
use super::support::database::TestDatabase;
use super::support::load::readings;
use super::support::wait::until;

const SECRET: &str = "geheim-4711";

/// One line that names the key and where it came from; exit code 2.
fn assert_refused(finished: &Finished, key: &str, origin: &str) {
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let line = finished.line();
    assert!(line.contains(&format!("`{key}`")), "{key} is not named: {line}");
    assert!(line.contains(origin), "{origin} is not named: {line}");
    assert_silent(finished);
}

/// Says nothing of a password.
fn assert_silent(finished: &Finished) {
    assert!(!finished.errors.contains("geheim") && !finished.out.contains("geheim"), "{finished:?}");
}

#[tokio::test]
async fn a_bad_setting_in_the_environment_is_one_line_with_its_key_and_variable() {
    let url = format!("postgres://user:{SECRET}@127.0.0.1:1/nothing");
    for (variable, value, key) in [
        ("WATCHBELL__INGEST__BATCHSIZE", "5", "ingest.batchsize"),
        ("WATCHBELL__BACKUP__EVERY", "5", "backup"),
        ("WATCHBELL__INGEST__BATCH_SIZE", "many", "ingest.batch_size"),
        ("WATCHBELL__INGEST__BATCH_SIZE", "-1", "ingest.batch_size"),
        ("WATCHBELL__INGEST__BATCH_SIZE", "0", "ingest.batch_size"),
        ("WATCHBELL__INGEST__BATCH_INTERVAL_MS", "9223372036854775807", "ingest.batch_interval_ms"),
        ("WATCHBELL__INGEST__ACCEPTED_DAYS", "4000000000", "ingest.accepted_days"),
        ("WATCHBELL__INGEST__STREAM_MAX_BYTES", "0", "ingest.stream_max_bytes"),
        ("WATCHBELL__INGEST__STREAM_MAX_BYTES", "-1", "ingest.stream_max_bytes"),
        ("WATCHBELL__INGEST__STREAM", "a.b", "ingest.stream"),
        ("WATCHBELL__INGEST__SUBJECT_PREFIX", "a.>", "ingest.subject_prefix"),
        // At least three times the largest batch.
        ("WATCHBELL__INGEST__MAX_ACK_PENDING", "14999", "ingest.max_ack_pending"),
        (
            "WATCHBELL__DATABASE__STATEMENT_TIMEOUT_SECONDS",
            "99999999999",
            "database.statement_timeout_seconds",
        ),
        ("WATCHBELL__DELIVER__EGRESS_ALLOW", "everywhere", "deliver.egress_allow[0]"),
        ("WATCHBELL__DELIVER__RETRY__JITTER", "2", "deliver.retry.jitter"),
        ("WATCHBELL__API__LISTEN", "here", "api.listen"),
        ("WATCHBELL__API__PUBLIC_URL", "watchbell.example", "api.public_url"),
        ("WATCHBELL__LOG__FORMAT", "xml", "log.format"),
        ("WATCHBELL__LOG__FILTER", "watchbell=loud", "log.filter"),
        ("WATCHBELL__SECRETS__KEY", SECRET, "secrets.key"),
        ("WATCHBELL__SECRETS__KEY_FILE", "/nowhere/key", "secrets.key_file"),
        ("DATABASE_URL", "postgres://user:geheim-4711@127.0.0.1:port/nothing", "database.url"),
        ("WATCHBELL__DATABASE__URL", "geheim-4711 for me", "database.url"),
        ("NATS_URL", "nats://user:geheim-4711@127.0.0.1:port", "nats.url"),
        ("NATS_URL", "http://user:geheim-4711@127.0.0.1", "nats.url"),
    ] {
        let mut environment = vec![("NATS_URL", "nats://127.0.0.1:1"), (variable, value)];
        if !matches!(variable, "DATABASE_URL" | "WATCHBELL__DATABASE__URL") {
            environment.push(("DATABASE_URL", &url));
        }
        let finished = watchbell(&["serve"], environment).await;
        let origin = format!("(environment variable {variable})");
        assert_refused(&finished, key, &origin);
    }
    let nothing: [(&str, &str); 0] = [];
    for command in [&["serve"][..], &["migrate"], &["verify"]] {
        let finished = watchbell(command, nothing).await;
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.line().contains("`database.url`"), "{finished:?}");
        assert!(finished.line().contains("DATABASE_URL"), "{finished:?}");
    }
}

struct SettingsFile(PathBuf);

impl SettingsFile {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("watchbell-{}.toml", Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_bad_setting_in_a_file_is_one_line_with_its_key_and_the_file() {
    let none: [(&str, &str); 0] = [];
    for (text, key) in [
        ("[ingest]\nbatchsize = 5\n", "ingest.batchsize"),
        ("[backup]\nevery = 5\n", "backup"),
        ("[ingest]\nbatch_size = \"many\"\n", "ingest.batch_size"),
        ("[ingest]\nbatch_size = 0\n", "ingest.batch_size"),
        ("ingest = 5\n", "ingest"),
        ("[deliver.retry]\nfactor = 0.5\n", "deliver.retry.factor"),
        ("[database]\nurl = \"postgres://user:geheim-4711@h:port/d\"\n", "database.url"),
        ("[database]\nurl = [\"geheim-4711\"]\n", "database.url"),
        ("[secrets]\nkey = \"geheim-4711\"\n", "secrets.key"),
    ] {
        let file = SettingsFile::new(text);
        assert_refused(&watchbell(&["--config", file.path(), "migrate"], none).await, key, file.path());
        let by_variable = watchbell(&["migrate"], [("WATCHBELL_CONFIG", file.path())]).await;
        assert_refused(&by_variable, key, file.path());
    }
    // A file that is no TOML; the place helps, the line itself may hold a secret.
    let file = SettingsFile::new("[database]\nurl = \"postgres://user:geheim-4711@h/d\nx = 1\n");
    let finished = watchbell(&["--config", file.path(), "migrate"], none).await;
    assert_refused(&finished, "--config", file.path());
    assert!(finished.line().contains("line 2"), "{finished:?}");
    let finished = watchbell(&["--config", "/nowhere/watchbell.toml", "migrate"], none).await;
    assert_refused(&finished, "--config", "/nowhere/watchbell.toml");
}

#[tokio::test]
async fn a_variable_of_others_that_is_no_text_disturbs_nobody() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let environment = [
        (OsStr::new("DATABASE_URL"), OsStr::new(&url)),
        (OsStr::new("FOREIGN"), OsStr::from_bytes(b"\xff\xfe")),
    ];
    let finished = watchbell(&["migrate", "--check"], environment).await;
    assert_ne!(finished.code, Some(101), "{finished:?}");
    assert!(finished.out.contains("missing"), "{finished:?}");
}

/// The tests' own PostgreSQL, asked for with a wrong password.
fn refused_url() -> String {
    let mut url = Url::parse(&std::env::var("DATABASE_URL").unwrap()).unwrap();
    url.set_password(Some(SECRET)).unwrap();
    url.to_string()
}

#[tokio::test]
async fn a_password_in_a_url_shows_in_no_error() {
    let state = StateDir::open().unwrap();
    let scratch = Scratch::create(&state).unwrap();
    let nats = PrivateNats::start(NatsOptions {
        store_dir: scratch.path().join("nats"),
        program: provision::nats::find_or_install(&state).await.unwrap(),
        configuration: "authorization { user: watchbell, password: another }".to_owned(),
    })
    .await
    .unwrap();
    let refused_nats = nats.url().replace("nats://", &format!("nats://watchbell:{SECRET}@"));
    let token_nats = nats.url().replace("nats://", &format!("nats://{SECRET}@"));
    let away = format!("postgres://user:{SECRET}@127.0.0.1:1/nothing");
    let (away_nats, good) =
        (format!("nats://user:{SECRET}@127.0.0.1:1"), std::env::var("DATABASE_URL").unwrap());
    for (database, broker) in [
        (&away, &away_nats),
        (&refused_url(), &refused_nats),
        (&good, &refused_nats),
        (&good, &token_nats),
        (&format!("host=127.0.0.1 port=1 user=u dbname=d password={SECRET}"), &away_nats),
    ] {
        for command in [
            &["serve"][..],
            &["migrate"],
            &["migrate", "--check"],
            &["verify"],
            &["keys", "list", "--tenant", "x"],
            &["simulate"],
        ] {
            let needs_broker = matches!(command[0], "serve" | "simulate");
            if *database == good && !needs_broker {
                continue;
            }
            let environment = [
                ("DATABASE_URL", database.as_str()),
                ("NATS_URL", broker.as_str()),
                ("WATCHBELL__LOG__FILTER", "trace"),
                ("WATCHBELL__API__LISTEN", "127.0.0.1:0"),
            ];
            let finished = watchbell(command, environment).await;
            assert_eq!(finished.code, Some(1), "{command:?}: {finished:?}");
            assert!(
                finished.errors.lines().any(|line| line.starts_with("watchbell: ")),
                "{command:?}: {finished:?}"
            );
            assert_silent(&finished);
        }
    }
    nats.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_that_can_not_hold_every_text_is_refused() {
    let database = TestDatabase::in_latin1().await;
    let url = database.config.database.url.expose_secret().to_owned();
    let nats = std::env::var("NATS_URL").unwrap();
    let environment =
        [("DATABASE_URL", &*url), ("NATS_URL", &nats), ("WATCHBELL__API__LISTEN", "127.0.0.1:0")];
    for command in [&["migrate"][..], &["migrate", "--check"], &["serve"]] {
        let finished = watchbell(command, environment).await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let line = finished.line();
        assert!(line.contains("LATIN1") && line.contains("ENCODING 'UTF8'"), "{line}");
    }
}

#[tokio::test]
async fn on_a_new_server_serve_asks_for_migrate_and_migrate_does_it_once() {
    let state = StateDir::open().unwrap();
    // A cluster of its own: roles belong to the cluster, and here nobody has made them.
    let server = PrivatePostgres::throw_away(&state).await.unwrap();
    let nats = std::env::var("NATS_URL").unwrap();
    let environment =
        [("DATABASE_URL", server.url()), ("NATS_URL", &nats), ("WATCHBELL__API__LISTEN", "127.0.0.1:0")];
    let serve = watchbell(&["serve"], environment).await;
    assert_eq!(serve.code, Some(1), "{serve:?}");
    assert!(serve.line().contains("watchbell migrate"), "{serve:?}");

    let migrations =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/migrations")).unwrap().count();
    let check = watchbell(&["migrate", "--check"], environment).await;
    assert_eq!((check.code, check.out.lines().count()), (Some(1), migrations), "{check:?}");
    let migrate = watchbell(&["migrate"], environment).await;
    assert_eq!((migrate.code, migrate.out.lines().count()), (Some(0), migrations), "{migrate:?}");
    let check = watchbell(&["migrate", "--check"], environment).await;
    assert_eq!(check.code, Some(0), "{check:?}");
    let again = watchbell(&["migrate"], environment).await;
    assert_eq!((again.code, again.out.lines().count()), (Some(0), 1), "{again:?}");
    let verify = watchbell(&["verify"], environment).await;
    assert_eq!(verify.code, Some(0), "{verify:?}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_asked_to_stop_stores_and_acknowledges_what_it_has_and_ends_with_0() {
    let app = TestApp::new(&[]).await;
    app.make_stream().await;
    let start = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(3_000);
    let backlog = readings(50, start, 0, 20_000);
    app.publish_all(backlog.chunks(5).map(|chunk| Value::from(chunk).to_string())).await;
    let load = app.start_load(200, 5, 50, 0);
    for _ in 0..3 {
        let service = app.spawn("ingest,detect");
        let stored = app.count("SELECT count(*) FROM readings").await;
        let what = "some thousand more readings";
        until(what, async || {
            (app.count("SELECT count(*) FROM readings").await > stored + 1_000).then_some(())
        })
        .await;
        assert_eq!(service.terminate().await, Some(0));
        let stream = app.broker.get_stream(app.config().ingest.stream).await.unwrap();
        // The broker works off acknowledgements after it has taken them.
        until("nothing to be pulled and neither stored nor given back", async || {
            let consumer = stream.get_consumer::<pull::Config>(&app.config().ingest.consumer).await.unwrap();
            (consumer.cached_info().num_ack_pending == 0).then_some(())
        })
        .await;
        assert_eq!(app.count("SELECT count(*) FROM flushes").await, 0, "what is stored is judged");
    }
    let published = 20_000 + load.stop().await;
    let in_stream = i64::try_from(app.messages_in_stream().await).unwrap();
    assert_eq!(app.count("SELECT count(*) FROM readings").await, published - 5 * in_stream);
    app.assert_verified().await;
}

#[tokio::test]
async fn verify_names_what_is_broken() {
    let mut app = TestApp::new(&[]).await;
    app.start(Roles::of(&[Role::Ingest, Role::Detect])).await;
    app.publish(Value::from(vec![temperature(91.0, 90), temperature(20.0, 80)])).await;
    app.wait_until_judged().await;
    app.stop().await;
    let verify = async |arguments: &[&str]| watchbell(arguments, &app.environment).await;
    let clean = verify(&["verify"]).await;
    assert_eq!(clean.code, Some(0), "{clean:?}");
    assert!(!clean.out.contains("BROKEN"), "{clean:?}");
    let tamperings = [
        ("DELETE FROM readings WHERE value = 20", "rollup"),
        (
            "INSERT INTO readings (series_id, ts, value) SELECT series_id, ts + interval '1 us', 3 FROM readings",
            "rollup",
        ),
        ("UPDATE readings SET value = 21 WHERE value = 20", "rollup"),
        ("UPDATE readings_1m SET count = count + 1", "rollup"),
        ("DELETE FROM readings_1m", "rollup"),
        ("DELETE FROM outbox", "neither owed nor ended"),
        ("DELETE FROM outbox; DELETE FROM notifications", "alerts without"),
        ("UPDATE outbox SET attempts = 3", "gap"),
        ("UPDATE outbox SET next_attempt_at = now() - interval '5 minutes'", "overdue"),
        (
            "INSERT INTO flushes (readings, batch, quarantine_reason) VALUES (1, '', 'damaged')",
            "could not be judged",
        ),
    ];
    for (tampering, named) in tamperings {
        let keep = "CREATE SCHEMA kept; CREATE TABLE kept.readings AS TABLE readings; CREATE TABLE kept.readings_1m AS TABLE readings_1m;
            CREATE TABLE kept.outbox AS TABLE outbox; CREATE TABLE kept.notifications AS TABLE notifications;";
        app.owner().batch_execute(&format!("{keep} {tampering}")).await.unwrap();
        let finished = verify(&["verify"]).await;
        assert_eq!(finished.code, Some(1), "{tampering}: {finished:?}");
        // Where nobody was told, the accounts do not close either.
        let broken = finished.out.lines().filter(|line| line.contains("BROKEN"));
        let broken: Vec<_> = broken.filter(|line| !line.starts_with("fired episodes")).collect();
        assert!(broken.len() == 1 && broken[0].contains(named), "{tampering}: {finished:?}");

        let json = verify(&["verify", "--json"]).await;
        assert_eq!(json.code, Some(1));
        let json: Value = serde_json::from_str(&json.out).unwrap();
        let broken = json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["ok"] == false && check["name"] != "fired episodes");
        let broken = broken.unwrap();
        assert!(broken["name"].as_str().unwrap().contains(named), "{broken}");
        assert!(broken["found"].as_i64().unwrap() > broken["expected"].as_i64().unwrap(), "{broken}");
        let mend = "DELETE FROM flushes; DELETE FROM outbox; DELETE FROM notifications; DELETE FROM readings; DELETE FROM readings_1m;
            INSERT INTO readings SELECT * FROM kept.readings; INSERT INTO readings_1m SELECT * FROM kept.readings_1m;
            INSERT INTO notifications SELECT * FROM kept.notifications; INSERT INTO outbox SELECT * FROM kept.outbox; DROP SCHEMA kept CASCADE";
        app.owner().batch_execute(mend).await.unwrap();
    }
    let clean = verify(&["verify", "--json"]).await;
    assert_eq!(clean.code, Some(0), "{clean:?}");
}

#[tokio::test]
async fn whoever_stops_reading_ends_a_command_without_a_word() {
    let app = TestApp::new(&[]).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = tokio::process::Command::new(env!("CARGO_BIN_EXE_watchbell"))
        .args(["alerts", "list", "--tenant", "acme", "--json"])
        .envs(&app.environment)
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(0) && !errors.contains("panicked"), "{ended:?}");
}
