"""Networks, and where they are loaded from."""
