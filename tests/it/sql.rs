//! Every statement under `sql/queries` is one that PostgreSQL can plan for the role that runs it, and one that is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tokio_postgres::{Client, SimpleQueryMessage};
use watchbell::db::pool::{self, Pool, Role};

use super::support::database::TestDatabase;
use super::support::house::House;

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

/// The lines of its plan. PREPARE looks at names and types; whether the role may is asked when a plan starts.
async fn plan(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let parameters = client.prepare(sql).await?.params().len();
    client.batch_execute(&format!("PREPARE wanted AS {sql}")).await?;
    let values = vec!["NULL"; parameters].join(", ");
    let values = if parameters == 0 { String::new() } else { format!("({values})") };
    let lines = client.simple_query(&format!("EXPLAIN EXECUTE wanted{values}")).await?;
    client.batch_execute("DEALLOCATE wanted").await?;
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    Ok(lines.into_iter().filter_map(text).collect())
}

#[tokio::test]
async fn every_statement_prepares_on_a_migrated_database_as_the_role_that_runs_it() {
    let database = TestDatabase::new().await;
    let mut failed = Vec::new();
    for (name, sql) in queries() {
        let pool = Pool::new(&database.config.database, role_of(&name), 1).unwrap();
        let client = pool.get().await.unwrap();
        if let Err(error) = plan(&client, &sql).await {
            failed.push(format!(
                "{name}: {}",
                error.as_db_error().map_or(error.to_string(), ToString::to_string)
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A worker plans when it begins, often when nothing is owed, and keeps the plan until the tables are vacuumed or analyzed. To walk
/// over a table that is empty costs as little as to look something up in it; when there are a million rows it does not.
#[tokio::test]
async fn what_is_planned_for_empty_tables_looks_rows_up_by_their_keys_all_the_same() {
    let database = TestDatabase::new().await;
    let owner = pool::connect_owner(&database.config.database).await.unwrap();
    owner.batch_execute("VACUUM ANALYZE outbox, rule_state").await.unwrap();
    let client = Pool::new(&database.config.database, Role::Worker, 1).unwrap().get().await.unwrap();
    let mut lookups = 0;
    for (name, sql) in queries() {
        if name != "detect/delete_rule_state.sql"
            && (!name.starts_with("outbox/") || role_of(&name) != Role::Worker)
        {
            continue;
        }
        let lines = plan(&client, &sql).await.unwrap();
        let is_lookup = |line: &str| {
            ["outbox", "rule_state"].iter().any(|of| line.contains(&format!("using {of}_pkey on")))
        };
        let places = (1..lines.len()).filter(|place| is_lookup(&lines[place - 1]));
        let (keyed, walks): (Vec<_>, Vec<_>) = places.partition(|place| lines[*place].contains("Index Cond"));
        // What the dead had in flight is looked for among all, once.
        let allowed = usize::from(name == "outbox/lock_in_flight.sql");
        assert_eq!(walks.len(), allowed, "{name} walks over all rows:\n{}", lines.join("\n"));
        lookups += keyed.len();
    }
    assert!(lookups >= 9, "{lookups}");
}

/// What people changed is asked for with each change, what a series was in whenever one is met: neither is a walk over all.
#[tokio::test]
async fn what_detection_asks_of_tables_that_grow_is_found_by_an_index() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "acme").await;
    let fill = "WITH made AS (INSERT INTO series (tenant_id, device_id, metric, unit)
            SELECT tenant_id, device_id, 'metric-' || n, 'K' FROM series, generate_series(1, 2000) AS n RETURNING *),
        alerted AS (INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, severity, breached_at, value, evidence)
            SELECT gen_random_uuid(), tenant_id, $1, 1, series_id, 'warning', now(), 1, '{}' FROM made)
        INSERT INTO rule_state (rule_id, series_id, tenant_id) SELECT $1, series_id, tenant_id FROM made";
    database.owner.execute(fill, &[&house.rule]).await.unwrap();
    database.owner.batch_execute("VACUUM ANALYZE alerts, rule_state").await.unwrap();
    let client = Pool::new(&database.config.database, Role::Worker, 1).unwrap().get().await.unwrap();
    let queries = queries();
    for (name, index) in
        [("changed_alerts", "alerts_changed_version_idx"), ("load_states", "rule_state_series_id_idx")]
    {
        let lines = plan(&client, &queries[&format!("detect/{name}.sql")]).await.unwrap().join("\n");
        assert!(lines.contains(index), "{name}:\n{lines}");
    }
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
