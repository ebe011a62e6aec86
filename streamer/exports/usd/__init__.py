"""USD: the only files that know pxr.

stage    a stage as every USD file of ours begins; errors of pxr become ours
points   one mesh, its points sampled over time, in one file or in value clips
skel     UsdSkel: blend shapes and one joint
write    which of them
"""
