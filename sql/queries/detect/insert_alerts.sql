-- arrays: $1 ids, $2 tenant ids, $3 rules, $4 rule versions, $5 series ids, $6 severities, $7 breached at, $8 values,
-- $9 evidence, $10 late, $11 historical. One breach is one alert, however often it is judged: returns the new ones.
WITH opened AS (
  INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, severity, breached_at, value, evidence, late,
                      historical)
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::int[], $5::int[], $6::text[], $7::timestamptz[], $8::float8[],
                       $9::jsonb[], $10::bool[], $11::bool[])
  ON CONFLICT (rule_id, series_id, breached_at) DO NOTHING
  RETURNING alert_id, tenant_id
), told AS (
  INSERT INTO alert_events (alert_id, tenant_id, kind, actor) SELECT alert_id, tenant_id, 'opened', 'detector' FROM opened
)
SELECT alert_id FROM opened
