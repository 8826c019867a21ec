-- $1 alerts whose old breach turned out to burn still: they page after all
WITH promoted AS (
  UPDATE alerts SET historical = false WHERE alert_id = ANY ($1::uuid[]) AND historical RETURNING alert_id, tenant_id
)
INSERT INTO alert_events (alert_id, tenant_id, kind, actor) SELECT alert_id, tenant_id, 'still_burning', 'detector' FROM promoted
