"""Speed and memory of memjax, next to its peers: `make bench`, or `python -m benchmarks [NAME ...]`.

    op          the gated delta rule against the pure torch one of transformers (Qwen3-Next), forward and gradient
    linear_scan the gradient of the linear scan against autodiff through jax.lax.associative_scan
    mamba2      Mamba2's layer against the pure torch one of transformers, forward and gradient
    mixture     mixture-of-memories against one Gated DeltaNet, 8 memories against 4, packed against masked dense
    value_bag   weighted sums of a table's rows against torch's embedding bag, forward and dense gradient
    train_step  a training step of a small hybrid against OlmoHybrid of transformers, tokens per second
    linearity   how the time of the op's gradient grows from 1024 to 8192 tokens
    memory      temporary bytes of the op's gradient, from the compiler

Both libraries run in one process on the same two CPU cores, one call of one and then one of the other, round by round,
so that a change of clock or load meets both; medians are compared. Torch's pool sleeps while XLA computes and the other
way round.
"""
