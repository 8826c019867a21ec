SELECT (SELECT count(*) FROM outbox WHERE status = 'retrying'),
       (SELECT count(*) FROM dead_letters WHERE abandoned_at IS NULL)
