-- arrays: $1 rules, $2 series ids, $3 since, $4 until: the alerts of each that began in that time, and the last before
SELECT a.alert_id, a.rule_id, a.series_id, a.breached_at, coalesce(a.fired_at, a.breached_at) AS fired_at,
       coalesce(a.ended_at, a.resolved_at) AS ended_at
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[]) AS wanted (rule_id, series_id, since, until)
CROSS JOIN LATERAL (
  (SELECT * FROM alerts
   WHERE rule_id = wanted.rule_id AND series_id = wanted.series_id AND breached_at > wanted.since AND breached_at <= wanted.until)
  UNION ALL
  (SELECT * FROM alerts
   WHERE rule_id = wanted.rule_id AND series_id = wanted.series_id AND breached_at <= wanted.since
   ORDER BY breached_at DESC LIMIT 1)
) AS a
