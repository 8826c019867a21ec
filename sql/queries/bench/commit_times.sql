-- $1 notification ids: when each was committed, as PostgreSQL noted it
SELECT notification_id, pg_xact_commit_timestamp(xid::xid) FROM notifications WHERE notification_id = ANY ($1)
