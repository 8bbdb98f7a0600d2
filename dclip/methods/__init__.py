"""What is done with a model: fine-tuning, walking, pre-training."""
