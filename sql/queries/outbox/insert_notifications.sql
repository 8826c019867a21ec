-- $1 ids, $2 tenant ids, $3 alert ids, $4 destination ids, $5 events, $6 episodes, $7 bodies
INSERT INTO notifications (notification_id, tenant_id, alert_id, destination_id, event, episode, body)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::text[], $6::int[], $7::text[])
