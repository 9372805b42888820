"""The design matrix: features, augmentation and batches of rows."""
