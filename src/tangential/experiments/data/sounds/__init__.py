"""Sounds and their classes or tags: readers of the published data sets, decoding, and windows of one length.

One reader of sound files (`decoding`) serves all data sets. Spectrograms are part of the nets, not of the data.
"""
