-- $1 notifications that left the outbox in this transaction
SELECT release_waiting($1)
