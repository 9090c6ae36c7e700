"""One pruning algorithm a file; `pruning.make_algorithm` finds them by name."""
