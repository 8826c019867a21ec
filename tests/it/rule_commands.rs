//! Rules as commands: the same rules as over HTTP, with the user on the record.

use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::command::{Finished, watchbell_reading};
use crate::support::database::TestDatabase;
use crate::support::house::House;

async fn run(database: &TestDatabase, arguments: &[&str], input: &Value) -> Finished {
    let url = database.config.database.url.expose_secret().to_owned();
    let input = if input.is_null() { String::new() } else { input.to_string() };
    let arguments: Vec<&str> = ["rules"].iter().chain(arguments).copied().collect();
    watchbell_reading(&input, &arguments, [("DATABASE_URL", url)], Duration::from_secs(60)).await
}

fn cold() -> Value {
    json!({ "name": "cold", "metric": "temperature", "severity": "warning", "devices": { "pattern": "pump-*" },
            "condition": { "kind": "below_threshold", "threshold": 5.0 } })
}

#[tokio::test]
async fn the_commands_make_list_show_change_and_archive() {
    let database = TestDatabase::new().await;
    let house = House::build(&database.owner, "a").await;
    let made = run(&database, &["create", "--tenant", "a", "--json"], &cold()).await;
    let rule = made.json();
    assert_eq!((&rule["name"], &rule["version"]), (&json!("cold"), &json!(1)));
    // Loud where people look: in the answer, in the log, and in the table.
    assert!(rule["warnings"][0].as_str().unwrap().contains("nobody is told"));
    let log = made.errors.lines().find(|line| line.contains("nobody is told")).unwrap_or_default();
    assert!(log.contains("WARN") && log.contains(rule["rule_id"].as_str().unwrap()), "{made:?}");
    let table = run(&database, &["list", "--tenant", "a"], &Value::Null).await.out;
    let line = |name: &str| table.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
    assert!(line("cold").contains("pump-*") && line("cold").contains("NOBODY"), "{table}");
    assert!(!line("a-hot").contains("NOBODY"), "{table}");

    // By name or by id, from standard input or from a file.
    let routed = json!({ "destination_ids": [house.destination] });
    let changed = run(&database, &["change", "--tenant", "a", "cold", "--json"], &routed).await;
    assert_eq!((&changed.json()["version"], &changed.json()["warnings"]), (&json!(2), &json!([])));
    let file = std::env::temp_dir().join(format!("watchbell-rule-{}.json", uuid::Uuid::now_v7()));
    std::fs::write(&file, json!({ "severity": "info" }).to_string()).unwrap();
    let (id, name) = (rule["rule_id"].as_str().unwrap(), file.to_str().unwrap());
    let changed = run(&database, &["change", "--tenant", "a", id, "--file", name], &Value::Null).await;
    std::fs::remove_file(&file).unwrap();
    assert!(changed.out.contains("severity               info"), "{changed:?}");

    let shown = run(&database, &["show", "--tenant", "a", "cold", "--json"], &Value::Null).await.json();
    let user = shown["versions"][0]["changed_by"].as_str().unwrap();
    assert!(!user.is_empty() && !user.starts_with("key "), "{shown}");
    assert_eq!(shown["versions"].as_array().unwrap().len(), 3);
    let table = run(&database, &["show", "--tenant", "a", "cold"], &Value::Null).await.out;
    assert!(table.contains("VERSION  CHANGED") && table.contains(user), "{table}");

    let archived = run(&database, &["archive", "--tenant", "a", "cold", "--json"], &Value::Null).await;
    assert_eq!(archived.json()["state"], "archived");
    let listed = run(&database, &["list", "--tenant", "a", "--json"], &Value::Null).await.json();
    assert_eq!(listed["rules"].as_array().unwrap().len(), 1);
    let query = "SELECT count(*) FROM admin_actions WHERE target = $1 AND actor = $2";
    let actions: i64 = database.owner.query_one(query, &[&id, &user]).await.unwrap().get(0);
    assert_eq!(actions, 4);
}

#[tokio::test]
async fn a_command_that_cannot_be_followed_says_why() {
    let database = TestDatabase::new().await;
    House::build(&database.owner, "a").await;
    let mut unknown = cold();
    unknown["treshold"] = 5.into();
    for (arguments, input, said) in [
        (&["create", "--tenant", "a"][..], unknown, "`treshold` is not known here; there are name"),
        (&["create", "--tenant", "a"], Value::Null, "standard input is not JSON"),
        (
            &["create", "--tenant", "a", "--file", "/nowhere.json"],
            Value::Null,
            "failed to open /nowhere.json",
        ),
        (&["create", "--tenant", "z"], cold(), "no tenant `z`"),
        (&["change", "--tenant", "a", "a-hot"], json!({ "severity": "loud" }), "`severity` must be one of"),
        (&["change", "--tenant", "a", "nothing"], json!({}), "no rule `nothing`"),
        (&["show", "--tenant", "a", "nothing"], Value::Null, "no rule `nothing`"),
        (
            &["archive", "--tenant", "a", "01890f3a-1111-7000-8000-000000000000"],
            Value::Null,
            "no rule `01890f3a",
        ),
    ] {
        let refused = run(&database, arguments, &input).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.line().contains(said), "{refused:?}");
    }
}

#[tokio::test]
async fn the_command_judges_given_points_and_explains() {
    let database = TestDatabase::new().await;
    House::build(&database.owner, "a").await;
    let points = json!({ "points": [{ "ts": 1_000, "value": 79 }, { "ts": 1_060, "value": 81 }] });
    let tested = run(&database, &["test", "--tenant", "a", "a-hot", "--json"], &points).await.json();
    assert_eq!(tested["summary"]["alerts"], 1);
    let table = run(&database, &["test", "--tenant", "a", "a-hot"], &points).await.out;
    assert!(table.contains("clear") && table.contains("breach") && table.contains("1 alert"), "{table}");
    // A rule that is not stored stands beside the points.
    let mut draft = points.clone();
    draft["rule"] = cold();
    let tested = run(&database, &["test", "--tenant", "a", "--json"], &draft).await.json();
    assert_eq!(tested["summary"]["alerts"], 0);
    let refused = run(&database, &["test", "--tenant", "a"], &points).await;
    assert!(refused.line().contains("`rule` is missing"), "{refused:?}");
}
