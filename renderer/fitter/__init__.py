"""The fitter: radiance fields of takes, after NeRSemble (Kirschstein et al., SIGGRAPH 2023), and the queue of fits."""
