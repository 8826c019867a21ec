-- The order in which a destination hears what becomes of a rule on a series: it is sent that something is over only after what
-- said that it had begun was accepted, died or was superseded.

-- The latest notification ever owed to a destination about a rule on a series. Written only when one is owed: whether it still
-- is, the outbox says.
CREATE TABLE chains (
  destination_id       uuid NOT NULL,
  rule_id              uuid NOT NULL,
  series_id            int NOT NULL,
  tenant_id            int NOT NULL,
  last_notification_id uuid NOT NULL,
  PRIMARY KEY (destination_id, rule_id, series_id)
) WITH (fillfactor = 80);

-- A notification that waits until another one has left the outbox. Its own row there is due at 'infinity', so that no claim
-- walks over it. No foreign keys: a trigger on each row that leaves the outbox would cost more than the order does.
CREATE TABLE outbox_blocked (
  after_id        uuid NOT NULL,
  notification_id uuid NOT NULL,
  tenant_id       int NOT NULL,
  PRIMARY KEY (after_id, notification_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX ON outbox_blocked (notification_id);

GRANT SELECT, INSERT, UPDATE ON chains TO watchbell_worker;
GRANT SELECT, INSERT, DELETE ON outbox_blocked TO watchbell_worker;
GRANT SELECT ON chains, outbox_blocked TO watchbell_api;
ALTER TABLE chains ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON chains TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON chains TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE outbox_blocked ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON outbox_blocked TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON outbox_blocked TO watchbell_api USING (tenant_id = current_tenant_id());

ALTER TABLE outbox
  -- Nothing was ever written there.
  DROP COLUMN after_id,
  -- It had been tried when it was made to wait, and was to be tried again then: released, it is due no earlier.
  ADD COLUMN not_before timestamptz;

-- What is owed already, in the order in which it came to be. What is under way goes on, and is not waited behind: what comes after
-- it waits for it and for the one before it.
WITH links AS (
  SELECT o.notification_id, o.destination_id, o.tenant_id, o.status, a.rule_id, a.series_id, n.created_at
  FROM outbox o
  JOIN notifications n USING (notification_id)
  JOIN LATERAL (
    SELECT n.alert_id UNION SELECT t.alert_id FROM notification_alerts t WHERE t.notification_id = n.notification_id
  ) AS told ON true
  JOIN alerts a ON a.alert_id = told.alert_id
), numbered AS (
  SELECT *, row_number() OVER (PARTITION BY destination_id, rule_id, series_id ORDER BY created_at, notification_id) AS place
  FROM (SELECT DISTINCT * FROM links) AS links
), ordered AS (
  SELECT *, place = max(place) OVER (PARTITION BY destination_id, rule_id, series_id) AS is_last,
         coalesce(max(place) FILTER (WHERE status <> 'in_flight') OVER (
           PARTITION BY destination_id, rule_id, series_id ORDER BY place
           ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 1) AS waits_from
  FROM numbered
), linked AS (
  INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
  SELECT destination_id, rule_id, series_id, tenant_id, notification_id FROM ordered WHERE is_last
)
INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
SELECT DISTINCT earlier.notification_id, o.notification_id, o.tenant_id
FROM ordered o
JOIN ordered earlier ON earlier.destination_id = o.destination_id AND earlier.rule_id = o.rule_id
                    AND earlier.series_id = o.series_id AND earlier.place >= o.waits_from AND earlier.place < o.place
WHERE o.status <> 'in_flight';
UPDATE outbox SET not_before = next_attempt_at, next_attempt_at = 'infinity'
WHERE notification_id IN (SELECT notification_id FROM outbox_blocked);

-- A time at which nothing happens by itself is none; `waits_for` says what it waits for.
CREATE OR REPLACE VIEW deliveries WITH (security_invoker = true) AS
  SELECT n.notification_id, n.tenant_id, n.alert_id, n.destination_id, d.name AS destination, d.kind AS destination_kind,
         n.event, n.created_at,
         CASE WHEN o.notification_id IS NOT NULL THEN o.status
              WHEN x.abandoned_at IS NOT NULL THEN 'abandoned'
              WHEN x.notification_id IS NOT NULL THEN 'dead'
              ELSE coalesce(ended.outcome, 'missing') END AS status,
         greatest(coalesce(o.attempts, 0), coalesce(last.attempt, 0)) AS attempts,
         CASE WHEN o.status <> 'in_flight' AND isfinite(o.next_attempt_at) THEN o.next_attempt_at END AS next_attempt_at,
         o.leased_by, o.leased_at,
         last.started_at AS last_attempt_at, last.status_code AS last_status_code,
         last.error AS last_error, last.warning AS warning,
         CASE WHEN o.notification_id IS NULL AND ended.outcome = 'delivered' THEN ended.finished_at END AS delivered_at,
         x.reason AS dead_reason, x.died_at,
         ARRAY(SELECT b.after_id FROM outbox_blocked b WHERE b.notification_id = n.notification_id ORDER BY b.after_id)
           AS waits_for
  FROM notifications n
  JOIN destinations d ON d.destination_id = n.destination_id
  LEFT JOIN outbox o ON o.notification_id = n.notification_id
  LEFT JOIN dead_letters x ON x.notification_id = n.notification_id
  LEFT JOIN LATERAL (
    SELECT a.* FROM delivery_attempts a WHERE a.notification_id = n.notification_id
    ORDER BY a.attempt DESC, a.late DESC LIMIT 1) last ON true
  -- An acceptance counts for more than a death after it.
  LEFT JOIN LATERAL (
    SELECT a.outcome, a.finished_at FROM delivery_attempts a
    WHERE a.notification_id = n.notification_id AND a.outcome IN ('delivered', 'superseded', 'cancelled', 'dead')
    ORDER BY a.outcome = 'delivered' DESC, a.attempt DESC, a.late DESC LIMIT 1) ended ON true;

-- These have left the outbox: what waited for them, and for nothing else any more, is due. Called in the transaction in which
-- they leave, after the statement that took them out: each statement in here looks anew, so it sees what somebody made wait
-- while that one waited for a lock. What waits is locked before it is looked at: of two that each end one of the things that it
-- waits for, the second sees what the first did. Returns how many are due now, or when their own time has come.
--
-- The horizon of what waited begins here: nobody was trying before. It has been owed for longer, and `enqueued_at` keeps saying
-- so; that time counts as if its destination had been held.
CREATE FUNCTION release_waiting(gone uuid[]) RETURNS bigint
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
DECLARE
  waiting  uuid[];
  due      bigint;
  released bigint := 0;
BEGIN
  -- What waited itself, to be sent again, and was accepted after all, as a late answer said. What waited for it waits for what it
  -- waited for.
  IF EXISTS (SELECT FROM outbox_blocked WHERE notification_id = ANY (gone)) THEN
    WITH RECURSIVE before (gone_id, after_id) AS (
      SELECT b.notification_id, b.after_id FROM outbox_blocked b WHERE b.notification_id = ANY (gone)
      UNION
      SELECT before.gone_id, b.after_id
      FROM before JOIN outbox_blocked b ON b.notification_id = before.after_id
      WHERE before.after_id = ANY (gone)
    )
    INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
    SELECT before.after_id, b.notification_id, b.tenant_id
    FROM before JOIN outbox_blocked b ON b.after_id = before.gone_id
    WHERE before.after_id <> ALL (gone) AND b.notification_id <> ALL (gone)
    ON CONFLICT DO NOTHING;
    DELETE FROM outbox_blocked WHERE notification_id = ANY (gone);
  END IF;
  WHILE EXISTS (SELECT FROM outbox_blocked WHERE after_id = ANY (gone)) LOOP
    waiting := ARRAY(
      SELECT o.notification_id FROM outbox o
      WHERE o.notification_id IN (SELECT b.notification_id FROM outbox_blocked b WHERE b.after_id = ANY (gone))
      ORDER BY o.notification_id
      FOR NO KEY UPDATE OF o);
    DELETE FROM outbox_blocked b
    WHERE b.after_id = ANY (gone)
      AND (b.notification_id = ANY (waiting)
           OR NOT EXISTS (SELECT FROM outbox o WHERE o.notification_id = b.notification_id));
    UPDATE outbox o
    SET next_attempt_at = greatest(now(), o.not_before), not_before = NULL,
        held_before = held_seconds_until_now(d) - extract(epoch FROM now() - o.enqueued_at)
    FROM destinations d
    WHERE o.notification_id = ANY (waiting) AND d.destination_id = o.destination_id
      AND NOT EXISTS (SELECT FROM outbox_blocked b WHERE b.notification_id = o.notification_id);
    GET DIAGNOSTICS due = ROW_COUNT;
    released := released + due;
  END LOOP;
  RETURN released;
END
$$;
REVOKE ALL ON FUNCTION release_waiting(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION release_waiting(uuid[]) TO watchbell_worker;

-- The ends of these chains that were never sent and say that an alert is open which is over now; and those of the same alert
-- that they wait for. One that tells of many alerts is left alone. Arrays of equal length; an alert or NULL for each chain.
CREATE FUNCTION unsent_openings(destinations uuid[], rules uuid[], series int[], over uuid[])
RETURNS TABLE (notification_id uuid, destination_id uuid, alert_id uuid)
LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
  WITH RECURSIVE unsent (notification_id, destination_id, alert_id) AS (
    SELECT n.notification_id, n.destination_id, n.alert_id
    FROM unnest(destinations, rules, series, over) AS w (destination_id, rule_id, series_id, alert_id)
    JOIN chains c ON c.destination_id = w.destination_id AND c.rule_id = w.rule_id AND c.series_id = w.series_id
    JOIN outbox o ON o.notification_id = c.last_notification_id
    JOIN notifications n ON n.notification_id = o.notification_id
    WHERE n.alert_id = w.alert_id AND n.event <> 'resolved' AND o.status = 'pending' AND o.attempts = 0
      AND NOT EXISTS (SELECT FROM notification_alerts t WHERE t.notification_id = n.notification_id)
    UNION
    SELECT n.notification_id, n.destination_id, n.alert_id
    FROM unsent
    JOIN outbox_blocked b ON b.notification_id = unsent.notification_id
    JOIN outbox o ON o.notification_id = b.after_id
    JOIN notifications n ON n.notification_id = o.notification_id
    WHERE n.alert_id = unsent.alert_id AND n.event <> 'resolved' AND o.status = 'pending' AND o.attempts = 0
      AND NOT EXISTS (SELECT FROM notification_alerts t WHERE t.notification_id = n.notification_id)
  )
  SELECT * FROM unsent
$$;

-- What is owed already in these chains, locked until the end of the transaction: a row for the end of each chain that is owed,
-- without an alert; and one for each unsent opening of an alert that is over, with what it waits for itself. All lock in one
-- order: chains, then what is owed, then what is unsent. What a worker has in its hands is waited for, and is gone, or sent, then.
-- A lock that a worker's release of a waiting row does not wait for is enough, but for what is to be taken out.
CREATE FUNCTION lock_chains(destinations uuid[], rules uuid[], series int[], over uuid[])
RETURNS TABLE (notification_id uuid, destination_id uuid, rule_id uuid, series_id int, alert_id uuid, waits_for uuid[])
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  openings uuid[];
BEGIN
  PERFORM FROM chains c
  WHERE (c.destination_id, c.rule_id, c.series_id) IN (SELECT * FROM unnest(destinations, rules, series))
  ORDER BY c.destination_id, c.rule_id, c.series_id
  FOR NO KEY UPDATE;
  PERFORM FROM outbox o
  WHERE o.notification_id IN (
    SELECT c.last_notification_id FROM chains c
    WHERE (c.destination_id, c.rule_id, c.series_id) IN (SELECT * FROM unnest(destinations, rules, series))
    UNION ALL
    SELECT u.notification_id FROM unsent_openings(destinations, rules, series, over) u)
  ORDER BY o.notification_id
  FOR KEY SHARE;
  IF EXISTS (SELECT FROM unnest(over) AS o (alert_id) WHERE o.alert_id IS NOT NULL) THEN
    openings := ARRAY(
      SELECT o.notification_id FROM outbox o
      WHERE o.notification_id IN (SELECT u.notification_id FROM unsent_openings(destinations, rules, series, over) u)
        AND o.status = 'pending' AND o.attempts = 0
      ORDER BY o.notification_id
      FOR UPDATE);
  END IF;
  RETURN QUERY
    SELECT c.last_notification_id, c.destination_id, c.rule_id, c.series_id, NULL::uuid, '{}'::uuid[]
    FROM chains c JOIN outbox o ON o.notification_id = c.last_notification_id
    WHERE (c.destination_id, c.rule_id, c.series_id) IN (SELECT * FROM unnest(destinations, rules, series))
    UNION ALL
    SELECT n.notification_id, n.destination_id, NULL, NULL, n.alert_id,
           ARRAY(SELECT b.after_id FROM outbox_blocked b WHERE b.notification_id = n.notification_id)
    FROM notifications n WHERE n.notification_id = ANY (openings);
END
$$;
REVOKE ALL ON FUNCTION unsent_openings(uuid[], uuid[], int[], uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION lock_chains(uuid[], uuid[], int[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unsent_openings(uuid[], uuid[], int[], uuid[]), lock_chains(uuid[], uuid[], int[], uuid[])
  TO watchbell_worker;

-- An alert of the tenant of the transaction is over: what said to these destinations that it is open, and was never sent. It is
-- locked: the transaction decides what becomes of it.
CREATE FUNCTION lock_unsent_openings(wanted uuid, destinations uuid[]) RETURNS TABLE (notification_id uuid, destination_id uuid)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
  SELECT locked.notification_id, locked.destination_id
  FROM (
    SELECT array_agg(d.destination_id) AS destinations, array_agg(a.rule_id) AS rules, array_agg(a.series_id) AS series,
           array_agg(a.alert_id) AS over
    FROM alerts a JOIN destinations d ON d.tenant_id = a.tenant_id
    WHERE a.alert_id = wanted AND a.tenant_id = current_tenant_id() AND d.destination_id = ANY (destinations)
  ) AS w, lock_chains(w.destinations, w.rules, w.series, w.over) AS locked
  WHERE locked.alert_id IS NOT NULL
$$;
REVOKE ALL ON FUNCTION lock_unsent_openings(uuid, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_unsent_openings(uuid, uuid[]) TO watchbell_api;

-- Owes notifications about alerts of the tenant of the transaction to destinations of the same tenant: what is told of a
-- change by hand. The API role may add to the outbox in no other way. Arrays of equal length: one that another of them supersedes
-- names it and is never sent. `replaced` are unsent openings, which leave the outbox for what is named at the same place in
-- `replaced_by`.
DROP FUNCTION owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[]);
CREATE FUNCTION owe_notifications(ids uuid[], about uuid[], destinations uuid[], events text[], episodes int[],
                                  classes smallint[], bodies text[], superseded_by uuid[],
                                  replaced uuid[], replaced_by uuid[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  written bigint;
  wanted  record;
BEGIN
  INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, episode, body)
  SELECT n.id, a.tenant_id, a.alert_id, d.destination_id, n.event, n.episode, n.body
  FROM unnest(ids, about, destinations, events, episodes, bodies) AS n (id, alert, destination, event, episode, body)
  JOIN alerts a ON a.alert_id = n.alert AND a.tenant_id = current_tenant_id()
  JOIN destinations d ON d.destination_id = n.destination AND d.tenant_id = a.tenant_id;
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> cardinality(ids) THEN
    RAISE EXCEPTION 'notifications about alerts or for destinations of another tenant';
  END IF;

  SELECT array_agg(n.destination) AS destinations, array_agg(a.rule_id) AS rules, array_agg(a.series_id) AS series,
         array_agg(a.alert_id) AS over
  INTO wanted
  FROM unnest(about, destinations) AS n (alert, destination) JOIN alerts a ON a.alert_id = n.alert;
  PERFORM FROM lock_chains(wanted.destinations, wanted.rules, wanted.series, wanted.over) AS locked
  WHERE locked.alert_id IS NOT NULL AND locked.notification_id = ANY (replaced);
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> cardinality(replaced) THEN
    RAISE EXCEPTION 'superseded what was sent, or what does not say that the alert is open';
  END IF;

  -- What waits: for the end of its chain, if that is still owed; and for what those waited for that it stands for.
  INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
  SELECT o.notification_id, n.id, o.tenant_id
  FROM unnest(ids, about, destinations, superseded_by) AS n (id, alert, destination, by)
  JOIN alerts a ON a.alert_id = n.alert
  JOIN chains c ON c.destination_id = n.destination AND c.rule_id = a.rule_id AND c.series_id = a.series_id
  JOIN outbox o ON o.notification_id = c.last_notification_id
  WHERE n.by IS NULL AND o.notification_id <> ALL (replaced)
  UNION
  SELECT b.after_id, r.by, b.tenant_id
  FROM unnest(replaced, replaced_by) AS r (id, by) JOIN outbox_blocked b ON b.notification_id = r.id
  WHERE b.after_id <> ALL (replaced);
  INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class, held_before, next_attempt_at)
  SELECT n.id, d.tenant_id, d.destination_id, n.class, held_seconds_until_now(d),
         CASE WHEN EXISTS (SELECT FROM outbox_blocked b WHERE b.notification_id = n.id) THEN 'infinity' ELSE now() END
  FROM unnest(ids, destinations, classes, superseded_by) AS n (id, destination, class, by)
  JOIN destinations d ON d.destination_id = n.destination
  WHERE n.by IS NULL;
  INSERT INTO chains (destination_id, rule_id, series_id, tenant_id, last_notification_id)
  SELECT DISTINCT ON (n.destination, a.rule_id, a.series_id) n.destination, a.rule_id, a.series_id, a.tenant_id, n.id
  FROM unnest(ids, about, destinations, superseded_by) AS n (id, alert, destination, by)
  JOIN alerts a ON a.alert_id = n.alert
  WHERE n.by IS NULL
  ORDER BY n.destination, a.rule_id, a.series_id, n.id DESC
  ON CONFLICT (destination_id, rule_id, series_id) DO UPDATE SET last_notification_id = excluded.last_notification_id;

  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, finished_at, error)
  SELECT n.notification_id, 1, n.tenant_id, n.destination_id, 'superseded', now(), 'told by ' || ended.by
  FROM (SELECT * FROM unnest(replaced, replaced_by) UNION ALL SELECT * FROM unnest(ids, superseded_by)) AS ended (id, by)
  JOIN notifications n ON n.notification_id = ended.id
  WHERE ended.by IS NOT NULL;
  DELETE FROM outbox WHERE notification_id = ANY (replaced);
  PERFORM release_waiting(replaced);
END
$$;
REVOKE ALL ON FUNCTION owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[], uuid[], uuid[], uuid[])
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[], uuid[], uuid[], uuid[])
  TO watchbell_api;

-- What was told to the same destination of the same alerts, later or earlier than this: by episodes, and within one, that it is
-- over comes last. What this says, one knows from the words alone, and no clock is asked.
CREATE FUNCTION told_beside(wanted uuid) RETURNS TABLE (notification_id uuid, is_later boolean)
LANGUAGE sql STABLE SET search_path = public, pg_temp
AS $$
  WITH own AS (
    SELECT n.destination_id, told.alert_id, told.episode, n.event = 'resolved' AS is_end
    FROM notifications n, LATERAL (
      SELECT n.alert_id, n.episode
      UNION
      SELECT t.alert_id, t.episode FROM notification_alerts t WHERE t.notification_id = n.notification_id) AS told
    WHERE n.notification_id = wanted
  ), others AS (
    SELECT n.notification_id, (n.episode, n.event = 'resolved') AS place, (own.episode, own.is_end) AS here
    FROM own JOIN notifications n ON n.alert_id = own.alert_id AND n.destination_id = own.destination_id
    UNION ALL
    SELECT n.notification_id, (t.episode, n.event = 'resolved'), (own.episode, own.is_end)
    FROM own
    JOIN notification_alerts t ON t.alert_id = own.alert_id
    JOIN notifications n ON n.notification_id = t.notification_id AND n.destination_id = own.destination_id
  )
  SELECT notification_id, bool_or(place > here) FROM others WHERE place <> here GROUP BY notification_id
$$;
REVOKE ALL ON FUNCTION told_beside(uuid) FROM PUBLIC;

-- Owes a dead notification again, for the tenant of the transaction: same id, same body, attempts numbered on. The API role
-- may do this and no other thing to the outbox. What was abandoned stays so. What comes after it and is owed waits for it again,
-- and is due no earlier for that than it was; it waits for what comes before it. Returns 'redriven'; 'overtaken', if what comes
-- after it was accepted or is under way, and it is not forced; or the status that is in the way; NULL: no such notification. Of
-- two at once, one finds the dead letter and the other finds it owed. That somebody had to force it is on the record.
DROP FUNCTION redrive_notification(uuid, uuid, text, text);
CREATE FUNCTION redrive_notification(wanted uuid, action uuid, who text, why text, force boolean) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  letter    dead_letters;
  overtaken boolean;
BEGIN
  SELECT * INTO letter FROM dead_letters
  WHERE notification_id = wanted AND tenant_id = current_tenant_id() AND abandoned_at IS NULL
  FOR UPDATE;
  IF NOT FOUND THEN
    RETURN (SELECT status FROM deliveries WHERE notification_id = wanted AND tenant_id = current_tenant_id());
  END IF;
  PERFORM FROM outbox o
  WHERE o.notification_id IN (SELECT notification_id FROM told_beside(wanted))
  ORDER BY o.notification_id
  FOR NO KEY UPDATE;
  overtaken := EXISTS (
    SELECT FROM told_beside(wanted) t JOIN deliveries d USING (notification_id)
    WHERE t.is_later AND d.status IN ('delivered', 'in_flight'));
  IF overtaken AND force IS NOT TRUE THEN
    RETURN 'overtaken';
  END IF;
  DELETE FROM dead_letters WHERE notification_id = wanted;
  INSERT INTO outbox_blocked (after_id, notification_id, tenant_id)
  SELECT CASE WHEN t.is_later THEN wanted ELSE o.notification_id END,
         CASE WHEN t.is_later THEN o.notification_id ELSE wanted END, o.tenant_id
  FROM told_beside(wanted) t JOIN outbox o USING (notification_id)
  WHERE NOT t.is_later OR o.status <> 'in_flight';
  UPDATE outbox
  SET not_before = CASE WHEN isfinite(next_attempt_at) THEN next_attempt_at ELSE not_before END, next_attempt_at = 'infinity'
  WHERE notification_id IN (SELECT notification_id FROM outbox_blocked WHERE after_id = wanted);
  INSERT INTO outbox (notification_id, tenant_id, destination_id, held_before, attempts, lane_class, next_attempt_at)
  SELECT n.notification_id, n.tenant_id, n.destination_id,
         (SELECT held_seconds_until_now(d) FROM destinations d WHERE d.destination_id = n.destination_id),
         coalesce((SELECT max(attempt) FROM delivery_attempts d WHERE d.notification_id = n.notification_id), 0),
         2 * coalesce(array_position(ARRAY['critical', 'error', 'warning', 'info'], a.severity) - 1, 0) + 1,
         CASE WHEN EXISTS (SELECT FROM outbox_blocked b WHERE b.notification_id = wanted) THEN 'infinity' ELSE now() END
  FROM notifications n LEFT JOIN alerts a USING (alert_id)
  WHERE n.notification_id = wanted;
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
  VALUES (action, letter.tenant_id, who,
          CASE WHEN overtaken THEN 'notification.redriven_by_force' ELSE 'notification.redriven' END, wanted::text, why);
  RETURN 'redriven';
END
$$;
REVOKE ALL ON FUNCTION redrive_notification(uuid, uuid, text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION redrive_notification(uuid, uuid, text, text, boolean) TO watchbell_api;
