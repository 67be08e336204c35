"""How good a prediction is where there is no reference: agreement, shape, calibration. Shared by infer, metrics and statistics."""
