"""h-Edit: a training-free edit by a reward, along noise maps (Nguyen et al., CVPR 2025)."""
