"""Settings of a recipe: overrides from the command line, lower bounds, and their record in `settings.json`.

Plain Python: no torch, no files, and nothing about the meaning of a setting.
"""
