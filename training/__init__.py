"""The offline training job: logistic regression by gradient descent, by hand."""
