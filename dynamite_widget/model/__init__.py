"""The network: configuration, parts, checkpoints, and `Predictor` around it."""
