-- arrays: $1 alerts, $2 tenant ids, $3 kinds, $4 happened at, $5 episodes, $6 dispositions, $7 notes; in this order
INSERT INTO alert_events (alert_id, tenant_id, kind, actor, happened_at, episode, disposition, note)
SELECT e.alert_id, e.tenant_id, e.kind, 'detector', e.happened_at, e.episode, e.disposition, e.note
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::int[], $6::text[], $7::text[]) WITH ORDINALITY
  AS e (alert_id, tenant_id, kind, happened_at, episode, disposition, note, place)
ORDER BY e.place
