"""DataFrames in, matplotlib Figures out: what the studies and the notebooks show of the measurements."""
