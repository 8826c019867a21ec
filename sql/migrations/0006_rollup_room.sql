-- Each rollup of the current minute is written again every second. With half of each page free, the new version of a row
-- finds room beside the old one and the index is left alone (a "heap-only tuple"); on full pages each write was a new
-- index entry, and cost as much as storing the readings themselves (measured).

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
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) WITH (fillfactor = %s)',
                 child, parent, CASE parent WHEN 'readings_1m' THEN 50 ELSE 100 END);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, lower_bound, upper_bound);
  RETURN true;
END
$$;

-- The days that are there: for what is written to them from now on.
DO $$
DECLARE
  child regclass;
BEGIN
  FOR child IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'readings_1m'::regclass LOOP
    EXECUTE format('ALTER TABLE %s SET (fillfactor = 50)', child);
  END LOOP;
END
$$;
