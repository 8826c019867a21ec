-- Episodes that are on record as told and were not told to each destination that the rule named and that was there, of the
-- same tenant: by a notice of its own or by one that tells of many alerts. The first episode fired by the version of the rule
-- that the alert keeps; a later one by that or one since.
SELECT count(*)
FROM alert_events e
JOIN alerts a ON a.alert_id = e.alert_id
WHERE e.kind IN ('opened', 'reopened') AND e.disposition IN ('notified', 'grouped')
  AND e.at >= (SELECT starts_at FROM history)
  AND NOT EXISTS (
    SELECT FROM rule_versions v
    WHERE v.rule_id = a.rule_id
      AND (v.version = a.rule_version OR e.kind = 'reopened' AND v.version > a.rule_version AND v.changed_at <= e.at)
      AND NOT EXISTS (
        SELECT FROM jsonb_array_elements_text(v.definition->'destination_ids') AS named (id)
        JOIN destinations d ON d.destination_id = named.id::uuid AND d.tenant_id = e.tenant_id
        WHERE d.created_at <= e.at AND (d.archived_at IS NULL OR d.archived_at > e.at)
          AND NOT EXISTS (
            SELECT FROM notifications n
            WHERE n.alert_id = e.alert_id AND n.episode = e.episode AND n.destination_id = d.destination_id
              AND n.event IN ('opened', 'reopened', 'still_burning'))
          AND NOT EXISTS (
            SELECT FROM notification_alerts t JOIN notifications n USING (notification_id)
            WHERE t.alert_id = e.alert_id AND t.episode = e.episode AND n.destination_id = d.destination_id)))
