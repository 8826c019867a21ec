-- What all processes must know of a destination to be polite to it: that it is not well, that it asked for a pause, and
-- when it may be asked next.

ALTER TABLE destinations
  -- How often its breaker opened without a success since; 0: it is closed.
  ADD COLUMN breaker_opened     int NOT NULL DEFAULT 0,
  -- While the breaker is open: no request before. Whoever probes moves it on for the time of an attempt, so that nobody
  -- else does; who dies while probing has moved it no further than that.
  ADD COLUMN breaker_open_until timestamptz,
  -- The failure that opened it.
  ADD COLUMN breaker_reason     text,
  -- It answered with Retry-After: no request before.
  ADD COLUMN paused_until       timestamptz,
  -- For a destination with a rate: when its next request would be due if none came early. Early are `burst` at most.
  ADD COLUMN pace_next_at       timestamptz;

COMMENT ON COLUMN destinations.policy IS
  'Overrides: first_delay_ms, factor, max_delay_ms, jitter, horizon_seconds, breaker_failures, rate, burst, concurrency';

-- It ran at every update of a row, and only the state is of interest.
DROP TRIGGER count_held_time ON destinations;
CREATE TRIGGER count_held_time BEFORE UPDATE OF state ON destinations FOR EACH ROW EXECUTE FUNCTION count_held_time();

-- Another address or another secret is another chance, at once.
CREATE FUNCTION give_another_chance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.breaker_opened := 0;
  NEW.breaker_open_until := NULL;
  NEW.breaker_reason := NULL;
  NEW.paused_until := NULL;
  IF NEW.state = 'held' THEN
    NEW.held_until := now();
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER give_another_chance BEFORE UPDATE OF kind, settings, secret ON destinations FOR EACH ROW
  WHEN ((OLD.kind, OLD.settings, OLD.secret) IS DISTINCT FROM (NEW.kind, NEW.settings, NEW.secret))
  EXECUTE FUNCTION give_another_chance();

GRANT UPDATE (breaker_opened, breaker_open_until, breaker_reason, paused_until, pace_next_at)
  ON destinations TO watchbell_worker;
GRANT SELECT (breaker_opened, breaker_open_until, breaker_reason, paused_until) ON destinations TO watchbell_api;
