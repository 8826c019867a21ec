-- $1 name, $2 devices or NULL: as it is, $3 series or NULL, $4 action_id, $5 actor, $6 reason or NULL. No row: no such tenant.
WITH before AS (
  SELECT tenant_id, max_devices, max_series FROM tenants WHERE name = $1 FOR NO KEY UPDATE
), changed AS (
  UPDATE tenants t SET max_devices = coalesce($2::int, b.max_devices), max_series = coalesce($3::int, b.max_series)
  FROM before b WHERE t.tenant_id = b.tenant_id
  RETURNING t.*
), recorded AS (
  INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
  SELECT $4, c.tenant_id, $5, 'tenant.quota_set', c.name,
         concat_ws('; ', 'max_devices ' || b.max_devices || ' to ' || c.max_devices,
                   'max_series ' || b.max_series || ' to ' || c.max_series, $6::text)
  FROM changed c JOIN before b USING (tenant_id)
)
SELECT name, device_count, max_devices, series_count, max_series, created_at FROM changed
