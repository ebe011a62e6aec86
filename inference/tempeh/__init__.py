"""TEMPEH (Bolkart et al., CVPR 2023) at a size that runs live on two CPU cores.

The road of a frame set, lengths in millimetres:

    pictures ──► localiser ──► head pose ──► head crops ──► features ──► head volume ──► coarse head ──► refinement
    ──► vertices
                 (volume of                  (one per view)  (one map     (mean/variance  (3D U-Net,      (surface-aware
                  the stage)                                  per view)    over views)     attention       least squares
                                                                                           soft-argmax)    in the
                                                                                           shape prior)

The networks (`localiser`, `features`, `coarse`) are torch modules that export one ONNX graph each. The geometry
between them (`frames`, `shape`, `refine`, `live`) is numpy in float32 or better: it never rounds, and needs no torch
when live.
"""
