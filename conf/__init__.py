"""Hydra configuration of npas: a package so that an installed npas finds its YAML files."""
