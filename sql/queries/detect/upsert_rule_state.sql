-- arrays: $1 rules, $2 series ids, $3 tenant ids, $4 last fired, $5 last fired late, $6 alerts that may still burn
INSERT INTO rule_state (rule_id, series_id, tenant_id, last_fired_at, late_fired_at, burning_alert_id)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::uuid[])
ON CONFLICT (rule_id, series_id) DO UPDATE SET
  last_fired_at = excluded.last_fired_at, late_fired_at = excluded.late_fired_at,
  burning_alert_id = excluded.burning_alert_id
