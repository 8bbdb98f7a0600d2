"""From images to latents."""
