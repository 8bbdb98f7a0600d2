"""Asyrp: an edit of the middle of the network, by an asymmetric step (Kwon et al., ICLR 2023)."""
