-- $1 notifications that left the outbox in this transaction
SELECT CASE WHEN EXISTS (SELECT FROM outbox_blocked) THEN release_waiting($1) END
