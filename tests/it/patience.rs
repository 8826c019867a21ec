//! `Retry-After`: what a receiver asks for is a floor. Jitter raises it, the horizon alone caps it, and no other answer cuts it short.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use watchbell::db::pool;
use watchbell::deliver::answer;
use watchbell::deliver::outcome::{Context, Silence, of_answer};
use watchbell::dev::hub::{Answer, Reply};
use watchbell::model::delivery::Outcome;
use watchbell::retry::RetryPolicy;

use super::support::app::TestApp;
use super::support::courier::Courier;
use super::support::wait::{PATIENCE, until};

const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
const RECORDED: &str = "SELECT count(*) FROM delivery_attempts";
const MINUTE: Duration = Duration::from_secs(60);

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

#[test]
fn whatever_the_policy_the_attempt_and_the_chance_a_wait_is_no_shorter_than_was_asked() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let horizon = Duration::from_secs(3600);
    let mut tried = 0;
    for (first_delay_ms, factor, max_delay_ms) in [(1, 1.0, 1), (1000, 2.0, 900_000), (90_000, 3.0, 5_000)] {
        for jitter in [0.0, 0.2, 1.0] {
            let horizon_seconds = horizon.as_secs();
            let policy = RetryPolicy { first_delay_ms, factor, max_delay_ms, jitter, horizon_seconds };
            for chance in (0..=16).map(|part| f64::from(part) / 16.0) {
                for attempt in [1, 2, 7, 1000] {
                    for owed in [0, 10, 3000, 3539, 3541, 3599].map(Duration::from_secs) {
                        for (status, asked) in
                            [(429, "60"), (503, "60"), (429, "Thu, 01 Jan 2026 00:01:00 GMT")]
                        {
                            let silence = Silence::Repeat;
                            let context = Context {
                                policy: &policy,
                                attempt,
                                owed,
                                chance,
                                silence,
                                hold: Duration::ZERO,
                            };
                            let verdict = answer::read(status, Some(asked), now);
                            let Outcome::Retry { after } = of_answer(&verdict, status, context) else {
                                panic!("{verdict:?} {context:?}");
                            };
                            assert!(after >= MINUTE.min(horizon - owed), "{after:?} {context:?}");
                            assert!(after <= horizon - owed, "{after:?} {context:?}");
                            tried += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 10_000);
}

#[tokio::test]
async fn of_forty_that_are_asked_for_a_minute_none_is_due_before_nor_is_their_lane() {
    for asks_for_a_date in [false, true] {
        let app = TestApp::new(&[("deliver.concurrency_per_destination", "40")]).await;
        let date = Timestamp::now() + SignedDuration::from_secs(60);
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let asked = if asks_for_a_date { date.as_str() } else { "60" };
        app.hub.set_default(Answer::too_many_requests(asked));
        let ids = app.owe(app.destination, 40).await;
        let mut courier = Courier::new(&app.config()).await;
        courier.step_until(&app, RECORDED, 40).await;
        let paused = time(&app.destination(app.destination).await["paused_until"]);
        let mut waits = Vec::new();
        for id in ids {
            let answered = time(&app.attempts(id).await[0]["finished_at"]);
            let floor = if asks_for_a_date {
                jiff::fmt::rfc2822::DateTimeParser::new()
                    .parse_timestamp(date.replace("GMT", "+0000"))
                    .unwrap()
            } else {
                answered + SignedDuration::from_secs(60)
            };
            let due = time(&app.delivery(id).await["next_attempt_at"]);
            assert!(due >= floor && paused >= floor, "asked for {floor}: due {due}, lane {paused}");
            waits.push(due.duration_since(floor).as_millis());
        }
        waits.sort_unstable();
        // Jitter of up to a fifth: they don't all come back at once.
        assert!(waits[39] - waits[0] > 2_000, "{waits:?}");
        courier.find_nothing_due().await;
        assert_eq!(app.hub.total(), 40);
    }
}

/// Two workers have one request under way each, and write down how it ended one after the other.
#[tokio::test]
async fn no_other_answer_cuts_a_pause_short() {
    let with = |status, seconds| Answer::from(Reply::new(status, "").with_header("retry-after", seconds));
    for other in
        [Answer::ByTheRules, Answer::status(503), Answer::status(422), with(429, "1"), with(503, "0")]
    {
        for is_last in [true, false] {
            let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
            app.hub.push_answer(with(429, "60"));
            app.hub.push_answer(other.clone());
            let asked = app.owe_one().await;
            let (mut one, mut two) = (Courier::new(&app.config()).await, Courier::new(&app.config()).await);
            one.claim().await;
            app.hub.wait_for(|posts| posts.len() == 1, PATIENCE).await.unwrap();
            app.owe_one().await;
            two.claim().await;
            app.hub.wait_for(|posts| posts.len() == 2, PATIENCE).await.unwrap();
            let (first, second) = if is_last { (&mut one, &mut two) } else { (&mut two, &mut one) };
            first.step_until(&app, RECORDED, 1).await;
            second.step_until(&app, RECORDED, 2).await;
            let answered = time(&app.attempts(asked).await[0]["finished_at"]);
            let due = time(&app.delivery(asked).await["next_attempt_at"]);
            let paused = time(&app.destination(app.destination).await["paused_until"]);
            for at in [due, paused] {
                let wait = at.duration_since(answered);
                assert!(wait >= SignedDuration::from_secs(60), "{other:?} {is_last}: {wait:?}");
            }
            // Who comes now finds it so.
            app.owe(app.destination, 3).await;
            Courier::new(&app.config()).await.find_nothing_due().await;
            assert_eq!(app.hub.total(), 2, "{other:?}");
        }
    }
}

/// The worker asks the database how long the pause still is, and the answer is late: what is left is counted from the answer.
#[tokio::test]
async fn a_pause_is_not_shorter_because_the_database_told_of_it_late() {
    const WAITING: &str =
        "SELECT count(*) FROM pg_locks WHERE relation = 'destinations'::regclass AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let app = TestApp::new(&[("deliver.concurrency_per_destination", "1")]).await;
    app.hub.push_answer(Answer::too_many_requests("4"));
    app.owe(app.destination, 2).await;
    let _bell = Courier::new(&app.config()).await.run();
    app.wait_for_count("SELECT count(*) FROM destinations WHERE paused_until IS NOT NULL", 1).await;
    let paused = time(&app.destination(app.destination).await["paused_until"]);
    let other = pool::connect_owner(&app.database.config.database).await.unwrap();
    other.batch_execute("BEGIN; LOCK TABLE destinations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    app.wait_for_count(WAITING, 1).await;
    until("shortly before its end", async || {
        (paused.duration_since(Timestamp::now()) < SignedDuration::from_millis(700)).then_some(())
    })
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    app.wait_for_count(DELIVERED, 2).await;
    let posts = app.hub.received();
    let first = posts[1].at;
    assert!(first >= paused, "{first} is before {paused}");
}

#[tokio::test]
async fn what_was_asked_to_come_in_three_seconds_comes_no_sooner_and_comes() {
    for workers in [1, 2] {
        let app = TestApp::new(&[("deliver.concurrency_per_destination", "2")]).await;
        app.hub.set_default(Answer::too_many_requests("3"));
        let processes: Vec<_> = (0..workers).map(|_| app.spawn("deliver")).collect();
        app.wait_for_count("SELECT count(*) FROM workers", workers).await;
        let owed = app.owe(app.destination, 12).await;
        let refused = app.hub.wait_for(|posts| posts.len() >= 2, PATIENCE).await.unwrap()[0].at;
        until("a second time", async || {
            (Timestamp::now().duration_since(refused) > SignedDuration::from_secs(1)).then_some(())
        })
        .await;
        app.hub.set_default(Answer::ByTheRules);
        app.wait_for_count(DELIVERED, 12).await;
        let posts = app.hub.received();
        let asked = SignedDuration::from_secs(3);
        for id in &owed {
            let at: Vec<_> = posts
                .iter()
                .filter(|post| post.event_id.as_deref() == Some(&id.to_string()))
                .map(|post| post.at)
                .collect();
            assert!(at.windows(2).all(|pair| pair[1].duration_since(pair[0]) >= asked), "{id}: {at:?}");
        }
        if workers == 1 {
            // Not the others of its lane either: two were under way.
            assert!(posts[2..].iter().all(|post| post.at.duration_since(posts[0].at) >= asked), "{posts:?}");
        }
        let took = posts.last().unwrap().at.duration_since(refused);
        assert!(took < SignedDuration::from_secs(20), "{took:?}");
        for process in processes {
            assert_eq!(process.terminate().await, Some(0));
        }
        assert!(app.assert_all_told_and_on_record(&owed).await >= 2, "{}", json!(posts.len()));
    }
}
