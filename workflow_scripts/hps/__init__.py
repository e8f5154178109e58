"""HPS-Replica: Hard Preference Sampling (arXiv 2502.14400v5), from data to tables.

The scripts beside this package are the workflow's commands; the package is what they call.
"""
