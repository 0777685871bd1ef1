"""Questions asked of trained networks: what happens to the loss when neurons are dropped, or along a path."""
