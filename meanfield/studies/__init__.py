"""Studies: each module asks one question over a grid of runs, which `engine` runs and `store` keeps."""
