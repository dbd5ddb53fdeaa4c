"""The site: the report's verdicts, boards, heads, times and videos, and every record behind them, as pages that a browser
opens from disk. From records, pictures of the report and videos' pictures alone. The command is __main__."""
