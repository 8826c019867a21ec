-- Notifications that were delivered within the last ten minutes: $1 destinations, $2 tenant id, $3 how many, $4 their body, $5 an
-- answer. Their ids are as ours are: the time in milliseconds first, chance behind it (UUIDv7).
WITH delivered AS (
  SELECT encode(int8send((extract(epoch FROM now()) * 1000)::int8 - 600000 + row::int8 * 600000 / $3::int), 'hex') AS milliseconds,
         md5(row::text) AS chance,
         ($1::uuid[])[1 + row % cardinality($1::uuid[])] AS destination_id
  FROM generate_series(0, $3::int - 1) AS row
), named AS (
  SELECT (substr(milliseconds, 5) || '7' || substr(chance, 1, 3) || '8' || substr(chance, 4, 15))::uuid AS notification_id,
         chance::uuid AS alert_id, destination_id
  FROM delivered
), told AS (
  INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, body)
  SELECT notification_id, $2, alert_id, destination_id, 'opened', $4 FROM named
)
INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, started_at, finished_at, status_code,
  answer, body_sha256)
SELECT notification_id, 1, $2, destination_id, 'delivered', now(), now(), 200, $5, sha256(convert_to($4, 'UTF8'))
FROM named
