"""ONNX Runtime on the CPU: BERT graphs from safetensors, sessions, batches.

Embedding and reranking stand on this package and never on each other.
"""
