//! Every statement under `sql/queries` is one that PostgreSQL can plan for the role that runs it, and one that is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use watchbell::db::pool::{Pool, Role};

use super::support::database::TestDatabase;

/// Who runs a statement: by its area, but for those that one area lends to another.
fn role_of(name: &str) -> Role {
    let (area, file) = name.split_once('/').expect("a query lies in the directory of its area");
    match area {
        "outbox" if file == "redrive.sql" => Role::Api,
        "outbox" if file == "read_dead_rows.sql" => Role::Owner,
        "db" | "deliver" | "detect" | "ingest" | "outbox" => Role::Worker,
        "api" | "console" => Role::Api,
        "audit" | "bench" | "demo" | "keys" | "prove" | "tenants" => Role::Owner,
        _ => panic!("sql/queries/{area} is new: say here which role runs it"),
    }
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `ingest/find_series.sql` and what is in it.
fn queries() -> BTreeMap<String, String> {
    let directory = root().join("sql/queries");
    let name = |path: &PathBuf| path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
    files(&directory, "sql").iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

#[tokio::test]
async fn every_statement_prepares_on_a_migrated_database_as_the_role_that_runs_it() {
    let database = TestDatabase::new().await;
    let mut failed = Vec::new();
    for (name, sql) in queries() {
        let pool = Pool::new(&database.config.database, role_of(&name), 1).unwrap();
        let client = pool.get().await.unwrap();
        let planned = async {
            let parameters = client.prepare(&sql).await?.params().len();
            // PREPARE looks at names and types; whether the role may is asked when a plan starts.
            client.batch_execute(&format!("PREPARE wanted AS {sql}")).await?;
            let values = vec!["NULL"; parameters].join(", ");
            let values = if parameters == 0 { String::new() } else { format!("({values})") };
            client.batch_execute(&format!("EXPLAIN EXECUTE wanted{values}")).await
        };
        if let Err(error) = planned.await {
            failed.push(format!(
                "{name}: {}",
                error.as_db_error().map_or(error.to_string(), ToString::to_string)
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_statement_is_loaded_by_one_room_and_by_no_other() {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files(&root().join("src"), "rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let place = path.strip_prefix(root().join("src")).unwrap();
        let room = place.iter().next().unwrap().to_str().unwrap().to_owned();
        for include in text.split("include_str!(").skip(1) {
            let file = include.split('"').nth(1).unwrap_or_default();
            if let Some((_, query)) = file.split_once("sql/queries/") {
                users.entry(query.to_owned()).or_default().insert(room.clone());
            }
        }
    }
    for name in queries().into_keys() {
        let rooms = users.get(&name).cloned().unwrap_or_default();
        assert_eq!(rooms.len(), 1, "sql/queries/{name} is loaded by {rooms:?}");
    }
}
