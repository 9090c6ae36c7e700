"""Runners, one a file; `latency_model.runner.make_runner` finds them."""
