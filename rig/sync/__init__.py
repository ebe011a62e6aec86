"""Time of the cameras: device ticks to shared nanoseconds, and what the skew between cameras truly is."""
