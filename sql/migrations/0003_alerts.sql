-- What to look for, and what was found.

CREATE TABLE rules (
  rule_id          uuid PRIMARY KEY,
  tenant_id        int NOT NULL REFERENCES tenants,
  version          int NOT NULL DEFAULT 1,
  name             text NOT NULL,
  metric           text NOT NULL,
  -- Devices by external id; `*` stands for any run of characters.
  device_pattern   text NOT NULL DEFAULT '*',
  -- {"kind": "above_threshold", "threshold": 80.0}
  condition        jsonb NOT NULL,
  severity         text NOT NULL CHECK (severity IN ('critical', 'error', 'warning', 'info')),
  cooldown_seconds int NOT NULL DEFAULT 900 CHECK (cooldown_seconds >= 0),
  destination_ids  uuid[] NOT NULL DEFAULT '{}',
  state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'faulted', 'archived')),
  -- Why it is faulted.
  fault            text,
  created_at       timestamptz NOT NULL DEFAULT now(),
  updated_at       timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX ON rules (tenant_id, name) WHERE state <> 'archived';
CREATE TRIGGER raise_config_version
  AFTER INSERT OR DELETE OR UPDATE OF name, metric, device_pattern, condition, severity, cooldown_seconds, destination_ids, state
  ON rules
  FOR EACH STATEMENT EXECUTE FUNCTION raise_config_version();

-- The rule as it was: an alert keeps the version that fired it.
CREATE TABLE rule_versions (
  rule_id    uuid NOT NULL REFERENCES rules,
  version    int NOT NULL,
  tenant_id  int NOT NULL REFERENCES tenants,
  definition jsonb NOT NULL,
  changed_by text NOT NULL DEFAULT current_user,
  changed_at timestamptz NOT NULL DEFAULT now(),
  xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (rule_id, version)
);

-- Versions can't be forgotten by whoever changes a rule.
CREATE FUNCTION number_rule_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.name, NEW.metric, NEW.device_pattern, NEW.condition, NEW.severity, NEW.cooldown_seconds, NEW.destination_ids)
     IS DISTINCT FROM
     (OLD.name, OLD.metric, OLD.device_pattern, OLD.condition, OLD.severity, OLD.cooldown_seconds, OLD.destination_ids)
  THEN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
  ELSE
    NEW.version := OLD.version;
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER number_rule_version BEFORE UPDATE ON rules FOR EACH ROW EXECUTE FUNCTION number_rule_version();

CREATE FUNCTION keep_rule_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
BEGIN
  INSERT INTO rule_versions (rule_id, version, tenant_id, definition, changed_by)
  VALUES (NEW.rule_id, NEW.version, NEW.tenant_id,
          to_jsonb(NEW) - ARRAY['rule_id', 'version', 'tenant_id', 'state', 'fault', 'created_at', 'updated_at'],
          coalesce(nullif(current_setting('watchbell.actor', true), ''), session_user))
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END
$$;
CREATE TRIGGER keep_rule_version AFTER INSERT OR UPDATE ON rules FOR EACH ROW EXECUTE FUNCTION keep_rule_version();

REVOKE ALL ON FUNCTION number_rule_version(), keep_rule_version() FROM PUBLIC;

-- What must outlive a restart, for a rule and series that is not at rest. Times are the readings' own.
CREATE TABLE rule_state (
  rule_id       uuid NOT NULL REFERENCES rules,
  series_id     int NOT NULL REFERENCES series,
  tenant_id     int NOT NULL REFERENCES tenants,
  -- The latest breach that fired: cooldown runs from here.
  last_fired_at timestamptz,
  -- The same for readings that came late: they are older than that.
  late_fired_at timestamptz,
  -- Its breach was old when it was judged, and is not known to be over.
  burning_alert_id uuid,
  PRIMARY KEY (rule_id, series_id)
);

CREATE TABLE alerts (
  alert_id        uuid PRIMARY KEY,
  tenant_id       int NOT NULL REFERENCES tenants,
  rule_id         uuid NOT NULL,
  rule_version    int NOT NULL,
  series_id       int NOT NULL REFERENCES series,
  severity        text NOT NULL,
  state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'resolved')),
  -- The time of the reading that broke the rule, on the sensor's clock.
  breached_at     timestamptz NOT NULL,
  opened_at       timestamptz NOT NULL DEFAULT now(),
  acknowledged_at timestamptz,
  resolved_at     timestamptz,
  value           double precision NOT NULL,
  -- What decided it: threshold, and later whatever a condition computes.
  evidence        jsonb NOT NULL,
  -- The reading was older than one already judged.
  late            boolean NOT NULL DEFAULT false,
  -- The breach was older than `detect.notify_max_age_seconds` when it was judged, and over: nobody was told.
  historical      boolean NOT NULL DEFAULT false,
  xid             xid8 NOT NULL DEFAULT pg_current_xact_id(),
  FOREIGN KEY (rule_id, rule_version) REFERENCES rule_versions,
  -- One breach is one alert, whoever judges it and however often.
  UNIQUE (rule_id, series_id, breached_at)
);
CREATE INDEX ON alerts (tenant_id, alert_id);

CREATE TABLE alert_events (
  event_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  alert_id  uuid NOT NULL REFERENCES alerts,
  tenant_id int NOT NULL REFERENCES tenants,
  kind      text NOT NULL,
  actor     text NOT NULL,
  at        timestamptz NOT NULL DEFAULT now(),
  note      text,
  xid       xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON alert_events (alert_id);

GRANT SELECT ON rule_versions TO watchbell_worker;
GRANT SELECT, UPDATE (state, fault) ON rules TO watchbell_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON rule_state TO watchbell_worker;
-- Nobody chooses when a thing was recorded, nor in which transaction.
GRANT SELECT, UPDATE (state, severity, historical, acknowledged_at, resolved_at),
  INSERT (alert_id, tenant_id, rule_id, rule_version, series_id, severity, breached_at, value, evidence, late, historical)
  ON alerts TO watchbell_worker;
GRANT SELECT, INSERT (alert_id, tenant_id, kind, actor, note) ON alert_events TO watchbell_worker;
GRANT SELECT ON rules, rule_versions, rule_state, alerts, alert_events TO watchbell_api;

ALTER TABLE rules ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON rules TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON rules TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE rule_versions ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON rule_versions TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON rule_versions TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE rule_state ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON rule_state TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON rule_state TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE alerts ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON alerts TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON alerts TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE alert_events ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON alert_events TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON alert_events TO watchbell_api USING (tenant_id = current_tenant_id());
