"""A run's folder: status, configuration, curves, numbers, pictures."""
