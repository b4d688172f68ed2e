"""Side-by-side performance runs: each figure is a ratio against something in the same run."""
