"""The report: verdicts, tables and plots from records and the paper's printed numbers alone. The command is __main__."""
