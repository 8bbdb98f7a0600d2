"""Where images come from: folders, and the embedded ToonFaces."""
