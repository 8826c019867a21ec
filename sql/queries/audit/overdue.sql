SELECT count(*)
FROM outbox o JOIN destinations d USING (destination_id)
WHERE coalesce(o.leased_until, o.next_attempt_at) < now() - interval '1 minute' AND d.state = 'active'
