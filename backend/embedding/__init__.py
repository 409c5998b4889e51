"""Text to vectors: dense ones from an ONNX model, sparse ones for BM25."""
