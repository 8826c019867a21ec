-- Rules that select devices and say how an alert lives; silences; the life of an alert; what was told of it.

-- Rules.

ALTER TABLE rules
  -- Devices by external id; NULL: any.
  ADD COLUMN device_ids            text[],
  -- Tags that a device must have, each with this value: {"site": "north"}.
  ADD COLUMN device_tags           jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(device_tags) = 'object'),
  -- Said with every alert: {"team": "water"}.
  ADD COLUMN labels                jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
  -- Where it is written what to do.
  ADD COLUMN runbook_url           text,
  -- An alert resolves when its series was clear for this long, in the readings' own time.
  ADD COLUMN resolve_after_seconds int NOT NULL DEFAULT 300 CHECK (resolve_after_seconds >= 0),
  -- While nobody acknowledges an open alert, people are told again this often; NULL: never.
  ADD COLUMN reminder_seconds      int CHECK (reminder_seconds > 0),
  -- When the severity rises: [{"severity": "critical", "after_seconds": 600}, {"severity": "critical", "beyond": 95}].
  ADD COLUMN escalations           jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(escalations) = 'array');

CREATE OR REPLACE FUNCTION number_rule_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  not_definition text[] := ARRAY['rule_id', 'version', 'tenant_id', 'state', 'fault', 'created_at', 'updated_at'];
BEGIN
  IF to_jsonb(NEW) - not_definition IS DISTINCT FROM to_jsonb(OLD) - not_definition THEN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
  ELSE
    NEW.version := OLD.version;
  END IF;
  RETURN NEW;
END
$$;
DROP TRIGGER raise_config_version ON rules;
CREATE TRIGGER raise_config_version
  AFTER INSERT OR DELETE OR UPDATE OF name, metric, device_pattern, device_ids, device_tags, condition, severity,
    cooldown_seconds, resolve_after_seconds, reminder_seconds, escalations, labels, runbook_url, destination_ids, state
  ON rules
  FOR EACH STATEMENT EXECUTE FUNCTION raise_config_version();
GRANT INSERT (rule_id, tenant_id, name, metric, device_pattern, device_ids, device_tags, condition, severity, cooldown_seconds,
              resolve_after_seconds, reminder_seconds, escalations, labels, runbook_url, destination_ids),
      UPDATE (name, metric, device_pattern, device_ids, device_tags, condition, severity, cooldown_seconds,
              resolve_after_seconds, reminder_seconds, escalations, labels, runbook_url, destination_ids, state, fault)
  ON rules TO watchbell_api;

-- A device's tags decide which rules and silences select it.
CREATE TRIGGER raise_config_version AFTER UPDATE OF tags ON devices
  FOR EACH STATEMENT EXECUTE FUNCTION raise_config_version();
GRANT UPDATE (tags) ON devices TO watchbell_api;

-- Whoever settles reads the versions under a lock, which asks for the right to update a column.
GRANT UPDATE (only_row) ON config_version TO watchbell_worker;
-- Raised with every change of an alert by hand; the alert carries the number.
ALTER TABLE config_version ADD COLUMN alerts_version bigint NOT NULL DEFAULT 0;

-- Who silenced what, until when, and why. An alert must meet all that is said; it is kept and marked, and nobody is told
-- while the silence lasts.
CREATE TABLE silences (
  silence_id     uuid PRIMARY KEY,
  tenant_id      int NOT NULL REFERENCES tenants,
  -- Alerts of this rule; NULL: of any.
  rule_id        uuid REFERENCES rules,
  -- Of devices by external id, `*` for any run of characters; NULL: any.
  device_pattern text,
  -- Of devices with all of these tags.
  device_tags    jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(device_tags) = 'object'),
  starts_at      timestamptz NOT NULL DEFAULT now(),
  ends_at        timestamptz NOT NULL,
  created_by     text NOT NULL,
  reason         text NOT NULL,
  created_at     timestamptz NOT NULL DEFAULT now(),
  -- Ended by hand, before its time; `ends_at` is that moment then.
  ended_by       text,
  CHECK (ends_at > starts_at OR ended_by IS NOT NULL),
  -- Nobody silences everything by leaving everything out.
  CHECK (rule_id IS NOT NULL OR device_pattern IS NOT NULL OR device_tags <> '{}')
);
CREATE INDEX ON silences (tenant_id, ends_at);
CREATE TRIGGER raise_config_version AFTER INSERT OR DELETE OR UPDATE ON silences
  FOR EACH STATEMENT EXECUTE FUNCTION raise_config_version();
GRANT SELECT ON silences TO watchbell_worker;
GRANT SELECT, INSERT (silence_id, tenant_id, rule_id, device_pattern, device_tags, starts_at, ends_at, created_by, reason),
      UPDATE (ends_at, ended_by) ON silences TO watchbell_api;
ALTER TABLE silences ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON silences TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON silences TO watchbell_api USING (tenant_id = current_tenant_id());

-- Alerts. Times "of the readings" are on the sensor's clock, all others on the database's.

ALTER TABLE alerts
  -- When it fired, of the readings: `breached_at` and what the rule waits for.
  ADD COLUMN fired_at             timestamptz,
  -- The reading that decided it, of the readings.
  ADD COLUMN decided_at           timestamptz,
  -- When the breach was over, of the readings.
  ADD COLUMN ended_at             timestamptz,
  ADD COLUMN class                text,
  -- One sentence for people, as it was when it opened.
  ADD COLUMN summary              text,
  ADD COLUMN device_tags          jsonb NOT NULL DEFAULT '{}',
  -- The last readings up to the one that decided it: [[time, value], ..].
  ADD COLUMN points               jsonb NOT NULL DEFAULT '[]',
  -- How often its rule has fired on it: 1, and one more for each time that it was opened again.
  ADD COLUMN episodes             int NOT NULL DEFAULT 1,
  ADD COLUMN silence_id           uuid,
  -- What people were told last: nothing, that it is open, or that it is resolved; when, and who.
  ADD COLUMN told                 text NOT NULL DEFAULT 'nothing' CHECK (told IN ('nothing', 'open', 'resolved')),
  ADD COLUMN told_at              timestamptz,
  ADD COLUMN told_destination_ids uuid[] NOT NULL DEFAULT '{}',
  ADD COLUMN acknowledged_by      text,
  ADD COLUMN resolved_by          text,
  -- `config_version.alerts_version` of the last change by hand.
  ADD COLUMN changed_version      bigint NOT NULL DEFAULT 0;
CREATE INDEX ON alerts (changed_version) WHERE changed_version > 0;
CREATE INDEX ON alerts (tenant_id, alert_id) WHERE state <> 'resolved';

ALTER TABLE alert_events
  -- The time of the readings at which it happened, for what a reading or its absence decided.
  ADD COLUMN happened_at timestamptz,
  -- Which episode of the alert it belongs to.
  ADD COLUMN episode     int NOT NULL DEFAULT 1,
  -- What became of an episode that fired: told by a notice of its own or by one that tells many, or why it was not.
  ADD COLUMN disposition text
    CHECK (disposition IN ('notified', 'grouped', 'silenced', 'cooled_down', 'historical', 'unrouted'));

GRANT INSERT (fired_at, decided_at, ended_at, class, summary, device_tags, points, episodes, silence_id, told, told_at,
              told_destination_ids, state, resolved_at, resolved_by),
      UPDATE (ended_at, episodes, silence_id, told, told_at, told_destination_ids, resolved_by, acknowledged_by) ON alerts TO watchbell_worker;
GRANT INSERT (happened_at, episode, disposition) ON alert_events TO watchbell_worker;

-- What a rule and series are in, when not at rest.
ALTER TABLE rule_state
  -- The version it was judged with: what waits under another one waits anew.
  ADD COLUMN rule_version  int NOT NULL DEFAULT 0,
  -- Beyond the threshold, or not yet back behind the one that clears it.
  ADD COLUMN raised        boolean NOT NULL DEFAULT false,
  -- The last judgements of a rule with `m_of_n`: a bit each, the newest the lowest, 1 for a breach.
  ADD COLUMN recent        bigint NOT NULL DEFAULT 0,
  -- The breach holds since then.
  ADD COLUMN holds_since   timestamptz,
  -- It fires since then, and the breach began then.
  ADD COLUMN fires_since   timestamptz,
  ADD COLUMN clear_since   timestamptz,
  -- The latest reading that broke the rule, and what decided that.
  ADD COLUMN decided_at    timestamptz,
  ADD COLUMN decided_value double precision,
  ADD COLUMN evidence      jsonb,
  -- The end of the latest cooldown of which people were told.
  ADD COLUMN told_through  timestamptz,
  -- The latest alert of the two: open, or opened again if the rule fires within its cooldown.
  ADD COLUMN alert_id      uuid;

-- Alerts had no life so far. The last of a rule and series goes on where it is not known to be over, or is of the last day; all
-- others are over, and nobody is told so.
UPDATE alerts SET told = 'open', told_at = opened_at,
  told_destination_ids = ARRAY(SELECT DISTINCT n.destination_id FROM notifications n WHERE n.alert_id = alerts.alert_id)
WHERE NOT historical AND state <> 'resolved';
WITH last AS (
  SELECT DISTINCT ON (rule_id, series_id) alert_id, rule_id, series_id, breached_at, value, evidence, historical
  FROM alerts ORDER BY rule_id, series_id, breached_at DESC
), kept AS (
  UPDATE rule_state s SET alert_id = last.alert_id, rule_version = r.version, raised = true, holds_since = last.breached_at,
    fires_since = last.breached_at, decided_at = last.breached_at, decided_value = last.value, evidence = last.evidence,
    told_through = now()
  FROM last, rules r
  WHERE r.rule_id = s.rule_id AND last.rule_id = s.rule_id AND last.series_id = s.series_id
    AND (s.burning_alert_id = last.alert_id OR NOT last.historical AND last.breached_at > now() - interval '1 day')
  RETURNING s.alert_id
), over AS (
  UPDATE alerts SET state = 'resolved', resolved_at = now(), resolved_by = 'migration',
    told = CASE told WHEN 'open' THEN 'resolved' ELSE told END
  WHERE state <> 'resolved' AND NOT EXISTS (SELECT FROM kept WHERE kept.alert_id = alerts.alert_id)
  RETURNING alert_id, tenant_id
)
INSERT INTO alert_events (alert_id, tenant_id, kind, actor, note)
SELECT alert_id, tenant_id, 'resolved', 'migration', 'it is old, or a later alert of the same rule and series stands for it'
FROM over;
UPDATE alert_events e SET disposition = CASE
    WHEN a.historical THEN 'historical'
    WHEN EXISTS (SELECT FROM notifications n WHERE n.alert_id = a.alert_id) THEN 'notified'
    ELSE 'unrouted' END
FROM alerts a WHERE a.alert_id = e.alert_id AND e.kind = 'opened';
-- What a late breach is told by stands in the alerts.
ALTER TABLE rule_state DROP COLUMN burning_alert_id, DROP COLUMN late_fired_at;

-- The episode of its alert that a notification is about; one that tells of many alerts has a row here for each.
ALTER TABLE notifications ADD COLUMN episode int NOT NULL DEFAULT 1;
GRANT INSERT (episode) ON notifications TO watchbell_worker;
CREATE TABLE notification_alerts (
  notification_id uuid NOT NULL,
  alert_id        uuid NOT NULL,
  tenant_id       int NOT NULL,
  episode         int NOT NULL,
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (notification_id, alert_id)
) PARTITION BY RANGE (notification_id);
CREATE INDEX ON notification_alerts (alert_id);
GRANT SELECT, INSERT (notification_id, alert_id, tenant_id, episode) ON notification_alerts TO watchbell_worker;
GRANT SELECT ON notification_alerts TO watchbell_api;
ALTER TABLE notification_alerts ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON notification_alerts TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON notification_alerts TO watchbell_api USING (tenant_id = current_tenant_id());

CREATE OR REPLACE FUNCTION ensure_partition(parent text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  child       text := parent || '_' || to_char(day, 'YYYYMMDD');
  starts      timestamptz := day::timestamp AT TIME ZONE 'UTC';
  ends        timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
  lower_bound text := starts::text;
  upper_bound text := ends::text;
BEGIN
  IF parent NOT IN ('readings', 'readings_1m', 'notifications', 'notification_alerts', 'delivery_attempts') THEN
    RAISE EXCEPTION 'table % is not partitioned by day', parent;
  END IF;
  IF to_regclass(child) IS NOT NULL THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtext('watchbell.ensure_partition'));
  -- Whoever held the lock may have made it. `to_regclass` remembers that it was not there, and waiting for this lock does
  -- not make it look again; a query does.
  IF EXISTS (SELECT FROM pg_class WHERE relname = child AND relnamespace = 'public'::regnamespace) THEN
    RETURN false;
  END IF;
  IF parent IN ('notifications', 'notification_alerts', 'delivery_attempts') THEN
    lower_bound := first_uuid_at(starts)::text;
    upper_bound := first_uuid_at(ends)::text;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) WITH (fillfactor = %s)',
                 child, parent, CASE parent WHEN 'readings_1m' THEN 50 ELSE 100 END);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, lower_bound, upper_bound);
  RETURN true;
END
$$;

-- Ingestion's word: all that the broker accepted before `heard_until` is stored. A device that is silent is told from our
-- own lag by it.
CREATE TABLE watermarks (
  stream      text PRIMARY KEY,
  heard_until timestamptz NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE ON watermarks TO watchbell_worker;

-- A person's change of an alert of the tenant of the transaction. Detection waits for it, or it for detection: whoever comes
-- second sees what the first did. Returns 'changed'; 'to be told', if it is changed and those who were told that it is open must
-- hear that it is over; or the state that is in the way; NULL: no such alert.
CREATE FUNCTION change_alert(wanted uuid, new_state text, who text, why text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  found_alert alerts;
  number      bigint;
BEGIN
  IF new_state IS NULL OR new_state NOT IN ('acknowledged', 'resolved') THEN
    RAISE EXCEPTION 'an alert is not made % by hand', new_state;
  END IF;
  UPDATE config_version SET alerts_version = alerts_version + 1 RETURNING alerts_version INTO number;
  SELECT * INTO found_alert FROM alerts WHERE alert_id = wanted AND tenant_id = current_tenant_id() FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF found_alert.state = new_state OR found_alert.state = 'resolved' THEN
    RETURN found_alert.state;
  END IF;
  UPDATE alerts SET state = new_state, changed_version = number,
    acknowledged_at = CASE new_state WHEN 'acknowledged' THEN now() ELSE acknowledged_at END,
    acknowledged_by = CASE new_state WHEN 'acknowledged' THEN who ELSE acknowledged_by END,
    resolved_at = CASE new_state WHEN 'resolved' THEN now() ELSE resolved_at END,
    resolved_by = CASE new_state WHEN 'resolved' THEN who ELSE resolved_by END,
    told = CASE WHEN new_state = 'resolved' AND told = 'open' THEN 'resolved' ELSE told END,
    told_at = CASE WHEN new_state = 'resolved' AND told = 'open' THEN now() ELSE told_at END,
    -- Whoever takes it on need not hear of it when its silence ends.
    silence_id = CASE WHEN new_state = 'acknowledged' AND told = 'open' THEN NULL ELSE silence_id END
  WHERE alert_id = wanted;
  INSERT INTO alert_events (alert_id, tenant_id, kind, actor, note, episode)
  VALUES (wanted, found_alert.tenant_id, new_state, who, why, found_alert.episodes);
  RETURN CASE WHEN new_state = 'resolved' AND found_alert.told = 'open' THEN 'to be told' ELSE 'changed' END;
END
$$;
REVOKE ALL ON FUNCTION change_alert(uuid, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION change_alert(uuid, text, text, text) TO watchbell_api;

-- Owes notifications about alerts of the tenant of the transaction to destinations of the same tenant: what is told of a
-- change by hand. The API role may add to the outbox in no other way. Arrays of equal length.
CREATE FUNCTION owe_notifications(ids uuid[], about uuid[], destinations uuid[], events text[], episodes int[],
                                  classes smallint[], bodies text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  told bigint;
  owed bigint;
BEGIN
  INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, episode, body)
  SELECT n.id, a.tenant_id, a.alert_id, d.destination_id, n.event, n.episode, n.body
  FROM unnest(ids, about, destinations, events, episodes, bodies) AS n (id, alert, destination, event, episode, body)
  JOIN alerts a ON a.alert_id = n.alert AND a.tenant_id = current_tenant_id()
  JOIN destinations d ON d.destination_id = n.destination AND d.tenant_id = a.tenant_id;
  GET DIAGNOSTICS told = ROW_COUNT;
  INSERT INTO outbox (notification_id, tenant_id, destination_id, lane_class, held_before)
  SELECT n.id, d.tenant_id, d.destination_id, n.class, held_seconds_until_now(d)
  FROM unnest(ids, destinations, classes) AS n (id, destination, class)
  JOIN destinations d ON d.destination_id = n.destination AND d.tenant_id = current_tenant_id();
  GET DIAGNOSTICS owed = ROW_COUNT;
  IF told <> cardinality(ids) OR owed <> cardinality(ids) THEN
    RAISE EXCEPTION 'notifications about alerts or for destinations of another tenant';
  END IF;
END
$$;
REVOKE ALL ON FUNCTION owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION owe_notifications(uuid[], uuid[], uuid[], text[], int[], smallint[], text[]) TO watchbell_api;

SELECT ensure_partition('notification_alerts', day)
FROM (SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(-1, 3) AS n) AS days (day);
