SELECT CASE WHEN late THEN outcome || ' (late)' ELSE outcome END AS what, count(*)
FROM delivery_attempts GROUP BY what ORDER BY what
