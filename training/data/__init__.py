"""Data sets: MNIST, .npy folders, tutorial pickles and synthetic digits."""
