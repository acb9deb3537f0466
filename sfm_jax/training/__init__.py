"""Training of any task, on any number of devices. Knows nothing of faces."""
