"""The report of a comparison: what run folders hold, as a table, plots and an HTML page; it computes with no torch."""
