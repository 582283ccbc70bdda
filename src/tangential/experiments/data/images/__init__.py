"""Images and their classes: in memory (`mnist_cifar`, `digits`, `omniglot`) or as files in folders, and retrieval sets.

One reader of image files (`decoding`) serves all of them, and `boxes` too. Augmentation, samplers and dataloaders of
images are here; losses and scores are not, they belong to `tasks`.
"""
