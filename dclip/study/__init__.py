"""Studies: grids and searches of runs, and their tables."""
