-- Attempts whose leases ran out: nobody knows what became of them. Arrays: $1 notification ids, $2 attempts, $3 tenant ids,
-- $4 destination ids, $5 workers, $6 started
INSERT INTO delivery_attempts (notification_id, attempt, tenant_id, destination_id, outcome, worker_id, started_at, error)
SELECT notification_id, attempt, tenant_id, destination_id, 'unknown', worker_id, started_at,
       'the lease ran out and nobody said what became of it'
FROM unnest($1::uuid[], $2::int[], $3::int[], $4::uuid[], $5::uuid[], $6::timestamptz[])
  AS f (notification_id, attempt, tenant_id, destination_id, worker_id, started_at)
