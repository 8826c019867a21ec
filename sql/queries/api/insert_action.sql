-- $1 id of the action, $2 who, $3 did what, $4 to what, $5 why or how; for the tenant of the transaction
INSERT INTO admin_actions (action_id, tenant_id, actor, action, target, reason)
VALUES ($1, current_tenant_id(), $2, $3, $4, $5)
