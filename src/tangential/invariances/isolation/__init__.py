"""Isolation of an analysis from what is the user's: the float64 copy, and state that is put back bit for bit.

Here belongs what copies, records and restores. What is computed with the copy does not; nor does anything that decides
whether a weight is invariant.
"""
