"""Training runs: state, checkpoints, progress and distribution over processes."""
