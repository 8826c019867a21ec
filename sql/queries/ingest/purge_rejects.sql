-- $1 days, $2 rows a tenant
DELETE FROM rejected_readings r
USING (SELECT rejected_id, received_at,
              row_number() OVER (PARTITION BY tenant_id ORDER BY rejected_id DESC) AS newer
       FROM rejected_readings) AS ranked
WHERE r.rejected_id = ranked.rejected_id
  AND (ranked.received_at < now() - make_interval(days => $1::bigint::int) OR ranked.newer > $2::bigint)
