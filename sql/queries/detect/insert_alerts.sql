-- arrays: $1 ids, $2 tenant ids, $3 rules, $4 rule versions, $5 series ids, $6 breached at, $7 fired at, $8 decided at,
-- $9 values, $10 evidence, $11 classes, $12 summaries, $13 device tags, $14 points, $15 late, $16 severities, $17 historical,
-- $18 ended at, $19 seconds of cooldown.
-- One breach is one alert, however often it is judged. What came out of order is over at once; it may lie in another alert, or
-- in the cooldown of one, and is none then. Returns the new ones.
WITH new AS (
  SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[],
                       $8::timestamptz[], $9::float8[], $10::jsonb[], $11::text[], $12::text[], $13::jsonb[], $14::jsonb[],
                       $15::bool[], $16::text[], $17::bool[], $18::timestamptz[], $19::int[])
    AS new (alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
            class, summary, device_tags, points, late, severity, historical, ended_at, cooldown_seconds)
)
INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
                    class, summary, device_tags, points, late, severity, historical)
SELECT alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
       class, summary, device_tags, points, late, severity, historical
FROM new
WHERE ended_at IS DISTINCT FROM breached_at OR NOT EXISTS (
  SELECT FROM alerts a
  WHERE a.rule_id = new.rule_id AND a.series_id = new.series_id AND a.breached_at <= new.breached_at
    AND greatest(coalesce(a.ended_at, 'infinity'), a.fired_at + make_interval(secs => new.cooldown_seconds)) > new.breached_at
  UNION ALL
  SELECT FROM new b
  WHERE b.rule_id = new.rule_id AND b.series_id = new.series_id AND b.breached_at <= new.breached_at
    AND b.ended_at IS DISTINCT FROM b.breached_at
    AND greatest(coalesce(b.ended_at, 'infinity'), b.fired_at + make_interval(secs => new.cooldown_seconds)) > new.breached_at
)
ON CONFLICT (rule_id, series_id, breached_at) DO NOTHING
RETURNING alert_id
