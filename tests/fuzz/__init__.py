"""Generated inputs: for pytest by hypothesis, and by the million with `python -m tests.fuzz`."""
