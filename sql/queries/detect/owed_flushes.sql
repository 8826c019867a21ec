-- $1 floor, $2 judged and not settled, $3 readings: whole flushes until they have that many
SELECT flush_id, flushed_at, batch
FROM (
  SELECT flush_id, flushed_at, batch, sum(readings) OVER (ORDER BY flush_id) - readings AS readings_before
  FROM flushes
  WHERE flush_id > $1 AND flush_id <> ALL ($2::bigint[]) AND quarantine_reason IS NULL
  ORDER BY flush_id
  LIMIT 2000
) AS owed
WHERE readings_before < $3
ORDER BY flush_id
