-- $1 worker; arrays, in the order of the first: $2 notification ids, $3 attempts, $4 tenant ids, $5 destination ids, $6 started,
-- $7 finished, $8 status codes, $9 warnings, $10 answers, $11 SHA-256, $12 external ids. What its worker still had in flight has
-- left the outbox: that is returned, in one row. It is on record only if that was all of it. BETWEEN, and not =,
-- leaves no plan but to look each row up: one that was made for an empty table could walk over all that is owed.
WITH ended AS (
  DELETE FROM outbox o USING unnest($2::uuid[], $3::int[]) AS f (notification_id, attempt)
  WHERE o.notification_id BETWEEN f.notification_id AND f.notification_id AND o.attempts = f.attempt AND o.status = 'in_flight'
  RETURNING o.notification_id, o.attempts
), gathered AS MATERIALIZED (
  SELECT array_agg(notification_id) AS notification_ids, array_agg(attempts) AS attempts FROM ended
), recorded AS (
  INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id,
    started_at, finished_at, status_code, warning, answer, body_sha256, external_id)
  SELECT notification_id, attempt, tenant_id, destination_id, 'delivered', $1,
    started_at, finished_at, status_code, warning, answer, body_sha256, external_id
  FROM unnest($2::uuid[], $3::int[], $4::int[], $5::uuid[], $6::timestamptz[], $7::timestamptz[], $8::int[], $9::text[], $10::text[],
      $11::bytea[], $12::text[])
    AS f (notification_id, attempt, tenant_id, destination_id, started_at, finished_at, status_code, warning, answer, body_sha256,
          external_id)
  WHERE (SELECT cardinality(g.notification_ids) FROM gathered g) = cardinality($2::uuid[])
)
SELECT notification_ids, attempts FROM gathered
