"""The configuration, the runs it asks for, and the questions that the DAG asks."""
