"""Sampling from noise or from latents, freely or under CLIP guidance (Kitichotkul, Inkaew, 2021)."""
