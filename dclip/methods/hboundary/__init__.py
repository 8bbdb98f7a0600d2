"""The supervised boundary in h: a hyperplane between true edited pictures and their sources."""
