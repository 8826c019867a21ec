-- $1 silence
SELECT tenant_id FROM silences WHERE silence_id = $1
