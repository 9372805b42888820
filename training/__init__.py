"""The offline training job: logistic regression by hand-written gradient descent."""
