"""Networks that no package has in the form the recipes need."""
