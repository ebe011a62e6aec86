"""Calibration: from pictures of a board, or of a tracked head, to cameras one can trust, or to what is wrong."""
