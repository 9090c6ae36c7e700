"""Command line of npas: one module a stage, and what they share."""
