"""What is measured, and how good the embedded networks are."""
