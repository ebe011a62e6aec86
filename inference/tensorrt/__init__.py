"""TensorRT without a GPU: graphs in strongly typed float16, plans, and the compiler of TensorRT-RTX as a check."""
