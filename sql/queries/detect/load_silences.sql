-- One that ended is needed as long as a breach of its time may still be judged.
SELECT silence_id, tenant_id, rule_id, device_pattern, device_tags, starts_at, ends_at
FROM silences WHERE ends_at > now() - interval '2 days'
