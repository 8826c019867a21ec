-- An alert owes one notification to each destination that its rule named, if it belongs to the same tenant and was there.
SELECT count(*)
FROM alerts a
JOIN rule_versions v ON v.rule_id = a.rule_id AND v.version = a.rule_version
CROSS JOIN LATERAL jsonb_array_elements_text(v.definition -> 'destination_ids') AS named (destination_id)
JOIN destinations d ON d.destination_id = named.destination_id::uuid AND d.tenant_id = a.tenant_id
WHERE NOT a.historical AND (d.archived_at IS NULL OR d.archived_at > a.opened_at) AND d.created_at <= a.opened_at
  AND NOT EXISTS (SELECT FROM notifications n WHERE n.alert_id = a.alert_id AND n.destination_id = d.destination_id)
