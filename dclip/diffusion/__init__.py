"""The diffusion core: schedule, sampling, noise, mixtures."""
