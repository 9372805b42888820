"""The digit-classification service: reads uploads, answers with probabilities."""

__version__ = "0.2.0"
