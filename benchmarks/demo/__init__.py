"""The demo: real images, a real network and a real pruning, small enough for two CPU cores.

It makes data from what scikit-learn ships (handwritten digits pasted on patches of two photographs),
trains a quarter-width VGG-16 on them, prunes its filters and fine-tunes what is left, so that every later
stage (shrink, split, encode, measure, select) has something true to work on without a download.
"""
