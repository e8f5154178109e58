"""Models as folders: where they come from, how the small ones are built, and how the reward models score."""
