-- $1 series ids
SELECT DISTINCT tenant_id FROM series WHERE series_id = ANY ($1::int[])
