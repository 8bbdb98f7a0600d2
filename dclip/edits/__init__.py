"""Learned edits: their file, their header, and how they are applied."""
