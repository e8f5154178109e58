"""What a run will cost: operations, memory, hours."""
