"""The live viewer: head, camera pictures with the mesh over them, and figures on one screen.

`state`, `controls`, `layout` and `hud` are pure; `scene` and what it draws with need OpenGL 3.3; `app` is the process.
Nothing here imports torch.
"""
