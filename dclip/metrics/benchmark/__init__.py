"""ToonFaces-CF: edits of drawn faces by anybody's method, scored against the true pictures."""
