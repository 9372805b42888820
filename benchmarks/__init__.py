"""Benchmarks: one command for every measured figure in the documentation."""
