"""The digit-classification service: reads uploads, answers with probabilities."""

__version__ = "0.1.0"
