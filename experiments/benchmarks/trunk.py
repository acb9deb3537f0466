"""A training step of ResNet-18, against the same network in PyTorch; in one process, in alternating rounds.

    pip install torch==2.13.0      # a CPU build, into an environment of its own
    python -m experiments.benchmarks.trunk

Pre-activation, 112 pixels, batches of 32, forward and backward in float32, two threads each. Writes
experiments/results/trunk.{json,md}, with the other trunks' times for comparison. The target is at least 0.9 times
PyTorch's photos a second; the second table says where the time goes: each convolution by itself, in both.
"""

import functools
import os

# Or PyTorch's idle threads spin on the processors that the other needs: beside other work, three times slower.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from experiments.benchmarks.timing import medians  # noqa: E402
from experiments.results import machine, markdown_table, write_result  # noqa: E402
from sfm_jax.networks.trunk import create_trunk  # noqa: E402

BATCH, SIZE, ROUNDS, THREADS = 32, 112, 10, 2
TRUNKS = ("resnet18", "recognition", "compact", "mobile")
CONVOLUTIONS = {  # (side of the input, channels in, channels out, kernel, stride) -> how many of it ResNet-18 has
    (112, 3, 64, 7, 2): 1, (28, 64, 64, 3, 1): 4, (28, 64, 128, 3, 2): 1, (14, 128, 128, 3, 1): 3,
    (14, 128, 256, 3, 2): 1, (7, 256, 256, 3, 1): 3, (7, 256, 512, 3, 2): 1, (4, 512, 512, 3, 1): 3,
}
PARTS = ("forward", "gradient of the input", "gradient of the kernel")


def main():
    images = np.random.default_rng(0).uniform(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    contenders = {"PyTorch resnet18": torch_step(images)} | {name: jax_step(name, images) for name in TRUNKS}
    seconds = medians(contenders, ROUNDS)
    profile = {part: {"jax": 0.0, "PyTorch": 0.0} for part in PARTS}
    for shape, count in CONVOLUTIONS.items():
        for (part, name), value in medians(convolution(*shape), ROUNDS).items():
            profile[part][name] += count * value
    values = {"machine": machine(), "seconds": seconds,
              "ratio": seconds["PyTorch resnet18"] / seconds["resnet18"], "profile": profile}
    write_result("trunk", values, table(values))
    print(table(values))


def table(values: dict) -> str:
    rows = [[name, f"{1e3 * value:.0f} ms", f"{BATCH / value:.0f}"] for name, value in values["seconds"].items()]
    rows.append(["resnet18 over PyTorch's", "", f"{values['ratio']:.2f}"])
    steps = markdown_table([f"Training step of {BATCH} photos, {SIZE} pixels", "median", "photos a second"], rows)
    convolutions = markdown_table(
        ["The 3x3 and 7x7 convolutions of ResNet-18", "jax", "PyTorch", "jax over PyTorch"],
        [[part, *(f"{1e3 * value:.0f} ms" for value in both.values()), f"{both['jax'] / both['PyTorch']:.2f}"]
         for part, both in values["profile"].items()])
    return f"{steps}\n\n{convolutions}"


def convolution(side: int, inputs: int, outputs: int, size: int, stride: int) -> dict:
    """{(part, "jax" or "PyTorch"): function} of one convolution of BATCH maps and of its two gradients."""
    import torch

    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, side, side, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs, outputs)).astype(np.float32)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(size // 2, size // 2)] * 2,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))

    y = jax.device_put(rng.normal(size=jax.eval_shape(convolve, x, kernel).shape).astype(np.float32))
    ours = {
        "forward": jax.jit(convolve),
        "gradient of the input": jax.jit(lambda x, kernel: jax.vjp(lambda x: convolve(x, kernel), x)[1](y)[0]),
        "gradient of the kernel": jax.jit(lambda x, kernel: jax.vjp(lambda k: convolve(x, k), kernel)[1](y)[0]),
    }
    theirs_x, theirs_y = (torch.from_numpy(np.array(value)).permute(0, 3, 1, 2).contiguous(
        memory_format=torch.channels_last) for value in (x, y))
    theirs_kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    options = {"stride": stride, "padding": size // 2}
    theirs = {
        "forward": lambda: torch.nn.functional.conv2d(theirs_x, theirs_kernel, **options),
        "gradient of the input": lambda: torch.nn.grad.conv2d_input(theirs_x.shape, theirs_kernel, theirs_y, **options),
        "gradient of the kernel": lambda: torch.nn.grad.conv2d_weight(theirs_x, theirs_kernel.shape, theirs_y,
                                                                      **options),
    }
    placed = jax.device_put((x, kernel))
    functions = {(part, "jax"): functools.partial(ours[part], *placed) for part in PARTS}
    return functions | {(part, "PyTorch"): theirs[part] for part in PARTS}


def jax_step(name: str, images: np.ndarray):
    """A function that takes a step: the gradient of every parameter, and the new batch statistics."""
    module = create_trunk(name)
    images = jnp.asarray(images)
    state = jax.jit(module.init, static_argnames="train")(jax.random.key(0), images, train=False)

    @jax.jit
    def step(params, batch_stats):
        def loss(params):
            variables = {"params": params, "batch_stats": batch_stats}
            features, changed = module.apply(variables, images, train=True, mutable=["batch_stats"])
            return jnp.mean(features.pooled**2), changed

        return jax.value_and_grad(loss, has_aux=True)(params)

    return lambda: step(state["params"], state["batch_stats"])


def torch_step(images: np.ndarray):
    """The same of the same network, in PyTorch."""
    try:
        import torch
    except ImportError:
        raise SystemExit("PyTorch is missing: pip install torch==2.13.0, into an environment of its own") from None
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network = torch_resnet18(torch).to(memory_format=torch.channels_last).train()
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def step():
        network.zero_grad(set_to_none=True)
        (network(2 * batch - 1) ** 2).mean().backward()

    return step


def torch_resnet18(torch):
    """networks.resnet.ResNet of depth 18, pre-activated, layer by layer."""
    nn = torch.nn

    def conv(inputs, outputs, size, stride):
        return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)

    class Unit(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.first = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
            self.rest = nn.Sequential(conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs), nn.ReLU(),
                                      conv(outputs, outputs, 3, 1))
            self.shortcut = conv(inputs, outputs, 1, stride) if stride > 1 else None

        def forward(self, x):
            y = self.first(x)
            return (x if self.shortcut is None else self.shortcut(y)) + self.rest(y)

    layers = [conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    width = 64
    for stage in range(4):
        for unit in range(2):
            layers.append(Unit(width, 64 * 2**stage, 2 if stage and not unit else 1))
            width = 64 * 2**stage
    return nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


if __name__ == "__main__":
    main()
