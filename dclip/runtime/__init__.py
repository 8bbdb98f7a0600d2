"""What a run computes on: device, Lightning's trainer, progress, processes."""
