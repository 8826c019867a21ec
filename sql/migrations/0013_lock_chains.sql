-- As in 0008, but for two things. What is looked up is looked up by its key, however little there was when the functions were first
-- planned: LATERAL with OFFSET 0 leaves the planner nothing else. And plans are kept, which cost more than all that is done with
-- them: a function in SQL is planned anew at each call, and this one joins partitions. When nothing is over, it is not called at all.

CREATE OR REPLACE FUNCTION unsent_openings(destinations uuid[], rules uuid[], series int[], over uuid[])
RETURNS TABLE (notification_id uuid, destination_id uuid, alert_id uuid)
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH RECURSIVE unsent (notification_id, destination_id, alert_id) AS (
    SELECT n.notification_id, n.destination_id, n.alert_id
    FROM unnest(destinations, rules, series, over) AS w (destination_id, rule_id, series_id, alert_id)
    CROSS JOIN LATERAL (
      SELECT last_notification_id FROM chains c
      WHERE c.destination_id = w.destination_id AND c.rule_id = w.rule_id AND c.series_id = w.series_id OFFSET 0) AS c
    CROSS JOIN LATERAL (
      SELECT FROM outbox o
      WHERE o.notification_id = c.last_notification_id AND o.status = 'pending' AND o.attempts = 0 OFFSET 0) AS o
    CROSS JOIN LATERAL (SELECT * FROM notifications n WHERE n.notification_id = c.last_notification_id OFFSET 0) AS n
    WHERE w.alert_id IS NOT NULL AND n.alert_id = w.alert_id AND n.event <> 'resolved'
      AND (SELECT count(*) FROM notification_alerts t WHERE t.notification_id = n.notification_id) = 0
    UNION
    SELECT n.notification_id, n.destination_id, n.alert_id
    FROM unsent
    CROSS JOIN LATERAL (
      SELECT after_id FROM outbox_blocked b WHERE b.notification_id = unsent.notification_id OFFSET 0) AS b
    CROSS JOIN LATERAL (
      SELECT FROM outbox o WHERE o.notification_id = b.after_id AND o.status = 'pending' AND o.attempts = 0 OFFSET 0) AS o
    CROSS JOIN LATERAL (SELECT * FROM notifications n WHERE n.notification_id = b.after_id OFFSET 0) AS n
    WHERE n.alert_id = unsent.alert_id AND n.event <> 'resolved'
      AND (SELECT count(*) FROM notification_alerts t WHERE t.notification_id = n.notification_id) = 0
  )
  SELECT * FROM unsent;
END
$$;

CREATE OR REPLACE FUNCTION lock_chains(destinations uuid[], rules uuid[], series int[], over uuid[])
RETURNS TABLE (notification_id uuid, destination_id uuid, rule_id uuid, series_id int, alert_id uuid, waits_for uuid[])
LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  openings uuid[];
BEGIN
  PERFORM FROM (SELECT DISTINCT * FROM unnest(destinations, rules, series) ORDER BY 1, 2, 3)
    AS w (destination_id, rule_id, series_id)
  CROSS JOIN LATERAL (
    SELECT FROM chains c
    WHERE c.destination_id = w.destination_id AND c.rule_id = w.rule_id AND c.series_id = w.series_id
    FOR NO KEY UPDATE) AS c;
  IF EXISTS (SELECT FROM unnest(over) AS o (alert_id) WHERE o.alert_id IS NOT NULL) THEN
    openings := ARRAY(SELECT u.notification_id FROM unsent_openings(destinations, rules, series, over) u);
  END IF;
  PERFORM FROM (
    SELECT c.last_notification_id
    FROM unnest(destinations, rules, series) AS w (destination_id, rule_id, series_id)
    CROSS JOIN LATERAL (
      SELECT last_notification_id FROM chains c
      WHERE c.destination_id = w.destination_id AND c.rule_id = w.rule_id AND c.series_id = w.series_id OFFSET 0) AS c
    UNION
    SELECT * FROM unnest(openings)
    ORDER BY 1) AS owed (notification_id)
  CROSS JOIN LATERAL (SELECT FROM outbox o WHERE o.notification_id = owed.notification_id FOR KEY SHARE) AS o;
  RETURN QUERY
  SELECT c.last_notification_id, w.destination_id, w.rule_id, w.series_id, NULL::uuid, '{}'::uuid[]
  FROM (SELECT DISTINCT * FROM unnest(destinations, rules, series)) AS w (destination_id, rule_id, series_id)
  CROSS JOIN LATERAL (
    SELECT last_notification_id FROM chains c
    WHERE c.destination_id = w.destination_id AND c.rule_id = w.rule_id AND c.series_id = w.series_id OFFSET 0) AS c
  CROSS JOIN LATERAL (SELECT FROM outbox o WHERE o.notification_id = c.last_notification_id OFFSET 0) AS o;
  IF cardinality(openings) > 0 THEN
    -- As they are now: what a worker had in its hands is gone, or sent.
    openings := ARRAY(
      SELECT o.notification_id
      FROM (SELECT DISTINCT u.notification_id FROM unsent_openings(destinations, rules, series, over) u ORDER BY 1) AS unsent
      CROSS JOIN LATERAL (
        SELECT o.notification_id FROM outbox o
        WHERE o.notification_id = unsent.notification_id AND o.status = 'pending' AND o.attempts = 0
        FOR UPDATE) AS o);
    RETURN QUERY
    SELECT n.notification_id, n.destination_id, NULL::uuid, NULL::int, n.alert_id,
           ARRAY(SELECT b.after_id FROM outbox_blocked b WHERE b.notification_id = n.notification_id)
    FROM unnest(openings) AS opening (notification_id)
    CROSS JOIN LATERAL (SELECT * FROM notifications n WHERE n.notification_id = opening.notification_id OFFSET 0) AS n;
  END IF;
END
$$;
