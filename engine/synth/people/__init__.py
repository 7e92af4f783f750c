"""People who do not exist: looks drawn by chance, rendered with full ground truth."""
