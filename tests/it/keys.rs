//! `watchbell keys`: what is made, printed and put on record.

use clap::Parser;
use watchbell::cli::keys::{self, CreateArgs, KeysCommand};
use watchbell::config::Config;

use crate::support::database::TestDatabase;
use crate::support::server::TestServer;

#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    keys: KeysCommand,
}

fn parse(arguments: &str) -> Result<KeysCommand, clap::Error> {
    Command::try_parse_from(["keys"].into_iter().chain(arguments.split(' '))).map(|command| command.keys)
}

fn create_args(arguments: &str) -> CreateArgs {
    match parse(&format!("create --name test {arguments}")).unwrap() {
        KeysCommand::Create(args) => args,
        other => panic!("{other:?}"),
    }
}

/// Runs `keys create`; what it wrote to standard output and to standard error.
async fn create(config: &Config, arguments: &str) -> anyhow::Result<(String, String)> {
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    keys::create_to(config, create_args(arguments), &mut output, &mut notes).await?;
    Ok((String::from_utf8(output)?, String::from_utf8(notes)?))
}

async fn revoke(config: &Config, arguments: &str) -> anyhow::Result<String> {
    let KeysCommand::Revoke(args) = parse(&format!("revoke --reason leaked {arguments}"))? else {
        unreachable!()
    };
    let mut output = Vec::new();
    keys::revoke(config, &args, &mut output).await?;
    Ok(String::from_utf8(output)?)
}

async fn list(config: &Config, arguments: &str) -> String {
    let KeysCommand::List(args) = parse(arguments).unwrap() else { unreachable!() };
    let mut output = Vec::new();
    keys::list(config, &args, &mut output).await.unwrap();
    String::from_utf8(output).unwrap()
}

#[tokio::test]
async fn the_key_alone_is_on_standard_output_and_it_works() {
    let database = TestDatabase::new().await;
    let (output, notes) = create(&database.config, "--tenant acme --create-tenant").await.unwrap();
    let key = output.trim_end();
    assert_eq!(output, format!("{key}\n"));
    assert!(key.starts_with("wb_") && key.len() == 80, "{key}");
    assert!(!notes.contains(&key[16..]), "{notes}");
    let server = TestServer::start(&database.config).await;
    assert_eq!(server.get("/api/alerts", key).await.status, 200);
}

#[tokio::test]
async fn a_key_and_its_record_are_made_together_and_the_secret_is_stored_nowhere() {
    let database = TestDatabase::new().await;
    let arguments = "--tenant acme --create-tenant --scopes write,read,read --expires-days 30 --json";
    let (output, _) = create(&database.config, arguments).await.unwrap();
    let made: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(made["scopes"], serde_json::json!(["read", "write"]));
    let row = database
        .owner
        .query_one(
            "SELECT to_jsonb(k)::text, hash = sha256(convert_to($1, 'UTF8')), scopes,
                    expires_at BETWEEN now() + '29 days' AND now() + '30 days'
             FROM api_keys k",
            &[&made["key"].as_str().unwrap()],
        )
        .await
        .unwrap();
    assert!(!row.get::<_, String>(0).contains(&made["key"].as_str().unwrap()[16..]));
    assert!(row.get::<_, bool>(1), "the hash is the SHA-256 of the whole key");
    assert_eq!(row.get::<_, Vec<String>>(2), ["read", "write"]);
    assert!(row.get::<_, bool>(3), "it ends in 30 days");
    let records = database
        .owner
        .query("SELECT action, target, actor FROM admin_actions ORDER BY at, action DESC", &[])
        .await
        .unwrap();
    let records: Vec<(String, String)> = records
        .iter()
        .map(|row| {
            assert!(!row.get::<_, String>(2).is_empty());
            (row.get(0), row.get(1))
        })
        .collect();
    let prefix = made["prefix"].as_str().unwrap().to_owned();
    let expected = [("tenant.created".to_owned(), "acme".to_owned()), ("key.created".to_owned(), prefix)];
    assert_eq!(records, expected);
}

#[tokio::test]
async fn an_unknown_tenant_is_an_error_that_says_how_to_make_it() {
    let database = TestDatabase::new().await;
    let error = create(&database.config, "--tenant acme").await.unwrap_err().to_string();
    assert_eq!(error, "there is no tenant `acme`; --create-tenant makes it");
    let rows = database.owner.query_one("SELECT count(*) FROM api_keys", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 0);
    create(&database.config, "--tenant acme --create-tenant").await.unwrap();
    create(&database.config, "--tenant acme --create-tenant").await.unwrap();
    create(&database.config, "--tenant acme").await.unwrap();
    let rows = database.owner.query_one("SELECT count(*) FROM tenants", &[]).await.unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_database_without_its_tables_is_an_error_that_says_how_to_make_them() {
    let database = TestDatabase::new().await;
    database.owner.execute("DELETE FROM refinery_schema_history", &[]).await.unwrap();
    let error = create(&database.config, "--tenant acme").await.unwrap_err().to_string();
    assert!(error.contains("watchbell migrate"), "{error}");
}

#[test]
fn a_bad_argument_is_named() {
    for (arguments, named) in [
        ("create --tenant a --name n --scopes raed", "`raed` is no scope; there are read"),
        ("create --tenant a.b --name n", "a tenant's name is"),
        ("create --tenant a --name n --expires-days 0", "1..=36500"),
        ("create --tenant a", "--name"),
        ("revoke 0123456789ab", "--reason"),
    ] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_listed_as_revoked_with_its_reason_on_record() {
    let database = TestDatabase::new().await;
    let (key, _) = create(&database.config, "--tenant acme --create-tenant").await.unwrap();
    let (other, _) = create(&database.config, "--tenant other --create-tenant").await.unwrap();
    let key = key.trim_end();
    let said = revoke(&database.config, key).await.unwrap();
    assert_eq!(said, format!("revoked {} (test) of tenant acme\n", &key[..15]));
    let again = revoke(&database.config, &key[..15]).await.unwrap();
    assert!(again.contains("was revoked before"), "{again}");
    let record = "SELECT reason FROM admin_actions WHERE action = 'key.revoked' AND target = $1";
    let rows = database.owner.query(record, &[&&key[3..15]]).await.unwrap();
    assert_eq!(rows.len(), 1, "once, not again");
    assert_eq!(rows[0].get::<_, String>(0), "leaked");
    let listed = list(&database.config, "list").await;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.lines().any(|line| line.contains(&key[..15]) && line.contains("revoked")), "{listed}");
    assert!(listed.lines().any(|line| line.contains(&other[..15]) && line.contains("active")), "{listed}");
    let ours = list(&database.config, "list --tenant acme --json").await;
    assert_eq!(ours.lines().count(), 1, "{ours}");
    assert!(!ours.contains(&key[16..]), "{ours}");
}

#[tokio::test]
async fn a_key_that_is_not_there_can_not_be_revoked() {
    let database = TestDatabase::new().await;
    let error = revoke(&database.config, "0123456789ab").await.unwrap_err().to_string();
    assert_eq!(error, "there is no key with the prefix wb_0123456789ab");
    let error = revoke(&database.config, "nonsense").await.unwrap_err().to_string();
    assert!(error.contains("watchbell keys list"), "{error}");
}
