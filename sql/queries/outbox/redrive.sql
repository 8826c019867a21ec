-- $1 notification, $2 id of the action, $3 who, $4 why; for the tenant of the transaction
SELECT redrive_notification($1, $2, $3, $4)
