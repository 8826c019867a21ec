-- $1 notification, $2 id of the action, $3 who, $4 why, $5 although what comes after it was told; for the tenant of the transaction
SELECT redrive_notification($1, $2, $3, $4, $5)
