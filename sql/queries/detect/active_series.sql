-- $1 tenants, $2 metrics: whatever is not at rest, and the series of these metrics
SELECT series_id FROM rule_state
UNION
SELECT s.series_id FROM unnest($1::int[], $2::text[]) AS silent (tenant_id, metric)
JOIN series s ON s.tenant_id = silent.tenant_id AND s.metric = silent.metric
