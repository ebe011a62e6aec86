"""The stage: camera drivers, the one grab loop, clocks, the simulated rig. Imports only streamer."""
