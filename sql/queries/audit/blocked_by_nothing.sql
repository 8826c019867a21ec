-- Notifications that wait for what is not owed, or wait by one table and not by the other.
SELECT (SELECT count(*) FROM outbox_blocked b
        LEFT JOIN outbox waiting ON waiting.notification_id = b.notification_id
        WHERE waiting.next_attempt_at IS DISTINCT FROM 'infinity'
           OR NOT EXISTS (SELECT FROM outbox o WHERE o.notification_id = b.after_id))
     + (SELECT count(*) FROM outbox o
        WHERE o.next_attempt_at = 'infinity'
          AND NOT EXISTS (SELECT FROM outbox_blocked b WHERE b.notification_id = o.notification_id))
