"""The command line: a module for each command, which is imported only when that command runs; nothing else prints.

`app` turns the arguments into a command and its failure into one line and an exit code; `terminal` is the one way to
standard output and standard error; `options` has the options that commands share. No computation: that lives below.
"""
