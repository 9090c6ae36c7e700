"""One sparsity structure a file; `pruning.make_scheme` finds them by name."""
