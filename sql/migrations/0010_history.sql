-- The history of deliveries is kept by days, and a dead letter does not wait for ever.

CREATE TABLE history (
  only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  -- What was told before is dropped: whoever checks the accounts begins here.
  starts_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO history DEFAULT VALUES;
GRANT SELECT ON history TO watchbell_worker, watchbell_api;

CREATE INDEX ON dead_letters (died_at) WHERE abandoned_at IS NULL;

-- Drops the oldest day of notifications that ended `keep_days` ago or earlier and holds nothing that is owed or could be sent
-- again, with their attempts; returns the day, or NULL if there is none (any more). One a transaction; given up when the
-- locks are not there in half a second: nobody stands longer behind it.
CREATE FUNCTION drop_expired_history(keep_days int) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
  expired date;
  lowest  uuid;
  end_id  uuid;
  parent  text;
BEGIN
  IF keep_days IS NULL OR keep_days < 1 THEN
    RAISE EXCEPTION 'at least one day is kept, not %', keep_days;
  END IF;
  -- Another process is at it.
  IF NOT pg_try_advisory_xact_lock(hashtext('watchbell.drop_expired_history')) THEN
    RETURN NULL;
  END IF;
  SELECT day INTO expired
  FROM (
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'notifications'::regclass
  ) AS kept
  CROSS JOIN LATERAL (
    SELECT first_uuid_at(day::timestamp AT TIME ZONE 'UTC') AS lowest,
           first_uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC') AS end_id
  ) AS ids
  WHERE (day + 1)::timestamp AT TIME ZONE 'UTC' <= now() - make_interval(days => keep_days)
    AND NOT EXISTS (SELECT FROM outbox o WHERE o.notification_id >= ids.lowest AND o.notification_id < ids.end_id)
    AND NOT EXISTS (
      SELECT FROM dead_letters x
      WHERE x.notification_id >= ids.lowest AND x.notification_id < ids.end_id AND x.abandoned_at IS NULL)
  ORDER BY day LIMIT 1;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  lowest := first_uuid_at(expired::timestamp AT TIME ZONE 'UTC');
  end_id := first_uuid_at((expired + 1)::timestamp AT TIME ZONE 'UTC');
  FOREACH parent IN ARRAY ARRAY['notifications', 'notification_alerts', 'delivery_attempts'] LOOP
    EXECUTE format('DROP TABLE IF EXISTS %I', parent || '_' || to_char(expired, 'YYYYMMDD'));
  END LOOP;
  -- Whoever looked at one of them a moment ago may have made something of it be owed.
  IF EXISTS (SELECT FROM outbox o WHERE o.notification_id >= lowest AND o.notification_id < end_id) THEN
    RAISE EXCEPTION 'something of % is owed again', expired USING ERRCODE = 'lock_not_available';
  END IF;
  DELETE FROM dead_letters WHERE notification_id >= lowest AND notification_id < end_id;
  -- An episode is recorded on the database's clock, its notice has its id from a process: an hour is more than they differ.
  UPDATE history SET starts_at = greatest(starts_at, (expired + 1)::timestamp AT TIME ZONE 'UTC' + interval '1 hour');
  RETURN expired;
END
$$;
REVOKE ALL ON FUNCTION drop_expired_history(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_expired_history(int) TO watchbell_worker;
