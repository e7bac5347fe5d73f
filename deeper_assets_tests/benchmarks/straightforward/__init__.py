"""The same windows by bare DuckDB statements and by a script in pandas, as one writes them for one source."""
