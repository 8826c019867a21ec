-- $1 notifications that this transaction claimed, and that were accepted before, as a late answer said: nothing is sent again
DELETE FROM outbox WHERE notification_id = ANY ($1)
