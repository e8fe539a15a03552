"""The torch side: torch's embedding bag, and transformers' pure torch gated delta rule, OlmoHybrid and Mamba2.

Only this file imports torch.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class PeerMissingError(RuntimeError):
    """torch or transformers is not installed, or would not run the code that this comparison is about."""


def load(threads: int) -> Any:
    """torch, held to `threads` threads. Raises PeerMissingError where it or transformers is absent."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise PeerMissingError(
            f"this comparison needs torch and transformers ({error.name} is missing): run `make bench`, "
            "which makes an environment that has them"
        ) from None
    torch.set_num_threads(threads)
    _check_pure_torch()
    transformers.logging.set_verbosity_error()  # it would advise to install the kernels that are not to be there
    return torch


def _check_pure_torch() -> None:
    """The functions fall back to torch where the packages of their kernels are absent; hold that they are."""
    import importlib.util

    for package in ("fla", "causal_conv1d", "kernels"):
        if importlib.util.find_spec(package):
            raise PeerMissingError(f"transformers would not run its pure torch path: {package} is installed")


def gated_delta_rule(threads: int) -> Callable[[Sequence[np.ndarray], np.ndarray, bool], tuple[Any, Any]]:
    """A function (inputs, output cotangent, differentiate) -> (forward, results).

    `forward()` runs once; `results()` gives its numpy arrays. With `differentiate` a run is forward and backward of
    sum(o * cotangent) + sum(state), and the results are the gradients of q, k, v, log_decay, beta.
    """
    torch = load(threads)
    from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

    def build(inputs, cotangent, differentiate):
        leaves = [torch.from_numpy(np.array(x)).requires_grad_(differentiate) for x in inputs]
        weight = torch.from_numpy(np.array(cotangent))
        last: list[Any] = []

        def run() -> None:
            with torch.set_grad_enabled(differentiate):
                o, state = torch_chunk_gated_delta_rule(*leaves, output_final_state=True)
                last[:] = torch.autograd.grad((o * weight).sum() + state.sum(), leaves) if differentiate else (o, state)

        return run, lambda: [x.numpy() for x in last]

    return build


@dataclasses.dataclass(frozen=True)
class TorchTraining:
    """Attributes:
    step: one update on the batch; returns the loss.
    parameters: their number.
    """

    step: Callable[[], float]
    parameters: int


def olmo_hybrid(threads: int, shape: Any, tokens: np.ndarray, targets: np.ndarray) -> TorchTraining:
    """transformers' OlmoHybrid with the sizes of `shape` (`benchmarks.train_step.Shape`), under AdamW."""
    torch = load(threads)
    from transformers import OlmoHybridConfig, OlmoHybridForCausalLM

    torch.manual_seed(0)
    config = OlmoHybridConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.recurrent + 1,
        layer_types=["linear_attention"] * shape.recurrent + ["full_attention"],
        num_attention_heads=shape.heads,
        linear_num_key_heads=shape.heads,
        linear_num_value_heads=shape.heads,
        linear_key_head_dim=shape.width // shape.heads,
        linear_value_head_dim=shape.width // shape.heads,
        linear_allow_neg_eigval=False,
        tie_word_embeddings=False,
        use_cache=False,
        pad_token_id=None,
        eos_token_id=None,
    )
    model = OlmoHybridForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=shape.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    inputs, labels = (torch.from_numpy(x.astype(np.int64)) for x in (tokens, targets))

    def step() -> float:
        optimizer.zero_grad()
        logits = model(input_ids=inputs).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return TorchTraining(step, sum(parameter.numel() for parameter in model.parameters()))


def mamba2(threads: int) -> Callable[..., tuple[Any, Any]]:
    """transformers' Mamba2 layer, with the contract of `benchmarks.mamba2.build`."""
    torch = load(threads)
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    def build(shape, weights, x, cotangent, differentiate):
        inner = round(shape.expand * shape.width)
        layer = Mamba2Mixer(
            Mamba2Config(
                hidden_size=shape.width,
                expand=round(shape.expand),
                head_dim=shape.head_dim,
                num_heads=inner // shape.head_dim,
                state_size=shape.state_size,
                n_groups=1,
                layer_norm_epsilon=1e-6,
                num_hidden_layers=1,
            ),
            layer_idx=0,
        )
        _copy_mamba2(torch, layer, weights)
        leaves = [torch.from_numpy(np.array(x)).requires_grad_(differentiate)]
        wanted = [*leaves, *layer.parameters()]
        names = ["x", *(name for name, _ in layer.named_parameters())]
        weight = torch.from_numpy(np.array(cotangent))
        last: list[Any] = []

        def run() -> None:
            with torch.set_grad_enabled(differentiate):
                y = layer(leaves[0])
                last[:] = torch.autograd.grad((y * weight).sum(), wanted) if differentiate else [y]

        def results():
            if not differentiate:
                return [last[0].numpy()]
            found = dict(zip(names, last, strict=True))
            return [found["x"].numpy(), found["A_log"].numpy(), found["out_proj.weight"].numpy().T]

        return run, results

    return build


def _copy_mamba2(torch, layer, weights) -> None:
    """Sets the peer's parameters: one joint projection [z, x, B, C, dt] and one convolution over [x, B, C]."""
    joint = lambda names, suffix: np.concatenate([weights[f"{name}/{suffix}"] for name in names], axis=-1)
    convs = ("conv_value", "conv_write", "conv_read")
    values = {
        "in_proj.weight": joint(("gate", "value", "write", "read", "step"), "kernel").T,
        "conv1d.weight": joint(convs, "kernel").T[:, None],
        "conv1d.bias": joint(convs, "bias"),
        "out_proj.weight": weights["output/kernel"].T,
        "norm.weight": weights["norm_scale"],
        "dt_bias": weights["dt_bias"],
        "A_log": weights["A_log"],
        "D": weights["skip"],
    }
    layer.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in values.items()})


def embedding_bag(threads: int) -> Callable[..., tuple[Any, Any]]:
    """torch's embedding bag, weighted sums, with the contract of `benchmarks.value_bag.build`."""
    torch = load(threads)

    def build(arrays, cotangent, differentiate):
        values, weights = (torch.from_numpy(np.array(arrays[i])).requires_grad_(differentiate) for i in (0, 2))
        indices = torch.from_numpy(arrays[1].astype(np.int64))
        weight = torch.from_numpy(np.array(cotangent))
        last: list[Any] = []

        def run() -> None:
            with torch.set_grad_enabled(differentiate):
                o = torch.nn.functional.embedding_bag(indices, values, per_sample_weights=weights, mode="sum")
                last[:] = torch.autograd.grad(o, (values, weights), weight) if differentiate else [o]

        return run, lambda: [x.numpy() for x in last]

    return build
