-- Whom to tell, what is owed, and what happened.

CREATE TABLE destinations (
  destination_id uuid PRIMARY KEY,
  tenant_id      int NOT NULL REFERENCES tenants,
  name           text NOT NULL,
  kind           text NOT NULL,
  -- What the kind needs and everybody may see: {"url": "https://.."}.
  settings       jsonb NOT NULL,
  -- Sealed with the key of the configuration; bound to destination_id.
  secret         bytea,
  -- Overrides of the retry policy: first_delay_ms, factor, max_delay_ms, jitter, horizon_seconds.
  policy         jsonb NOT NULL DEFAULT '{}',
  state          text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'held', 'parked')),
  state_reason   text,
  held_until     timestamptz,
  -- Since when it has not been active; and for how long it had not been before that, all times together. Horizons stand
  -- still meanwhile.
  held_since     timestamptz,
  held_seconds   float8 NOT NULL DEFAULT 0,
  archived_at    timestamptz,
  created_at     timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, name)
);
-- Not its state: that changes with the receiver's answers, and whoever needs it looks at it.
CREATE TRIGGER raise_config_version
  AFTER INSERT OR DELETE OR UPDATE OF name, kind, settings, secret, policy, archived_at ON destinations
  FOR EACH STATEMENT EXECUTE FUNCTION raise_config_version();

-- For how long a destination was held or parked in all, until now.
CREATE FUNCTION held_seconds_until_now(d destinations) RETURNS double precision
LANGUAGE sql STABLE
AS $$ SELECT d.held_seconds + coalesce(extract(epoch FROM now() - d.held_since), 0)::float8 $$;
-- Whoever changes the state, a person too.
CREATE FUNCTION count_held_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state <> 'active' AND OLD.state = 'active' THEN
    NEW.held_since := now();
  ELSIF NEW.state = 'active' AND OLD.state <> 'active' THEN
    NEW.held_seconds := OLD.held_seconds + coalesce(extract(epoch FROM now() - OLD.held_since), 0);
    NEW.held_since := NULL;
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER count_held_time BEFORE UPDATE ON destinations FOR EACH ROW EXECUTE FUNCTION count_held_time();

-- What to send, never changed. Partitioned by the time in its UUIDv7, as its attempts are, so that both go together.
CREATE TABLE notifications (
  notification_id uuid NOT NULL,
  tenant_id       int NOT NULL,
  alert_id        uuid NOT NULL,
  destination_id  uuid NOT NULL,
  event           text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
  -- The exact body of every attempt; text, not jsonb, so that retries and signatures hold byte for byte.
  body            text NOT NULL,
  PRIMARY KEY (notification_id)
) PARTITION BY RANGE (notification_id);
CREATE INDEX ON notifications (tenant_id, notification_id);
CREATE INDEX ON notifications (alert_id);

-- What is owed: live rows only. `next_attempt_at` is the due time, and the end of the lease while a worker holds the
-- row; `attempts` rises at the claim, so that (notification_id, attempts) is the fence.
CREATE TABLE outbox (
  notification_id uuid PRIMARY KEY,
  destination_id  uuid NOT NULL REFERENCES destinations,
  next_attempt_at timestamptz NOT NULL DEFAULT now(),
  enqueued_at     timestamptz NOT NULL DEFAULT now(),
  -- For how long its destination had been held, all times together, when it was enqueued: what came on top since then does
  -- not count for its horizon.
  held_before     float8 NOT NULL DEFAULT 0,
  leased_at       timestamptz,
  leased_by       uuid,
  -- Sent only after this one has left the outbox.
  after_id        uuid,
  tenant_id       int NOT NULL,
  attempts        int NOT NULL DEFAULT 0,
  -- Lower goes first within a destination.
  lane_class      smallint NOT NULL DEFAULT 0 CHECK (lane_class BETWEEN 0 AND 3),
  -- While a later attempt is in flight: an earlier one was accepted, as its late answer said. Nothing is sent again.
  accepted        boolean NOT NULL DEFAULT false,
  status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'in_flight', 'retrying'))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX outbox_lane ON outbox (destination_id, lane_class, next_attempt_at);

-- Given up: waits for a redrive.
CREATE TABLE dead_letters (
  notification_id uuid PRIMARY KEY,
  tenant_id       int NOT NULL,
  destination_id  uuid NOT NULL REFERENCES destinations,
  reason          text NOT NULL,
  attempts        int NOT NULL,
  died_at         timestamptz NOT NULL DEFAULT now(),
  abandoned_at    timestamptz,
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON dead_letters (tenant_id, notification_id);

-- What happened, never changed. `unknown` is an attempt that a crash cut short; a completion that came after
-- another worker took the row over stands beside it with `late`.
CREATE TABLE delivery_attempts (
  notification_id uuid NOT NULL,
  attempt         int NOT NULL,
  late            boolean NOT NULL DEFAULT false,
  tenant_id       int NOT NULL,
  destination_id  uuid NOT NULL,
  outcome         text NOT NULL CHECK (outcome IN
    ('delivered', 'retry', 'dead', 'hold', 'ambiguous', 'unknown', 'superseded', 'cancelled')),
  worker_id       uuid,
  -- NULL: nothing was sent.
  started_at      timestamptz,
  finished_at     timestamptz,
  status_code     int,
  -- Why it was not delivered, in words.
  error           text,
  -- What somebody should know although it was delivered.
  warning         text,
  -- The first 16 KiB of the answer.
  answer          text,
  -- Of the exact bytes that were sent.
  body_sha256     bytea,
  -- The receiver's own name for it.
  external_id     text,
  recorded_at     timestamptz NOT NULL DEFAULT now(),
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (notification_id, attempt, late)
) PARTITION BY RANGE (notification_id);

-- One row a notification. A notification that is neither owed nor ended is `missing`: that must never be seen.
CREATE VIEW deliveries WITH (security_invoker = true) AS
  SELECT n.notification_id, n.tenant_id, n.alert_id, n.destination_id, d.name AS destination, d.kind AS destination_kind,
         n.event, n.created_at,
         CASE WHEN o.notification_id IS NOT NULL THEN o.status
              WHEN x.abandoned_at IS NOT NULL THEN 'abandoned'
              WHEN x.notification_id IS NOT NULL THEN 'dead'
              ELSE coalesce(ended.outcome, 'missing') END AS status,
         greatest(coalesce(o.attempts, 0), coalesce(last.attempt, 0)) AS attempts,
         CASE WHEN o.status <> 'in_flight' THEN o.next_attempt_at END AS next_attempt_at,
         o.leased_by, o.leased_at,
         last.started_at AS last_attempt_at, last.status_code AS last_status_code,
         last.error AS last_error, last.warning AS warning,
         CASE WHEN o.notification_id IS NULL AND ended.outcome = 'delivered' THEN ended.finished_at END AS delivered_at,
         x.reason AS dead_reason, x.died_at
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

GRANT SELECT, UPDATE (state, state_reason, held_until, held_since, held_seconds) ON destinations TO watchbell_worker;
-- Nobody chooses when a thing was recorded, nor in which transaction.
GRANT SELECT, INSERT (notification_id, tenant_id, alert_id, destination_id, event, body) ON notifications TO watchbell_worker;
GRANT SELECT, INSERT (notification_id, attempt, late, tenant_id, destination_id, outcome, worker_id, started_at, finished_at,
  status_code, error, warning, answer, body_sha256, external_id) ON delivery_attempts TO watchbell_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO watchbell_worker;
-- Deleting: a late acceptance undoes a death.
GRANT SELECT, DELETE, INSERT (notification_id, tenant_id, destination_id, reason, attempts), UPDATE (abandoned_at, reason, attempts)
  ON dead_letters TO watchbell_worker;
GRANT SELECT ON deliveries TO watchbell_worker;
GRANT SELECT ON notifications, outbox, dead_letters, delivery_attempts, deliveries TO watchbell_api;
GRANT SELECT (destination_id, tenant_id, name, kind, settings, policy, state, state_reason, held_until, archived_at, created_at)
  ON destinations TO watchbell_api;

ALTER TABLE destinations ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON destinations TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON destinations TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE notifications ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON notifications TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON notifications TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON outbox TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON outbox TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE dead_letters ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON dead_letters TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON dead_letters TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE delivery_attempts ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON delivery_attempts TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON delivery_attempts TO watchbell_api USING (tenant_id = current_tenant_id());

-- Owes a dead notification again, for the tenant of the transaction: same id, same body, attempts numbered on. The API role
-- may do this and no other thing to the outbox. Returns 'redriven', or the status that is in the way; NULL: no such
-- notification. Of two at once, one finds the dead letter and the other finds it owed.
CREATE FUNCTION redrive_notification(wanted uuid, action uuid, who text, why text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  letter dead_letters;
BEGIN
  DELETE FROM dead_letters WHERE notification_id = wanted AND tenant_id = current_tenant_id() RETURNING * INTO letter;
  IF NOT FOUND THEN
    RETURN (SELECT status FROM deliveries WHERE notification_id = wanted AND tenant_id = current_tenant_id());
  END IF;
  INSERT INTO outbox (notification_id, tenant_id, destination_id, held_before, attempts, lane_class)
  SELECT n.notification_id, n.tenant_id, n.destination_id,
         (SELECT held_seconds_until_now(d) FROM destinations d WHERE d.destination_id = n.destination_id),
         coalesce((SELECT max(attempt) FROM delivery_attempts d WHERE d.notification_id = n.notification_id), 0),
         coalesce(array_position(ARRAY['critical', 'error', 'warning', 'info'], a.severity) - 1, 0)
  FROM notifications n LEFT JOIN alerts a USING (alert_id)
  WHERE n.notification_id = wanted;
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
  VALUES (action, letter.tenant_id, who, 'notification.redriven', wanted::text, why);
  RETURN 'redriven';
END
$$;
REVOKE ALL ON FUNCTION redrive_notification(uuid, uuid, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION redrive_notification(uuid, uuid, text, text) TO watchbell_api;
CREATE INDEX ON admin_actions (tenant_id, target);
