"""The training-free mesh animator: the portrait's own pixels, moved by the fitted face."""
