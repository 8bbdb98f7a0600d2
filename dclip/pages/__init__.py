"""HTML pages: report, preference, demo."""
