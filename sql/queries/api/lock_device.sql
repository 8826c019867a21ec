-- $1 external id. Until the transaction ends nobody else changes it.
SELECT device_id, tags FROM devices WHERE tenant_id = current_tenant_id() AND external_id = $1 FOR NO KEY UPDATE
