"""Training of the networks from takes. Never sees a camera: simulated and real takes go the same road."""
