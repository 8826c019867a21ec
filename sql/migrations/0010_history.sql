-- The history of deliveries is kept by days, and a dead letter does not wait for ever.

CREATE TABLE history (
  only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  -- What was told before is dropped: whoever checks the accounts begins here.
  starts_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO history DEFAULT VALUES;
GRANT SELECT ON history TO watchbell_worker;

CREATE INDEX ON dead_letters (died_at) WHERE abandoned_at IS NULL;

-- Drops the oldest day of notifications that ended `keep_days` ago or earlier and holds nothing that is owed or could be sent
-- again, with their attempts; returns the day, or NULL if there is none (any more). One a transaction. Dropping locks its tables
-- against everybody; it is given up when the locks are not there within half a second in all: nobody stands longer behind it.
--
-- Ago is counted from the newest notification, if that is older than now: a database's clock that jumped ahead drops nothing.
CREATE FUNCTION drop_expired_history(keep_days int) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
  tables   text[] := ARRAY['notifications', 'notification_alerts', 'delivery_attempts'];
  expired  date;
  newest   timestamptz;
  lowest   uuid;
  end_id   uuid;
  suffix   text;
  target   text;
  deadline timestamptz;
BEGIN
  IF keep_days IS NULL OR keep_days < 1 THEN
    RAISE EXCEPTION 'at least one day is kept, not %', keep_days;
  END IF;
  -- Another process is at it.
  IF NOT pg_try_advisory_xact_lock(hashtext('watchbell.drop_expired_history')) THEN
    RETURN NULL;
  END IF;
  SELECT to_timestamp(('x' || left(replace(notification_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) INTO newest
  FROM notifications ORDER BY notification_id DESC LIMIT 1;
  SELECT day INTO expired
  FROM (
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'notifications'::regclass AND c.relname ~ '^notifications_[0-9]{8}$'
  ) AS kept
  CROSS JOIN LATERAL (
    SELECT first_uuid_at(day::timestamp AT TIME ZONE 'UTC') AS lowest,
           first_uuid_at((day + 1)::timestamp AT TIME ZONE 'UTC') AS end_id
  ) AS ids
  WHERE (day + 1)::timestamp AT TIME ZONE 'UTC' <= least(now(), newest) - make_interval(days => keep_days)
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
  suffix := to_char(expired, '_YYYYMMDD');
  -- In the order in which everybody locks them: parents, then their parts.
  deadline := clock_timestamp() + interval '500 milliseconds';
  FOREACH target IN ARRAY tables || ARRAY(SELECT t || suffix FROM unnest(tables) AS t WHERE to_regclass(t || suffix) IS NOT NULL)
  LOOP
    PERFORM set_config('lock_timeout',
                       greatest(extract(milliseconds FROM deadline - clock_timestamp())::int, 1)::text, true);
    EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', target);
  END LOOP;
  -- Whoever wrote there a moment ago, with a clock that is wrong, may have made something of it be owed.
  IF EXISTS (SELECT FROM outbox o WHERE o.notification_id >= lowest AND o.notification_id < end_id)
     OR EXISTS (SELECT FROM dead_letters x
                WHERE x.notification_id >= lowest AND x.notification_id < end_id AND x.abandoned_at IS NULL) THEN
    RAISE EXCEPTION 'something of % is owed again', expired USING ERRCODE = 'lock_not_available';
  END IF;
  FOREACH target IN ARRAY tables LOOP
    EXECUTE format('DROP TABLE IF EXISTS %I', target || suffix);
  END LOOP;
  DELETE FROM dead_letters WHERE notification_id >= lowest AND notification_id < end_id;
  -- An episode is recorded on the database's clock, its notice has its id from a process: an hour is more than they differ.
  UPDATE history SET starts_at = greatest(starts_at, (expired + 1)::timestamp AT TIME ZONE 'UTC' + interval '1 hour');
  RETURN expired;
END
$$;
REVOKE ALL ON FUNCTION drop_expired_history(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_expired_history(int) TO watchbell_worker;

-- Forgets at most so many chains whose last notification went with its day; returns how many.
--
-- Nothing is lost by it: what is gone is not owed and can't be owed again, so nothing has to wait for it, and a chain that is not
-- there says the same as one whose end is not owed. Whoever owes something locks its chains first (`lock_chains`): one that has
-- such a lock is passed by here, one that comes while we have it waits, finds no chain and writes a new one (`upsert_chains`).
-- One that ended between our look and our lock has written another end: that is why there are two looks.
CREATE FUNCTION prune_chains(most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  begins timestamptz := (SELECT starts_at FROM history);
  locked record;
  pruned bigint;
BEGIN
  IF NOT isfinite(begins) THEN
    RETURN 0;
  END IF;
  WITH ended AS MATERIALIZED (
    SELECT c.destination_id, c.rule_id, c.series_id FROM chains c
    WHERE c.last_notification_id < first_uuid_at(begins)
      -- Not NOT EXISTS, which might be a join with all that was ever told.
      AND (SELECT true FROM notifications n WHERE n.notification_id = c.last_notification_id) IS NULL
    LIMIT most
    FOR UPDATE OF c SKIP LOCKED
  )
  SELECT array_agg(destination_id) AS destinations, array_agg(rule_id) AS rules, array_agg(series_id) AS series
  INTO locked FROM ended;
  DELETE FROM chains c
  USING unnest(locked.destinations, locked.rules, locked.series) AS e (destination_id, rule_id, series_id)
  WHERE c.destination_id = e.destination_id AND c.rule_id = e.rule_id AND c.series_id = e.series_id
    AND (SELECT true FROM notifications n WHERE n.notification_id = c.last_notification_id) IS NULL;
  GET DIAGNOSTICS pruned = ROW_COUNT;
  RETURN pruned;
END
$$;
REVOKE ALL ON FUNCTION prune_chains(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION prune_chains(int) TO watchbell_worker;
