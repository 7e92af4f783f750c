"""VAST: expressive facial style from a video prompt, and a hybrid decoder (Chen et al., 2023)."""
