"""CLIP-guided latent optimisation: the latent moves, the networks stay."""
