-- arrays: $1 rules, $2 series ids, $3 tenant ids, $4 rule versions, $5 raised, $6 recent, $7 holds since, $8 fires since,
-- $9 clear since, $10 decided at, $11 decided values, $12 evidence, $13 last fired, $14 told through, $15 alerts
INSERT INTO rule_state (rule_id, series_id, tenant_id, rule_version, raised, recent, holds_since, fires_since, clear_since,
                        decided_at, decided_value, evidence, last_fired_at, told_through, alert_id)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::bool[], $6::bigint[], $7::timestamptz[],
                     $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::float8[], $12::jsonb[],
                     $13::timestamptz[], $14::timestamptz[], $15::uuid[])
ON CONFLICT (rule_id, series_id) DO UPDATE SET
  rule_version = excluded.rule_version, raised = excluded.raised, recent = excluded.recent,
  holds_since = excluded.holds_since, fires_since = excluded.fires_since, clear_since = excluded.clear_since,
  decided_at = excluded.decided_at, decided_value = excluded.decided_value, evidence = excluded.evidence,
  last_fired_at = excluded.last_fired_at, told_through = excluded.told_through, alert_id = excluded.alert_id
