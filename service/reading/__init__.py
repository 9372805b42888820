"""Pictures: the bytes of an upload to one MNIST-like image."""
