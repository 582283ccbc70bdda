"""The command line: one module to a command. The only place that prints."""
