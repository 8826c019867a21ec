-- $1 worker; one that still has rows in flight is left to expire, and is rescued from
DELETE FROM workers w WHERE worker_id = $1
  AND NOT EXISTS (SELECT FROM outbox o WHERE o.leased_by = w.worker_id AND o.status = 'in_flight')
