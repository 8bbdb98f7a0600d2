"""Texts: prompts, how a CLIP reads them, the direction from one to another."""
