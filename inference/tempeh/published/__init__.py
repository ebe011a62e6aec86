"""TEMPEH as published (Bolkart, Li, Black, CVPR 2023, arXiv 2306.07437): both stages, at any size. Lengths in mm.

Written from the facts of the release, not from its code. `inference/tempeh/` beside it is our live network.

    pictures/8 ─► features ─► volume 32³ of 25 mm ─► localiser ─► warped volume ─► V2V ─► soft-argmax ─► coarse vertices
    pictures/4 ─► features ─► 8³ volumes of 2 mm around each vertex, views weighted by visibility and facing ─► V2V
               ─► soft-argmax ─► offset of each vertex

`quirks=True` copies what the released weights were trained with; official checkpoints need all of it. `quirks=False` is
for weights of our own:

| what | quirks | corrected |
|---|---|---|
| normalised picture coordinate of pixel u | 2u/(W-1) - 1, sampled with `align_corners=False` | (2u+1)/W - 1 |
| a point behind a camera | projected all the same; only |z| < 1e-7 is replaced by 1 | outside the picture |
| a view that does not contain a point, coarse stage | counts as zeros in mean and variance | does not count |
| fewer than two views at a point, coarse stage | variance is 0/0: refused | variance is zero |
| grids of even size | -D/2 ... D/2-1 steps about the centre | symmetric about the centre |
| a hidden vertex, refinement | weight factor 0.5 (a sigmoid of 0) | weight factor 0 |
| between the stages | vertices rounded to float32 metres | as they are |

Two more belong to reading pictures and calibrations (`inference/training/famos.py`): distortion that depends on the
resize factor, and a principal point that is one pixel off after turning a portrait picture.
"""
