-- The ratings of MovieLens as `given`, and its titles as `items`. Every line of ratings.csv is a rating.

CREATE TEMP TABLE lines AS
SELECT userId AS user_id, movieId AS item_id, rating AS rating_text, TRY_CAST(rating AS DOUBLE) AS rating,
    make_timestamp(TRY_CAST("timestamp" AS BIGINT) * 1000000) AS rated_at
FROM read_csv(
    getvariable('folder') || '/ratings.csv', header = true, auto_detect = false,
    columns = {'userId': 'VARCHAR', 'movieId': 'VARCHAR', 'rating': 'VARCHAR', 'timestamp': 'VARCHAR'}
);

CREATE TEMP VIEW given AS
SELECT *, rowid + 2 AS line, 'ratings.csv' AS file, NULL::BOOLEAN AS broken FROM lines;

CREATE TEMP TABLE items AS
SELECT movieId AS item_id, trim(regexp_replace(title, '\s+', ' ', 'g')) AS title, genres AS categories
FROM read_csv(getvariable('folder') || '/movies.csv', header = true, all_varchar = true);
