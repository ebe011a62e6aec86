"""The published network on a CUDA device: TensorRT for its nets, kernels for what is between them. See docs/gpu.md."""
