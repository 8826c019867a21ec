-- What came in: devices, series, readings, the batches that detection owes a look, and what was refused.

-- The first id that a UUIDv7 made at `at` can have; tables partitioned by such an id are partitioned by time.
CREATE FUNCTION first_uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT rpad(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid $$;

-- Makes the partition of a UTC day, unless it is there; true if it was made. A child is created first and attached
-- then: `CREATE TABLE .. PARTITION OF` would lock the parent against everybody.
CREATE FUNCTION ensure_partition(parent text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  child       text := parent || '_' || to_char(day, 'YYYYMMDD');
  starts      timestamptz := day::timestamp AT TIME ZONE 'UTC';
  ends        timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
  lower_bound text := starts::text;
  upper_bound text := ends::text;
BEGIN
  IF parent NOT IN ('readings', 'readings_1m', 'notifications', 'delivery_attempts') THEN
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
  IF parent IN ('notifications', 'delivery_attempts') THEN
    lower_bound := first_uuid_at(starts)::text;
    upper_bound := first_uuid_at(ends)::text;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', child, parent);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, lower_bound, upper_bound);
  RETURN true;
END
$$;
REVOKE ALL ON FUNCTION ensure_partition(text, date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partition(text, date) TO watchbell_worker;

CREATE TABLE devices (
  device_id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id   int NOT NULL REFERENCES tenants,
  -- The name that the sensor gives itself.
  external_id text NOT NULL,
  tags        jsonb NOT NULL DEFAULT '{}',
  first_seen  timestamptz NOT NULL DEFAULT now(),
  -- Written at most once a minute.
  last_seen   timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, external_id)
);

CREATE TABLE series (
  series_id  int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id  int NOT NULL REFERENCES tenants,
  device_id  int NOT NULL REFERENCES devices,
  metric     text NOT NULL,
  unit       text,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (device_id, metric)
);

-- COPY is refused on a table with row-level security, and this one is filled by COPY: so the API role has no
-- right on it at all and looks through the view `readings_named`.
CREATE TABLE readings (
  ts        timestamptz NOT NULL,
  value     double precision NOT NULL,
  series_id int NOT NULL,
  PRIMARY KEY (series_id, ts)
) PARTITION BY RANGE (ts);

CREATE VIEW readings_named WITH (security_barrier = true) AS
  SELECT s.tenant_id, d.external_id AS device, s.metric, s.unit, r.ts, r.value
  FROM readings r JOIN series s USING (series_id) JOIN devices d USING (device_id)
  WHERE s.tenant_id = current_tenant_id();

-- A committed batch that detection has not judged yet. The row's being there is the debt.
CREATE TABLE flushes (
  flush_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  readings          int NOT NULL,
  flushed_at        timestamptz NOT NULL DEFAULT now(),
  -- Set when it could not be judged: it is kept, and blocks nobody.
  quarantine_reason text,
  batch             bytea NOT NULL
);
-- Never the default pglz (measured: lz4 costs nothing beside the COPY); not every build has lz4.
DO $$
BEGIN
  ALTER TABLE flushes ALTER COLUMN batch SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
  ALTER TABLE flushes ALTER COLUMN batch SET STORAGE EXTERNAL;
END
$$;

CREATE TABLE rejected_readings (
  rejected_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- NULL where no such tenant is known.
  tenant_id   int REFERENCES tenants,
  subject     text NOT NULL,
  reason      text NOT NULL,
  detail      text NOT NULL,
  -- The beginning of what came in.
  payload     bytea NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON rejected_readings (tenant_id, rejected_id);

-- Count, mean and M2 (the sum of squared distances from the mean) merge without loss: Chan, Golub and LeVeque 1979.
CREATE TABLE readings_1m (
  minute     timestamptz NOT NULL,
  last_ts    timestamptz NOT NULL,
  count      bigint NOT NULL,
  mean       double precision NOT NULL,
  m2         double precision NOT NULL,
  lowest     double precision NOT NULL,
  highest    double precision NOT NULL,
  last_value double precision NOT NULL,
  series_id  int NOT NULL,
  PRIMARY KEY (series_id, minute)
) PARTITION BY RANGE (minute);

GRANT SELECT, INSERT, UPDATE ON devices, series TO watchbell_worker;
GRANT SELECT, INSERT ON readings TO watchbell_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON flushes, rejected_readings TO watchbell_worker;
GRANT SELECT, INSERT, UPDATE ON readings_1m TO watchbell_worker;
GRANT SELECT ON readings_named TO watchbell_api;

ALTER TABLE devices ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON devices TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON devices TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE series ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON series TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON series TO watchbell_api USING (tenant_id = current_tenant_id());
ALTER TABLE rejected_readings ENABLE ROW LEVEL SECURITY;
CREATE POLICY worker ON rejected_readings TO watchbell_worker USING (true) WITH CHECK (true);
CREATE POLICY tenant ON rejected_readings TO watchbell_api USING (tenant_id = current_tenant_id());
GRANT SELECT ON devices, series, rejected_readings TO watchbell_api;
