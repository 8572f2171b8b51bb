"""Judging a judge: gold labels, recorded replies, figures, calibration. Pure: no torch and no model."""
