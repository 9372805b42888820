"""Picture files: the parts of each format that carry pixels."""
