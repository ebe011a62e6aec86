"""CUDA kernels: sources that nvcc compiles for a GPU, and a C++ compiler for the tests. See `compile`."""
