"""Benchmarks of training and scoring, measured side by side in one run: see bench.py."""
