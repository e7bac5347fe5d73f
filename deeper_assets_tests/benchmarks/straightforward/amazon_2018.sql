-- The reviews of an Amazon category of 2018 as `given`, and the titles of its products as `items`.

CREATE TEMP TABLE parsed AS
SELECT reviewerID AS user_id, asin AS item_id, overall AS rating_text, unixReviewTime AS seconds
FROM read_json(
    getvariable('folder') || '/Movies_and_TV.json.gz', format = 'newline_delimited', ignore_errors = true,
    columns = {'reviewerID': 'VARCHAR', 'asin': 'VARCHAR', 'overall': 'VARCHAR', 'unixReviewTime': 'VARCHAR'}
);

-- Of a line that is not JSON, all fields are NULL. It is read again as text: some are Python literals.
CREATE TEMP TABLE texts AS
SELECT rowid AS number, text FROM (
    SELECT row_number() OVER () - 1 AS rowid, text FROM read_csv(
        getvariable('folder') || '/Movies_and_TV.json.gz', header = false, auto_detect = false,
        columns = {'text': 'VARCHAR'}, delim = '\x01', quote = '', escape = ''
    )
) SEMI JOIN (SELECT rowid FROM parsed WHERE user_id IS NULL) USING (rowid);

CREATE TEMP MACRO literal(text, field) AS
    nullif(regexp_extract(text, concat('''', field, ''': "?([^",}]+)'), 1), '');

CREATE TEMP VIEW given AS
SELECT parsed.rowid + 1 AS line, 'Movies_and_TV.json.gz' AS file,
    text IS NOT NULL AND text NOT LIKE '%}' AS broken,
    coalesce(user_id, literal(text, 'reviewerID')) AS user_id,
    coalesce(item_id, literal(text, 'asin')) AS item_id,
    coalesce(rating_text, literal(text, 'overall')) AS rating_text,
    TRY_CAST(coalesce(rating_text, literal(text, 'overall')) AS DOUBLE) AS rating,
    make_timestamp(TRY_CAST(coalesce(seconds, literal(text, 'unixReviewTime')) AS BIGINT) * 1000000)
        AS rated_at
FROM parsed LEFT JOIN texts ON number = parsed.rowid;

CREATE TEMP TABLE items AS
SELECT asin AS item_id, any_value(trim(regexp_replace(title, '\s+', ' ', 'g'))) AS title,
    any_value(category) AS categories
FROM read_json(
    getvariable('folder') || '/meta_Movies_and_TV.json.gz', format = 'newline_delimited',
    columns = {'asin': 'VARCHAR', 'title': 'VARCHAR', 'category': 'VARCHAR'}
) GROUP BY asin;
