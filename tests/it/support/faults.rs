//! Faults that a test puts into its own database.

use tokio_postgres::Client;

use super::app::TestApp;
use super::process::Process;

impl TestApp {
    /// Kills a service, once one of its batches is being committed and not acknowledged: the commit, which a trigger makes
    /// slow, succeeds all the same. Returns when it has.
    pub async fn kill_between_commit_and_acknowledgement(&self, service: Process, committed: i64) {
        let committing = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event = 'PgSleep'";
        self.wait_for_count(committing, 1).await;
        service.kill().await;
        self.wait_for_count("SELECT count(*) FROM readings", committed).await;
        self.owner().batch_execute("DROP TRIGGER slow_commit ON flushes").await.unwrap();
    }
}

/// Makes every transaction that commits a batch sleep for two seconds in its COMMIT.
pub async fn slow_commits(owner: &Client) {
    let sql = "CREATE FUNCTION sleep_in_commit() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$;
               CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON flushes DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION sleep_in_commit();";
    owner.batch_execute(sql).await.unwrap();
}

/// Makes the registration of each device take a moment, so that two that register the same meet.
pub async fn slow_registration(owner: &Client) {
    let sql = "CREATE FUNCTION sleep_in_insert() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN PERFORM pg_sleep(0.005); RETURN NEW; END $$;
               CREATE TRIGGER slow_registration BEFORE INSERT ON devices
                 FOR EACH ROW EXECUTE FUNCTION sleep_in_insert();";
    owner.batch_execute(sql).await.unwrap();
}

/// Makes each line of a timeline take a moment, so that two who change one alert meet.
pub async fn slow_timelines(owner: &Client) {
    let sql = "CREATE FUNCTION sleep_in_timeline() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END $$;
               CREATE TRIGGER slow_timeline BEFORE INSERT ON alert_events
                 FOR EACH ROW EXECUTE FUNCTION sleep_in_timeline();";
    owner.batch_execute(sql).await.unwrap();
}
