-- arrays: $1 ids, $2 tenant ids, $3 rules, $4 rule versions, $5 series ids, $6 breached at, $7 fired at, $8 decided at,
-- $9 values, $10 evidence, $11 classes, $12 summaries, $13 device tags, $14 points, $15 late, $16 severities, $17 historical.
-- Two alerts of a rule and series may have begun at the same time: a silence that is found again, after the rule had not
-- looked for a while, begins where it began before. The later one is stored a microsecond later.
INSERT INTO alerts (alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
                    class, summary, device_tags, points, late, severity, historical)
SELECT alert_id, tenant_id, rule_id, rule_version, series_id,
       coalesce(taken.until + interval '1 microsecond', breached_at)
         + make_interval(secs => (row_number() OVER (PARTITION BY rule_id, series_id, breached_at ORDER BY alert_id) - 1) * 1e-6),
       fired_at, decided_at, value, evidence, class, summary, device_tags, points, late, severity, historical
FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[],
            $8::timestamptz[], $9::float8[], $10::jsonb[], $11::text[], $12::text[], $13::jsonb[], $14::jsonb[],
            $15::bool[], $16::text[], $17::bool[])
  AS new (alert_id, tenant_id, rule_id, rule_version, series_id, breached_at, fired_at, decided_at, value, evidence,
          class, summary, device_tags, points, late, severity, historical)
LEFT JOIN LATERAL (
  -- The last one without a gap behind the first that has this very time.
  SELECT max(a.breached_at) AS until FROM alerts a
  WHERE a.rule_id = new.rule_id AND a.series_id = new.series_id
    AND a.breached_at >= new.breached_at AND a.breached_at < new.breached_at + interval '1 millisecond'
  HAVING min(a.breached_at) = new.breached_at
) AS taken ON true
