"""From result files to tables, figures, claims and the report."""
