-- $1 ids, $2 tenant id, $3 names, $4 metric, $5 devices: a JSON array each, $6 conditions, $7 destinations of all of them
INSERT INTO rules (rule_id, tenant_id, name, metric, device_ids, condition, severity, destination_ids)
SELECT n.id, $2, n.name, $4, ARRAY(SELECT jsonb_array_elements_text(n.devices)), n.condition, 'warning', $7
FROM unnest($1::uuid[], $3::text[], $5::jsonb[], $6::jsonb[]) AS n (id, name, devices, condition)
