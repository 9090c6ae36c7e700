"""Measured comparisons with other runtimes, on single layers and on whole networks."""
