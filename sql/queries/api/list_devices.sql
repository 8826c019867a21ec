-- $1 external id as LIKE has it, $2 name of a tag, $3 its value, $4 behind this external id; NULL: any. $5 rows at most
SELECT d.external_id, d.tags, d.first_seen, d.last_seen,
       ARRAY(SELECT s.metric FROM series s WHERE s.device_id = d.device_id ORDER BY s.metric) AS metrics
FROM devices d
WHERE ($1::text IS NULL OR d.external_id LIKE $1)
  AND ($2::text IS NULL OR d.tags ? $2)
  AND ($3::text IS NULL OR d.tags ->> $2 = $3)
  AND ($4::text IS NULL OR d.external_id > $4)
ORDER BY d.external_id
LIMIT $5
