"""The supervised direction of h: what labels can do without CLIP."""
