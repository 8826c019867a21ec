-- What people change of a destination counts at once.

-- Another address or another secret is another chance, also for what waits for its next attempt.
CREATE OR REPLACE FUNCTION give_another_chance() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
  NEW.breaker_opened := 0;
  NEW.breaker_open_until := NULL;
  NEW.breaker_reason := NULL;
  NEW.paused_until := NULL;
  IF NEW.state = 'held' THEN
    NEW.held_until := now();
  END IF;
  UPDATE outbox o SET next_attempt_at = now()
  FROM (SELECT notification_id FROM outbox
        WHERE destination_id = NEW.destination_id AND lane_class BETWEEN 0 AND 7 AND next_attempt_at > now() AND status = 'retrying'
        ORDER BY notification_id
        FOR UPDATE SKIP LOCKED) AS waiting
  WHERE o.notification_id = waiting.notification_id;
  RETURN NEW;
END
$$;
REVOKE EXECUTE ON FUNCTION give_another_chance() FROM PUBLIC;

-- Another pace begins anew: with the time that the one before had asked for, a higher one would stand still.
CREATE FUNCTION begin_pace_anew() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.pace_next_at := NULL;
  RETURN NEW;
END
$$;
CREATE TRIGGER begin_pace_anew BEFORE UPDATE OF policy ON destinations FOR EACH ROW
  WHEN ((OLD.policy -> 'rate', OLD.policy -> 'burst') IS DISTINCT FROM (NEW.policy -> 'rate', NEW.policy -> 'burst'))
  EXECUTE FUNCTION begin_pace_anew();
