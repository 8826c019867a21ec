-- $1 device, $2 its tags
UPDATE devices SET tags = $2 WHERE device_id = $1
