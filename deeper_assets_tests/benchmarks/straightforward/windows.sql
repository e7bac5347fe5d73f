-- From `given` and `items` to `rejected`, `kept` and `windows`, a rule a statement.

CREATE TEMP TABLE repeated AS
SELECT line, true AS again FROM given
WHERE hash(user_id, item_id, rating, rated_at) IN (
    SELECT hash(user_id, item_id, rating, rated_at) AS same FROM given GROUP BY same HAVING count(*) > 1
) QUALIFY row_number() OVER (PARTITION BY user_id, item_id, rating, rated_at ORDER BY line) > 1;

CREATE TEMP TABLE bad AS
SELECT line, user_id, file, CASE
        WHEN broken THEN 'malformed_line'
        WHEN user_id IS NULL THEN 'missing_user'
        WHEN again THEN 'duplicate_row'
        WHEN rated_at IS NULL THEN 'unreadable_time'
        WHEN length(title) > 1000 THEN 'unusable_text'
        WHEN rating IS NULL THEN 'not_a_number'
        WHEN rating < getvariable('step') OR rating > 5 OR rating % getvariable('step') <> 0
        THEN 'outside_scale'
        WHEN coalesce(title, '') = '' THEN 'empty_title'
    END AS reason,
    reason IN ('malformed_line', 'missing_user', 'duplicate_row', 'unreadable_time') AS unplaced
FROM given LEFT JOIN items USING (item_id) LEFT JOIN repeated USING (line)
WHERE reason IS NOT NULL;

CREATE TEMP TABLE slots AS
SELECT user_id, position // 10 AS "window", count(*) FILTER (reason IS NULL) AS usable
FROM (
    SELECT given.user_id, reason,
        row_number() OVER (PARTITION BY given.user_id ORDER BY rated_at, line) - 1 AS position
    FROM given LEFT JOIN bad USING (line) WHERE coalesce(NOT unplaced, true)
) WHERE position < 70 GROUP BY ALL HAVING count(*) = 10;

CREATE TEMP TABLE people AS
SELECT user_id, usable, first_line, file, coalesce(windows, 0) AS windows, CASE
        WHEN coalesce(windows, 0) < 5 THEN 'too_few_windows' WHEN NOT has_first THEN 'no_first_window'
    END AS reason
FROM (
    SELECT given.user_id, any_value(given.file) AS file, min(line) AS first_line,
        count(*) FILTER (reason IS NULL) AS usable
    FROM given LEFT JOIN bad USING (line) WHERE given.user_id IS NOT NULL GROUP BY ALL
) LEFT JOIN (
    SELECT user_id, count(*) AS windows, bool_or("window" = 0) AS has_first
    FROM slots WHERE usable > 0 GROUP BY user_id
) USING (user_id);

-- The hash is that of a JSON list; a first digit below 8 is a share below a half.
CREATE TEMP TABLE sampled AS
SELECT user_id, CASE WHEN hash < '8' THEN 'train' ELSE 'eval' END AS split FROM (
    SELECT user_id, sha256(concat('["0", "', getvariable('domain'), '", "', user_id, '"]')) AS hash
    FROM people WHERE reason IS NULL
) QUALIFY row_number() OVER (PARTITION BY split ORDER BY hash) <= getvariable('users_a_split');

CREATE TEMP TABLE rejected AS
SELECT user_id, line - 1 AS "row", file, line, reason, 1 AS ratings FROM bad
UNION ALL
SELECT user_id, NULL, file, first_line, reason, usable FROM people WHERE reason IS NOT NULL;

CREATE TEMP TABLE kept AS
WITH placed AS (
    SELECT *, CASE
            WHEN NOT unplaced
            THEN row_number() OVER (PARTITION BY user_id, unplaced ORDER BY rated_at, line) - 1
        END AS position
    FROM (
        SELECT given.*, reason, coalesce(unplaced, false) AS unplaced
        FROM given LEFT JOIN (SELECT line, reason, unplaced FROM bad) USING (line)
    ) WHERE user_id IN (SELECT user_id FROM sampled UNION SELECT user_id FROM bad) OR reason IS NOT NULL
)
SELECT line - 1 AS "row", user_id, item_id, left(title, 1000) AS title, categories, rating_text, rating,
    rated_at, position, file, line, reason
FROM placed LEFT JOIN items USING (item_id)
WHERE reason IS NOT NULL OR user_id IN (SELECT user_id FROM sampled);

CREATE TEMP TABLE windows AS
SELECT user_id, split, "window", position % 10 AS place, item_id, title, rating, rated_at
FROM kept JOIN sampled USING (user_id)
JOIN slots ON slots.user_id = kept.user_id AND "window" = position // 10
WHERE reason IS NULL;
