"""FlowVQTalker (Tan et al., 2024): expression and head pose by conditional normalizing flows."""
