"""Reading of pictures: from the bytes of an upload to one MNIST-like image."""
