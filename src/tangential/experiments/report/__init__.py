"""Reports: run folders or event files in; a table, PNG plots, an HTML page or a server of that page out.

`run_files` and `event_files` read, `comparison` sorts runs into groups, `tables` and `curves` compute what is shown,
`png`, `page` and `server` show it. Nothing here trains or prints. What it reads may come from a stranger: every reader
has bounds, and every name is escaped where it is shown.
"""
