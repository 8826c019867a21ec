-- As in 0008, but what waits is looked up by its key however little was owed when the function was first planned: BETWEEN and counts
-- leave no plan that walks over the outbox, or over the lane of a destination.
CREATE OR REPLACE FUNCTION release_waiting(gone uuid[]) RETURNS bigint
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
      SELECT o.notification_id
      FROM (SELECT DISTINCT b.notification_id FROM outbox_blocked b WHERE b.after_id = ANY (gone)) AS b
      JOIN outbox o ON o.notification_id BETWEEN b.notification_id AND b.notification_id
      ORDER BY b.notification_id
      FOR NO KEY UPDATE OF o);
    DELETE FROM outbox_blocked b
    WHERE b.after_id = ANY (gone)
      AND (b.notification_id = ANY (waiting)
           OR (SELECT count(*) FROM outbox o WHERE o.notification_id = b.notification_id) = 0);
    UPDATE outbox o
    SET next_attempt_at = greatest(now(), o.not_before), not_before = NULL,
        held_before = (SELECT held_seconds_until_now(d) FROM destinations d WHERE d.destination_id = o.destination_id)
                      - extract(epoch FROM now() - o.enqueued_at)
    FROM unnest(waiting) AS w (notification_id)
    WHERE o.notification_id BETWEEN w.notification_id AND w.notification_id
      AND (SELECT count(*) FROM outbox_blocked b WHERE b.notification_id = o.notification_id) = 0;
    GET DIAGNOSTICS due = ROW_COUNT;
    released := released + due;
  END LOOP;
  RETURN released;
END
$$;
