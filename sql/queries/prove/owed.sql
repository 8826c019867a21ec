SELECT (SELECT count(*) FROM flushes), (SELECT count(*) FROM outbox)
