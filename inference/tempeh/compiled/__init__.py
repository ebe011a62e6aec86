"""The published network on the CPU without torch: compiled convolutions, sampling, attention and depth test."""
