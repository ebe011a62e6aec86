"""Measuring: a model held against true meshes or raw scans, by region, with the curve and the table."""
