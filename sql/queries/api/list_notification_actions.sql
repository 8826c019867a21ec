-- $1 notification, as text. What people did to it.
SELECT at, actor, action, reason FROM admin_actions WHERE target = $1 ORDER BY action_id
