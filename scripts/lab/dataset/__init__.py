"""Records as a data set: one flat table with a dictionary of its fields, as CSV and as Parquet. The command is __main__."""
