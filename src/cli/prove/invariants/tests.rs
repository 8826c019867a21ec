//! Each broken promise has a row that says so.

use uuid::Uuid;

use super::super::debt::Debt;
use super::super::evidence::{Delivery, NamedReading};
use super::*;

const PAGE: Uuid = Uuid::from_u128(1);

fn reading(device: &str, metric: &str, ts: i64, value: f64) -> NamedReading {
    NamedReading {
        device: device.to_owned(),
        stored: StoredReading { series: 1, metric: metric.to_owned(), ts, value },
    }
}

fn post(accepted: bool) -> Post {
    Post { body: b"{}".to_vec(), accepted }
}

/// One breach that was told, and a reading without a time.
fn whole() -> (Account, Evidence, Vec<PlainRule>) {
    let mut account = Account::default();
    account.timed.insert(("pump-0".to_owned(), "temperature", 10), 90.0);
    account.clockless.push(("beacon-0".to_owned(), 1.0));
    let rule =
        PlainRule { id: Uuid::nil(), metric: "temperature", above: true, threshold: 80.0, cooldown: 0 };
    let alert = StoredAlert {
        rule: rule.id,
        series: 1,
        breached_at: 10,
        ended_at: None,
        late: false,
        opening_told: true,
        end_told: false,
    };
    let delivery = Delivery { status: DELIVERED.to_owned(), body: "{}".to_owned(), attempts: 2 };
    let evidence = Evidence {
        readings: vec![reading("pump-0", "temperature", 10, 90.0), reading("beacon-0", "beat", 77, 1.0)],
        alerts: vec![alert],
        deliveries: [(PAGE, delivery)].into(),
        posts: [(PAGE, vec![post(false), post(true)])].into(),
        answers: Default::default(),
        attempts: Default::default(),
        epoch: 1,
        debt: Debt { messages: 0, flushes: 0, owed: 0 },
    };
    (account, evidence, vec![rule])
}

/// The names of the rows that are broken after `harm` was done.
fn broken(harm: impl FnOnce(&mut Account, &mut Evidence)) -> Vec<&'static str> {
    let (mut account, mut evidence, rules) = whole();
    harm(&mut account, &mut evidence);
    let checks = check(&account, &evidence, &rules, Toll::default());
    checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

#[test]
fn a_whole_account_breaks_nothing() {
    assert_eq!(broken(|_, _| {}), Vec::<&str>::new());
}

#[test]
fn readings_lost_doubled_and_changed_are_told_apart() {
    assert_eq!(
        broken(|_, found| drop(found.readings.pop())),
        ["readings published = stored", "readings lost"]
    );
    let doubled = broken(|_, found| found.readings.push(reading("beacon-0", "beat", 78, 1.0)));
    assert_eq!(doubled, ["readings published = stored", "readings doubled"]);
    let unknown = broken(|_, found| found.readings.push(reading("pump-0", "temperature", 9, 1.0)));
    assert_eq!(unknown, ["readings published = stored", "readings stored that nobody published"]);
    assert_eq!(
        broken(|_, found| found.readings[0].stored.value = 91.0),
        ["readings stored with another value"]
    );
}

#[test]
fn alerts_and_their_notifications_are_counted() {
    let silent = broken(|_, found| {
        found.alerts.clear();
        found.deliveries.clear();
        found.posts.clear();
    });
    assert_eq!(silent, ["breaches that no alert told"]);
    let twice = broken(|_, found| found.alerts.push(found.alerts[0]));
    assert_eq!(twice, ["alerts doubled"]);
    let early = broken(|_, found| found.alerts[0].ended_at = Some(20));
    let expected = [
        "alerts that ended otherwise than the readings say",
        "alerts that are over and no notification says so",
    ];
    assert_eq!(early, expected);
    let unfounded = broken(|_, found| found.readings[0].stored.value = 70.0);
    let expected = [
        "readings stored with another value",
        "alerts of what was no breach",
        "alerts that ended otherwise than the readings say",
    ];
    assert_eq!(unfounded, expected);
    let untold = broken(|_, found| found.alerts[0].opening_told = false);
    assert_eq!(untold, ["alerts that no notification tells"]);
}

#[test]
fn what_the_hub_saw_and_what_is_on_record_must_agree() {
    let page = |found: &mut Evidence| found.deliveries.remove(&PAGE).unwrap();
    let off_record = broken(|_, found| {
        let delivery = Delivery { attempts: 1, ..page(found) };
        found.deliveries.insert(PAGE, delivery);
    });
    assert_eq!(off_record, ["POSTs off the record"]);
    let forgotten = broken(|_, found| {
        let delivery = Delivery { status: "missing".to_owned(), ..page(found) };
        found.deliveries.insert(PAGE, delivery);
    });
    let expected =
        ["notifications delivered", "notifications missing", "accepted by the hub and not delivered"];
    assert_eq!(forgotten, expected);
    let unheard = broken(|_, found| found.posts.get_mut(&PAGE).unwrap()[1].accepted = false);
    assert_eq!(unheard, ["delivered and not accepted by the hub"]);
    let changed = broken(|_, found| found.posts.get_mut(&PAGE).unwrap()[0].body.push(b' '));
    assert_eq!(changed, ["POSTs with another body than the notification's"]);
    let stray = broken(|_, found| drop(found.posts.insert(Uuid::nil(), vec![post(true)])));
    assert_eq!(stray, ["POSTs of no notification"]);
}

#[test]
fn repeats_are_what_came_after_the_first_acceptance() {
    let (_, mut evidence, _) = whole();
    assert_eq!(repeats(&evidence), 0);
    evidence.posts.insert(PAGE, vec![post(false), post(true), post(false), post(true)]);
    assert_eq!(repeats(&evidence), 2);
}
