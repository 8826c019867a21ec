//! The accounts of fired episodes close, and verify goes red when they do not.

use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;
use watchbell::audit::episodes::Episodes;
use watchbell::audit::verify::{Findings, examine};
use watchbell::db::pool;

use super::support::command::watchbell;
use super::support::database::TestDatabase;
use super::support::house::House;

const FIRED: &str = "fired episodes";
const UNTOLD: &str = "alerts without the notifications they owe";
const OFF: &str = "alerts with an episode that is not on their timeline";

/// An alert for each thing that can become of an episode, and what shows it. Six alerts, seven episodes.
async fn one_of_each(owner: &Client) -> House {
    let house = House::build(owner, "a").await;
    let notified = house.alert(owner).await;
    house.notification(owner, notified).await;
    let grouped = house.alert(owner).await;
    become_of(owner, grouped, "grouped").await;
    let other = house.alert(owner).await;
    become_of(owner, other, "grouped").await;
    let notice = house.notification(owner, grouped).await;
    for alert in [grouped, other] {
        let link = "INSERT INTO notification_alerts (notification_id, alert_id, tenant_id, episode) VALUES ($1, $2, $3, 1)";
        owner.execute(link, &[&notice, &alert, &house.tenant.0]).await.unwrap();
    }
    let silence = "INSERT INTO silences (silence_id, tenant_id, device_pattern, ends_at, created_by, reason)
         VALUES (gen_random_uuid(), $1, 'a-p*p', now() + interval '1 hour', 'somebody', 'service')";
    owner.execute(silence, &[&house.tenant.0]).await.unwrap();
    let silenced = house.alert(owner).await;
    become_of(owner, silenced, "silenced").await;
    // It fired again within its cooldown.
    owner.execute("UPDATE alerts SET episodes = 2 WHERE alert_id = $1", &[&silenced]).await.unwrap();
    let again = "INSERT INTO alert_events (alert_id, tenant_id, kind, actor, episode, disposition)
         VALUES ($1, $2, 'reopened', 'detector', 2, 'cooled_down')";
    owner.execute(again, &[&silenced, &house.tenant.0]).await.unwrap();
    let historical = house.alert(owner).await;
    become_of(owner, historical, "historical").await;
    owner.execute("UPDATE alerts SET historical = true WHERE alert_id = $1", &[&historical]).await.unwrap();
    owner.execute("UPDATE rules SET destination_ids = '{}'", &[]).await.unwrap();
    let unrouted = house.alert(owner).await;
    become_of(owner, unrouted, "unrouted").await;
    owner.execute("UPDATE alerts SET rule_version = 2 WHERE alert_id = $1", &[&unrouted]).await.unwrap();
    house
}

async fn become_of(owner: &Client, alert: Uuid, disposition: &str) {
    let update = "UPDATE alert_events SET disposition = $2 WHERE alert_id = $1";
    owner.execute(update, &[&alert, &disposition]).await.unwrap();
}

async fn findings(database: &TestDatabase) -> Findings {
    let mut client = pool::connect_owner(&database.config.database).await.unwrap();
    examine(&mut client).await.unwrap()
}

async fn broken(database: &TestDatabase) -> Vec<&'static str> {
    let checks = findings(database).await.checks;
    checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

const CLOSED: Episodes =
    Episodes { fired: 7, notified: 1, grouped: 2, silenced: 1, cooled_down: 1, historical: 1, unrouted: 1 };

#[tokio::test]
async fn every_episode_that_fired_became_one_of_six_things() {
    let database = TestDatabase::new().await;
    one_of_each(&database.owner).await;
    let found = findings(&database).await;
    assert_eq!(found.episodes, CLOSED);
    assert!(found.checks.iter().all(|check| check.ok), "{:?}", found.checks);
}

#[tokio::test]
async fn verify_goes_red_when_a_disposition_is_wrong_or_what_it_says_is_not_there() {
    for (tampering, expected) in [
        ("DELETE FROM outbox; DELETE FROM notifications WHERE event = 'opened'", &[FIRED, UNTOLD][..]),
        ("UPDATE notifications SET episode = 2", &[FIRED, UNTOLD]),
        ("UPDATE notifications SET event = 'resolved'", &[FIRED, UNTOLD]),
        ("DELETE FROM notification_alerts", &[FIRED, UNTOLD]),
        ("UPDATE notification_alerts SET episode = 2", &[FIRED, UNTOLD]),
        (
            "UPDATE notifications SET destination_id = gen_random_uuid() WHERE notification_id NOT IN
            (SELECT notification_id FROM notification_alerts)",
            &[UNTOLD],
        ),
        (
            "UPDATE notifications SET destination_id = gen_random_uuid() WHERE notification_id IN
            (SELECT notification_id FROM notification_alerts)",
            &[UNTOLD],
        ),
        ("DELETE FROM silences", &[FIRED]),
        ("UPDATE silences SET device_pattern = 'a_p*p'", &[FIRED]),
        (
            "UPDATE silences SET starts_at = now() - interval '2 hours', ends_at = now() - interval '1 hour'",
            &[FIRED],
        ),
        ("UPDATE silences SET created_at = now() + interval '1 hour'", &[FIRED]),
        ("UPDATE alerts SET historical = false", &[FIRED]),
        // It was routed: its rule named the hub.
        ("UPDATE alerts SET rule_version = 1", &[FIRED]),
        ("UPDATE alert_events SET kind = 'opened' WHERE kind = 'reopened'", &[FIRED]),
        ("UPDATE alert_events SET disposition = NULL WHERE disposition = 'unrouted'", &[FIRED]),
        ("UPDATE alert_events SET disposition = 'cooled_down' WHERE disposition = 'notified'", &[FIRED]),
        ("UPDATE alert_events SET disposition = 'grouped' WHERE disposition = 'notified'", &[FIRED]),
        (
            "UPDATE alert_events SET disposition = 'silenced' WHERE disposition = 'unrouted';
          UPDATE silences SET rule_id = gen_random_uuid()",
            &[FIRED],
        ),
        ("UPDATE alert_events SET disposition = 'historical' WHERE disposition = 'notified'", &[FIRED]),
        ("UPDATE alert_events SET disposition = 'unrouted' WHERE disposition = 'notified'", &[FIRED]),
        ("UPDATE alert_events SET disposition = 'notified' WHERE disposition = 'silenced'", &[FIRED, UNTOLD]),
        ("DELETE FROM alert_events WHERE disposition = 'notified'", &[OFF]),
        ("DELETE FROM alert_events WHERE disposition = 'cooled_down'", &[OFF]),
        ("UPDATE alert_events SET episode = 1", &[OFF]),
        ("UPDATE alerts SET episodes = 2 WHERE historical", &[OFF]),
    ] {
        let database = TestDatabase::new().await;
        one_of_each(&database.owner).await;
        // Nobody may point a silence at a rule that is not there; a person with the owner's rights can.
        let loosen = "ALTER TABLE silences DROP CONSTRAINT silences_rule_id_fkey";
        database.owner.batch_execute(&format!("{loosen}; {tampering}")).await.unwrap();
        let red: Vec<_> = broken(&database).await;
        let red: Vec<_> = red.into_iter().filter(|name| [FIRED, UNTOLD, OFF].contains(name)).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let mut sorted = red.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected, "{tampering}");
    }
}

#[tokio::test]
async fn each_destination_that_the_rule_named_and_that_was_there_is_told() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    House::build(owner, "stranger").await;
    for (name, columns, values) in [
        ("second", "", ""),
        ("archived", ", archived_at", ", now() - interval '1 hour'"),
        ("later", ", created_at", ", now() + interval '1 hour'"),
    ] {
        let insert = format!(
            "INSERT INTO destinations (destination_id, tenant_id, name, kind, settings {columns})
             VALUES (gen_random_uuid(), $1, $2, 'hub', '{{\"url\": \"https://hub.example\"}}' {values})"
        );
        owner.execute(&insert, &[&house.tenant.0, &name]).await.unwrap();
    }
    owner
        .execute(
            "UPDATE rules SET destination_ids = ARRAY(SELECT destination_id FROM destinations) WHERE rule_id = $1",
            &[&house.rule],
        )
        .await
        .unwrap();
    let alert = house.alert(owner).await;
    owner.execute("UPDATE alerts SET rule_version = 2", &[]).await.unwrap();
    house.notification(owner, alert).await;
    assert_eq!(broken(&database).await, [UNTOLD], "the second was not told");
    let notification = house.notification(owner, alert).await;
    let to_second = "UPDATE notifications SET destination_id = (SELECT destination_id FROM destinations WHERE name = 'second')
                     WHERE notification_id = $1";
    owner.execute(to_second, &[&notification]).await.unwrap();
    assert_eq!(
        broken(&database).await,
        [""; 0],
        "not those who were gone, or came later, or are another tenant's"
    );
}

#[tokio::test]
async fn what_was_silenced_or_old_and_is_told_later_keeps_its_account() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    let alert = house.alert(owner).await;
    become_of(owner, alert, "historical").await;
    assert_eq!(broken(&database).await, [FIRED], "it is not old");
    let still = "INSERT INTO alert_events (alert_id, tenant_id, kind, actor) VALUES ($1, $2, 'still_burning', 'detector')";
    owner.execute(still, &[&alert, &house.tenant.0]).await.unwrap();
    let notification = house.notification(owner, alert).await;
    let event = "UPDATE notifications SET event = 'still_burning' WHERE notification_id = $1";
    owner.execute(event, &[&notification]).await.unwrap();
    assert_eq!(broken(&database).await, [""; 0]);
    assert_eq!(
        findings(&database).await.episodes,
        Episodes { fired: 1, historical: 1, ..Episodes::default() }
    );
}

#[tokio::test]
async fn an_episode_counts_as_unrouted_only_while_its_rule_names_nobody_who_is_there() {
    let database = TestDatabase::new().await;
    let owner = &database.owner;
    let house = House::build(owner, "a").await;
    let alert = house.alert(owner).await;
    become_of(owner, alert, "unrouted").await;
    assert_eq!(broken(&database).await, [FIRED]);
    owner.execute("UPDATE destinations SET archived_at = now() - interval '1 hour'", &[]).await.unwrap();
    assert_eq!(broken(&database).await, [""; 0], "it was archived before");
    owner.execute("UPDATE destinations SET archived_at = now() + interval '1 hour'", &[]).await.unwrap();
    assert_eq!(broken(&database).await, [FIRED], "it was archived later");
    let stranger = House::build(owner, "stranger").await;
    let take = "UPDATE destinations SET tenant_id = $1 WHERE name = 'a-hub'";
    owner.execute(take, &[&stranger.tenant.0]).await.unwrap();
    assert_eq!(broken(&database).await, [""; 0], "it is another tenant's");
    owner
        .execute("UPDATE destinations SET tenant_id = $1 WHERE name = 'a-hub'", &[&house.tenant.0])
        .await
        .unwrap();

    // A later version of the rule names nobody: only an episode that fired again may have fired by it.
    owner
        .execute("UPDATE rules SET destination_ids = '{}' WHERE rule_id = $1", &[&house.rule])
        .await
        .unwrap();
    assert_eq!(broken(&database).await, [FIRED]);
    become_of(owner, alert, "notified").await;
    house.notification(owner, alert).await;
    owner.execute("UPDATE alerts SET episodes = 2", &[]).await.unwrap();
    let again = "INSERT INTO alert_events (alert_id, tenant_id, kind, actor, episode, disposition)
         VALUES ($1, $2, 'reopened', 'detector', 2, 'unrouted')";
    owner.execute(again, &[&alert, &house.tenant.0]).await.unwrap();
    assert_eq!(broken(&database).await, [""; 0]);
}

#[tokio::test]
async fn verify_prints_the_six_numbers() {
    let database = TestDatabase::new().await;
    one_of_each(&database.owner).await;
    let url = secrecy::ExposeSecret::expose_secret(&database.config.database.url).to_owned();
    let printed = watchbell(&["verify"], [("DATABASE_URL", &url)]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let words = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = printed.out.lines().map(words).collect();
    let at = lines
        .iter()
        .position(|line| line == "fired episodes 7 7 ok")
        .unwrap_or_else(|| panic!("{printed:?}"));
    assert_eq!(
        lines[at + 1..at + 7],
        ["notified 1", "grouped 2", "silenced 1", "cooled down 1", "historical 1", "unrouted 1"]
    );
    let json = watchbell(&["verify", "--json"], [("DATABASE_URL", &url)]).await.json();
    assert_eq!(
        json["episodes"],
        json!({ "fired": 7, "notified": 1, "grouped": 2, "silenced": 1, "cooled_down": 1, "historical": 1, "unrouted": 1 })
    );
    assert!(json["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{json}");
}
