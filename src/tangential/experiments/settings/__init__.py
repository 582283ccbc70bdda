"""Settings of a recipe: how they are overridden, bounded, and written to `settings.json`. No torch here."""
