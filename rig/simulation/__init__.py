"""The simulated rig: a parametric head that performs in front of calibrated cameras, with the true mesh known."""
