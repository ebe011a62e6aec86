"""The mind: frame set to mesh. TEMPEH, its training, engines and the pipeline. Imports only streamer."""
