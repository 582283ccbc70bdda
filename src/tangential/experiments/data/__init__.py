"""Data sets: frozen settings that find, read and decode their files, and generated ones that need none.

A folder a medium: `images`, `boxes` (annotated images), `sounds`, `text`. Beside them is what all share: where data
lie and how archives are unpacked (`locations`), how folders and lists are read (`files`), the cache of
decoded data (`cache`), fingerprints of data (`fingerprint`), and how damage is reported (`faults`). No task, no net and
no training here; a data set is known to them by `load(split)`, which gives a `torch.utils.data.Dataset` or a tensor of
tokens. A reader never passes over damage: its outcome is the right value, an error that names the file, or a warning
that counts and names.
"""
