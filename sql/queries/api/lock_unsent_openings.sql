-- $1 alert that is over, $2 destinations; for the tenant of the transaction
SELECT notification_id, destination_id FROM lock_unsent_openings($1, $2)
