-- $1 tenant ids (NULL: unknown), $2 subjects, $3 reasons, $4 details, $5 payloads
INSERT INTO rejected_readings (tenant_id, subject, reason, detail, payload)
SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::bytea[])
