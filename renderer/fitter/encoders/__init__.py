"""Lookups in multi-resolution hash grids, behind one contract (`renderer.fitter.encoders.base`)."""
