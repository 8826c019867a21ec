-- $1 notification. A late record stands behind the attempt it completes.
SELECT attempt, late, destination_id, outcome, worker_id, started_at, finished_at, status_code,
       error, warning, answer, encode(body_sha256, 'hex') AS body_sha256, external_id, recorded_at, xid::text AS xid
FROM delivery_attempts
WHERE notification_id = $1
ORDER BY attempt, late
