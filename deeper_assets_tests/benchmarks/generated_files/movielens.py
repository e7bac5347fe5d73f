"""MovieLens, as ml-latest-small is: `ratings.csv` and `movies.csv`, lines that end in CR LF."""

from pathlib import Path

import duckdb

from deeper_assets_tests.benchmarks.generated_files.writing import by_share, histories, write_lines

FEWEST, MOST = 20, 2_698
"""Ratings of a user: the publisher left out whoever has fewer; the most in ml-latest-small."""

LOG_MEAN, LOG_DEVIATION = 3.87, 1.63
"""Of the logarithm of a user's ratings less 19 in ml-latest-small (median of the ratings 70, mean 165)."""

LEAST_MEAN = 120

MOVIES = 27_278
"""In MovieLens 20M."""

SHARES = (
    *(("0.5", 0.0136), ("1.0", 0.0279), ("1.5", 0.0178), ("2.0", 0.0749), ("2.5", 0.0550)),
    *(("3.0", 0.1988), ("3.5", 0.1303), ("4.0", 0.2660), ("4.5", 0.0848), ("5.0", 0.1310)),
)
"""Of each mark in ml-latest-small."""

RETURNING = 0.25
"""Of the users, who come back after months; in ml-latest-small half of all rate for less than 80 minutes."""

WITH_COMMA, WITH_QUOTE, WITHOUT_YEAR = 2_079 / 9_742, 16 / 9_742, 13 / 9_742
"""Of the titles in ml-latest-small. One with comma or quotation mark is quoted."""

SAME_TITLE = 5 / 9_742
"""Of the movies in ml-latest-small: another one has the same title."""

_GENRES = [
    *("Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
]


def write_movielens(connection: duckdb.DuckDBPyConnection, rows: int, folder: Path) -> None:
    """`rows` ratings: each user's together, by movie, no movie twice; times in whole epoch seconds."""
    more = f"ceil(exp({LOG_MEAN} + {LOG_DEVIATION} * normal('ratings', u)))"
    histories(connection, rows, f"least({MOST}, {FEWEST - 1} + {more})", LEAST_MEAN)
    # A movie is k more than a number that does not fall with k, so none comes twice; low ones are rated most.
    # On a visit a user takes some seconds for a rating; who returns comes for seven visits.
    write_lines(
        connection,
        folder / "ratings.csv",
        f"""
        SELECT concat_ws(',', u,
            1 + k + floor(({MOVIES} - n) * pow((k + uniform('movie', u, k)) / n, 5))::BIGINT,
            {by_share(SHARES, "uniform('rating', u, k)")},
            830000000 + below(700000000, 'first', u)
                + CASE WHEN uniform('returns', u) < {RETURNING} THEN below(7, 'visit', u, k) ELSE 0 END
                    * 8000000
                + floor(exp(2 + 1.6 * normal('pace', u)) * n * uniform('second', u, k))::BIGINT
        ) || chr(13) FROM (SELECT u, n, unnest(range(n)) AS k FROM histories)""",
        header="userId,movieId,rating,timestamp\r",
    )
    write_lines(
        connection,
        folder / "movies.csv",
        f"""
        SELECT concat_ws(',', id,
            CASE WHEN regexp_matches(title, '[,"]') THEN concat('"', replace(title, '"', '""'), '"')
                ELSE title END,
            array_to_string(list_sort(list_distinct(list_transform(
                range(1 + below(4, 'genres', id)), lambda k: chosen({_GENRES}, 'genre', id, k)))), '|')
        ) || chr(13) FROM (
            SELECT id, concat(
                replace(name(phrases, m), '"Wow",', 'Wow'), ' ', code(m)[5:],
                CASE WHEN uniform('comma', m) < {WITH_COMMA} THEN ', The' END,
                CASE WHEN uniform('quote', m) < {WITH_QUOTE} THEN ' "The Return"' END,
                CASE WHEN uniform('year', m) >= {WITHOUT_YEAR} THEN printf(' (%d)', 1920 + m % 99) END
            ) AS title FROM phrases, (
                SELECT id, id - CASE WHEN id > 1 AND uniform('same', id) < {SAME_TITLE} THEN 1 ELSE 0 END AS m
                FROM range(1, {MOVIES + 1}) AS r(id)
            )
        )""",
        header="movieId,title,genres\r",
    )
