"""DiffusionCLIP: fine-tune the reverse process (Kim, Kwon, Ye, CVPR 2022)."""
