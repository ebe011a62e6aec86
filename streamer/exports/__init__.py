"""Meshes of a take -> files of other programs (docs/export.md).

options     what can be asked for
presets     axes and unit per program and format
timeline    when each sample stands; pure
stabilise   the motion of the skull taken out; pure
motion      the samples of a take, one at a time
morphs      a performance as shapes and weights
placing     whole or not at all
export      the front: one format after the other
npz obj caches weights gltf (glb) alembic usd/ nersemble     one format each
"""
