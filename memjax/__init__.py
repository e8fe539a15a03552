"""Memory architectures that scale, in JAX: ops, layers, mixers, models, tasks, data, training, evaluation."""

__version__ = "0.1.0"
