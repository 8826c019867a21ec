-- arrays: $1 ids, $2 alerts, $3 destinations, $4 events, $5 episodes, $6 lane classes, $7 bodies, $8 what supersedes them or NULL; $9 owed so
-- far and never sent, $10 what tells it in their stead; for the tenant of the transaction
SELECT owe_notifications($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
