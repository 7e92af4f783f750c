"""PD-FGC: lips, pose, eyes and expression, each from its own source (Wang et al., CVPR 2023)."""
