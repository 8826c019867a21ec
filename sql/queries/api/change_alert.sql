-- $1 alert, $2 new state, $3 who, $4 why or NULL; for the tenant of the transaction
SELECT change_alert($1, $2, $3, $4)
