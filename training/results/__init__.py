"""Results: evaluation, export, reports and plots."""
