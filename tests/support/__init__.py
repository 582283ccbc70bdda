"""Helpers that several tests share. No test lives here, and no helper in a test file is imported from elsewhere."""
