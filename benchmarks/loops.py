"""Training loops of others, to compare ours with: one epoch each.

features (n, D) and weight (D, K) float32, labels (n,) -> weight (D, K), bias (K,)
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Learned = tuple[Tensor, Tensor]
BATCH, RATE = 64, 0.5


def article(features: Tensor, labels: Tensor, weight: Tensor) -> Learned:
    """Train with exactly the operations of the tutorial's loop."""
    w = weight.clone().requires_grad_()
    b = torch.zeros(weight.shape[1], requires_grad=True)
    for first in range(0, len(features), BATCH):
        x, y = features[first : first + BATCH], labels[first : first + BATCH]
        z = x @ w + b
        log_p = z - z.exp().sum(-1).log().unsqueeze(-1)
        j = -log_p[range(len(y)), y].mean()
        j.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        with torch.no_grad():
            for theta in (w, b):
                # backward() has set the gradients, which may be None before
                theta -= theta.grad * RATE  # type: ignore[operator]
                theta.grad.zero_()  # type: ignore[union-attr]
    return w.detach(), b.detach()


def usual(features: Tensor, labels: Tensor, weight: Tensor) -> Learned:
    """Train with nn.Linear, optim.SGD, cross_entropy and a shuffled DataLoader."""
    model = torch.nn.Linear(*weight.shape)
    with torch.no_grad():
        model.weight.copy_(weight.T)
        model.bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    rows = torch.utils.data.TensorDataset(features, labels)
    for xb, yb in torch.utils.data.DataLoader(rows, BATCH, shuffle=True):
        loss = torch.nn.functional.cross_entropy(model(xb), yb)
        loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types
        optimizer.step()
        optimizer.zero_grad()
    return model.weight.detach().T, model.bias.detach()


class JaxScan:
    """Trains with one jitted lax.scan over the batches, the fastest way in JAX.

    transposed: use our layout of the weights, (K, D), instead of the usual (D, K).
    """

    def __init__(self, features: Tensor, labels: Tensor, transposed: bool) -> None:
        import jax
        from jax import numpy as jnp

        self._jnp, self._transposed = jnp, transposed
        n = len(features) // BATCH * BATCH  # a scan requires batches of equal size
        x, y = jnp.asarray(features.numpy()), jnp.asarray(labels.numpy())
        self._whole = x[:n].reshape(-1, BATCH, x.shape[1]), y[:n].reshape(-1, BATCH)
        self._rest = x[n:], y[n:]

        def loss(theta: Any, xb: Any, yb: Any) -> Any:
            weight, bias = theta
            z = ((weight @ xb.T).T if transposed else xb @ weight) + bias
            log_p = jax.nn.log_softmax(z)
            return -jnp.take_along_axis(log_p, yb[:, None], 1).mean()

        def step(theta: Any, batch: Any) -> Any:
            j, gradients = jax.value_and_grad(loss)(theta, *batch)
            return jax.tree.map(lambda t, g: t - RATE * g, theta, gradients), j

        self._epoch = jax.jit(lambda theta, rows: jax.lax.scan(step, theta, rows)[0])
        self._step = jax.jit(lambda theta, rows: step(theta, rows)[0])

    def __call__(self, features: Tensor, labels: Tensor, weight: Tensor) -> Learned:
        """Train on the rows passed to the constructor, which JAX holds."""
        start = self._jnp.asarray(weight.T if self._transposed else weight)
        theta = start, self._jnp.zeros(weight.shape[1])
        theta = self._step(self._epoch(theta, self._whole), self._rest)
        learned, bias = (torch.from_numpy(np.array(part)) for part in theta)
        return (learned.T if self._transposed else learned), bias
