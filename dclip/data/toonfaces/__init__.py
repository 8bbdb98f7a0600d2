"""ToonFaces: cartoon faces drawn from attributes, so that the true picture of an edit is known."""
