"""The digit-classification service: reads uploads, answers with probabilities."""
