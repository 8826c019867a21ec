-- What bounds storage: how many devices and series a tenant may have, and dropping what has been kept long enough.

-- Whoever registers a device locks these two before `tenants`; a service that runs meanwhile waits and does not deadlock.
LOCK TABLE devices, series IN SHARE ROW EXCLUSIVE MODE;

ALTER TABLE tenants
  -- How many it may have. What is registered stays, if the quota is lowered below it.
  ADD COLUMN max_devices  int NOT NULL DEFAULT 100000 CHECK (max_devices >= 0),
  ADD COLUMN max_series   int NOT NULL DEFAULT 1000000 CHECK (max_series >= 0),
  -- How many it has: counted by the triggers below, because counting a million rows at each new device would be slow.
  ADD COLUMN device_count int NOT NULL DEFAULT 0,
  ADD COLUMN series_count int NOT NULL DEFAULT 0;

CREATE FUNCTION count_registered() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
DECLARE
  sign int := CASE TG_OP WHEN 'DELETE' THEN -1 ELSE 1 END;
BEGIN
  IF TG_TABLE_NAME = 'devices' THEN
    UPDATE tenants t SET device_count = t.device_count + sign * c.number
    FROM (SELECT tenant_id, count(*)::int AS number FROM changed GROUP BY tenant_id) AS c WHERE t.tenant_id = c.tenant_id;
  ELSE
    UPDATE tenants t SET series_count = t.series_count + sign * c.number
    FROM (SELECT tenant_id, count(*)::int AS number FROM changed GROUP BY tenant_id) AS c WHERE t.tenant_id = c.tenant_id;
  END IF;
  RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION count_registered() FROM PUBLIC;
CREATE TRIGGER count_inserted AFTER INSERT ON devices REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION count_registered();
CREATE TRIGGER count_deleted AFTER DELETE ON devices REFERENCING OLD TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION count_registered();
CREATE TRIGGER count_inserted AFTER INSERT ON series REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION count_registered();
CREATE TRIGGER count_deleted AFTER DELETE ON series REFERENCING OLD TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION count_registered();

UPDATE tenants t
SET device_count = (SELECT count(*) FROM devices d WHERE d.tenant_id = t.tenant_id),
    series_count = (SELECT count(*) FROM series s WHERE s.tenant_id = t.tenant_id);
-- Nobody who has much already stands before a closed door after an upgrade.
UPDATE tenants
SET max_devices = least(greatest(max_devices, 2 * device_count::bigint), 2147483647),
    max_series = least(greatest(max_series, 2 * series_count::bigint), 2147483647);

-- What these tenants have and may have, locked until the transaction ends: of two processes that register at once, the
-- second counts what the first has added. In the order of their ids, so that two never wait for each other.
CREATE FUNCTION lock_quotas(wanted int[])
RETURNS TABLE (tenant_id int, device_count int, series_count int, max_devices int, max_series int)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
AS $$
  SELECT t.tenant_id, t.device_count, t.series_count, t.max_devices, t.max_series
  FROM tenants t WHERE t.tenant_id = ANY (wanted) ORDER BY t.tenant_id FOR NO KEY UPDATE
$$;
REVOKE ALL ON FUNCTION lock_quotas(int[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_quotas(int[]) TO watchbell_worker;

-- The partitions of `readings` or `readings_1m`, and when the time of each ends.
CREATE FUNCTION partition_ends(parent text) RETURNS TABLE (partition text, ends timestamptz)
LANGUAGE sql STABLE SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO'
AS $$
  SELECT c.relname::text, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = quote_ident(parent)::regclass
$$;

-- Drops the oldest partition of `parent` that ended `keep_days` ago or earlier; returns its day, or NULL if there is none
-- (any more). One a transaction. Dropping locks the parent against everybody, so it is given up when the lock is not there
-- in half a second: ingestion never stands longer behind it.
CREATE FUNCTION drop_expired_partition(parent text, keep_days int, accepted_days int) RETURNS date
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
  expired record;
BEGIN
  IF parent IS NULL OR parent NOT IN ('readings', 'readings_1m') THEN
    RAISE EXCEPTION 'table % is not dropped by age', parent;
  END IF;
  -- What is accepted must have somewhere to go.
  IF accepted_days < 1 OR keep_days <= accepted_days OR keep_days IS NULL OR accepted_days IS NULL THEN
    RAISE EXCEPTION 'kept are more days than accepted, and accepted is at least one: not % and %', keep_days, accepted_days;
  END IF;
  -- Another process is at it.
  IF NOT pg_try_advisory_xact_lock(hashtext('watchbell.drop_expired_partition')) THEN
    RETURN NULL;
  END IF;
  SELECT p.partition, p.ends INTO expired
  FROM partition_ends(parent) AS p
  WHERE p.ends <= now() - make_interval(days => keep_days)
    -- A batch that is not judged yet will be merged into rollups up to `accepted_days` before it was stored. Readings are
    -- not needed for that: the batch brings its own. A day more, for what waited between being accepted and being stored.
    AND (parent <> 'readings_1m' OR NOT EXISTS (
      SELECT FROM flushes f
      WHERE f.quarantine_reason IS NULL AND f.flushed_at < p.ends + make_interval(days => accepted_days + 1)))
  ORDER BY p.ends LIMIT 1;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  EXECUTE format('DROP TABLE %I', expired.partition);
  RETURN ((expired.ends AT TIME ZONE 'UTC') - interval '1 day')::date;
END
$$;
REVOKE ALL ON FUNCTION drop_expired_partition(text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_expired_partition(text, int, int) TO watchbell_worker;
