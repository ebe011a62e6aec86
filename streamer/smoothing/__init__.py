"""Filters over time for meshes, poses and weights: pure, time is an argument.

zero_phase  offline: looks both ways, adds no lag
one_euro    live: looks back only, gives lag for calm where the head rests
"""
