"""The eye: the live viewer (moderngl). Imports only streamer."""
