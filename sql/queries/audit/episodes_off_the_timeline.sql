-- Alerts whose timeline does not have each of their episodes once.
SELECT count(*)
FROM alerts a
LEFT JOIN LATERAL (
  SELECT count(*) AS fired, count(DISTINCT e.episode) AS apart, min(e.episode) AS lowest, max(e.episode) AS highest
  FROM alert_events e WHERE e.alert_id = a.alert_id AND e.kind IN ('opened', 'reopened')
) AS line ON true
WHERE (line.fired, line.apart, line.lowest, line.highest) IS DISTINCT FROM (a.episodes::bigint, a.episodes::bigint, 1, a.episodes)
