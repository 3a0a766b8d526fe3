"""Non-local blocks in PyTorch, written from the paper's equations, and its matrix product, as contestants."""

import block_inputs
import frameworks
import numpy as np

torch = frameworks.load_torch()
F = torch.nn.functional


class Block:
    """z = W_z y + x with theta, phi, g and W_z as 1x1(x1) convolutions or linear layers, keys pooled after phi and g.

    Args:
      mode: "forward" under inference_mode, or "train" for forward and gradients to x and all weights.
      pairwise, positions, channels, inner, pool: see block_inputs.make.
      order: "naive" builds the N x M attention, and for the concatenation form all 2C' x N x M pairs; "sdpa" is
        scaled_dot_product_attention; "associated" sums phi^T g first, for the dot product.
      layout: "channels_first", convolutions of the default memory format, as published blocks have it;
        "channels_last", convolutions of that memory format, which need no transposes around the attention; "linear",
        (B, N, C) and linear layers.
      dtype: of weights and input.
    """

    def __init__(
        self,
        mode,
        pairwise,
        positions,
        channels,
        inner,
        pool=None,
        order="naive",
        layout="channels_first",
        dtype="float32",
    ):
        self.train, self.pairwise, self.order, self.layout = mode == "train", pairwise, order, layout
        inputs = block_inputs.make(pairwise, positions, channels, inner, pool)
        self.dtype = getattr(torch, dtype)
        if layout == "channels_last" and len(positions) == 1:
            # PyTorch has this memory format for images and volumes only.
            positions, pool = (*positions, 1), None if pool is None else (*pool, 1)
        self.positions, self.pool = tuple(positions), pool
        self.x, self.cotangent = self._arranged(inputs.x), self._arranged(inputs.cotangent)
        self.weights = {}
        for name, values in inputs.weights.items():
            if name == "w_f":
                self.weights["w_f"] = self._leaf(values)
            else:
                self.weights[f"{name}/kernel"] = self._kernel(values[0])
                self.weights[f"{name}/bias"] = self._leaf(values[1])
        if self.train:
            for leaf in (self.x, *self.weights.values()):
                leaf.requires_grad_()

    def run(self):
        if not self.train:
            with torch.inference_mode():
                return [self._block()]
        z = self._block()
        return [z.detach(), *torch.autograd.grad(z, [self.x, *self.weights.values()], self.cotangent)]

    def results(self):
        """As keras_blocks.Block.results, in the same layout."""
        z, *gradients = self.run()
        arrays = {"z": self._channels_last(z), "z - x": self._channels_last(z) - self._channels_last(self.x)}
        if gradients:
            arrays["dx"] = self._channels_last(gradients[0] - self.cotangent)
            for (name, weight), d in zip(self.weights.items(), gradients[1:], strict=True):
                d = d.float().numpy()
                is_kernel = name.endswith("kernel")
                arrays[f"d{name}"] = d.reshape(weight.shape[:2]).T if is_kernel else d  # (O, I, 1, 1) -> (I, O)
        return arrays

    def _block(self):
        x = self.x
        y = self._associated(x) if self.order == "associated" else self._pairs(x)
        if self.layout != "linear":
            y = y.reshape(*y.shape[:2], *self.positions)  # (B, C', N) -> (B, C', *positions)
        return self._project("out", y) + x

    def _pairs(self, x):
        """y from the scores of all pairs, (B, C', N), or (B, N, C') where linear."""
        theta, phi, g = self._theta_phi_g(x)
        if self.order == "sdpa":
            # Four dimensions, or PyTorch does not take its kernel without the matrix.
            q, k, v = (self._rows(part).unsqueeze(1).contiguous() for part in (theta, phi, g))
            scale = None if self.pairwise == "embedded_gaussian" else 1.0
            y = F.scaled_dot_product_attention(q, k, v, scale=scale).squeeze(1)
        else:
            y = self._attention(theta, phi) @ self._rows(g)
        return y if self.layout == "linear" else y.transpose(1, 2)

    def _attention(self, theta, phi):
        """(B, N, M)."""
        if self.pairwise == "concatenation":
            theta, phi = self._columns(theta), self._columns(phi)
            sizes = (*theta.shape, phi.shape[2])  # (B, C', N, M)
            pairs = torch.cat([theta[:, :, :, None].expand(sizes), phi[:, :, None, :].expand(sizes)], dim=1)
            scores = F.conv2d(pairs, self.weights["w_f"].reshape(1, -1, 1, 1)).relu()[:, 0]
            return scores / scores.shape[-1]
        scores = self._rows(theta) @ self._columns(phi)
        # In place: neither the product nor this needs its input again for the gradients.
        if self.pairwise == "dot_product":
            return scores.div_(scores.shape[-1])
        if self.pairwise == "embedded_gaussian":
            scores.div_(theta.shape[-1 if self.layout == "linear" else 1] ** 0.5)
        return scores.softmax(-1)

    def _associated(self, x):
        theta, phi, g = self._theta_phi_g(x)
        keys = self._rows(g).shape[1]
        y = self._rows(theta) @ ((self._columns(phi) @ self._rows(g)) / keys)
        return y if self.layout == "linear" else y.transpose(1, 2)

    def _theta_phi_g(self, x):
        theta = x if self.pairwise == "gaussian" else self._project("theta", x)
        phi = x if self.pairwise == "gaussian" else self._project("phi", x)
        return theta, self._pooled(phi), self._pooled(self._project("g", x))

    def _project(self, name, x):
        kernel, bias = self.weights[f"{name}/kernel"], self.weights[f"{name}/bias"]
        if self.layout == "linear":
            return F.linear(x, kernel, bias)
        return (F.conv1d, F.conv2d, F.conv3d)[len(self.positions) - 1](x, kernel, bias)

    def _pooled(self, x):
        if not self.pool:
            return x
        if self.layout == "linear":
            x = x.transpose(1, 2).reshape(x.shape[0], -1, *self.positions)  # (B, N, C) -> (B, C, *positions)
        x = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(self.positions) - 1](x, self.pool)
        return x.flatten(2).transpose(1, 2) if self.layout == "linear" else x

    def _rows(self, x):
        """(B, N, C)."""
        return x if self.layout == "linear" else x.flatten(2).transpose(1, 2)

    def _columns(self, x):
        """(B, C, N)."""
        return x.transpose(1, 2) if self.layout == "linear" else x.flatten(2)

    def _arranged(self, x):
        """(1, ..., C) in NumPy -> a tensor as the layout wants it."""
        if self.layout == "linear":
            return self._leaf(x.reshape(1, -1, x.shape[-1]))
        x = np.moveaxis(x.reshape(1, *self.positions, x.shape[-1]), -1, 1)
        return self._formatted(self._leaf(np.ascontiguousarray(x)))

    def _kernel(self, kernel):
        kernel = np.ascontiguousarray(kernel.T)  # (I, O) -> (O, I)
        if self.layout == "linear":
            return self._leaf(kernel)
        return self._formatted(self._leaf(kernel.reshape(*kernel.shape, *(1,) * len(self.positions))))

    def _formatted(self, x):
        if self.layout != "channels_last":
            return x
        return x.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)

    def _leaf(self, array):
        # A copy, so that no NumPy array stays alive behind the tensor.
        return torch.tensor(array, dtype=self.dtype)

    def _channels_last(self, x):
        x = x.detach().float().numpy()
        return x if self.layout == "linear" else np.moveaxis(x, 1, -1)


class Matmul:
    """As keras_blocks.Matmul: how much of the softmax forms' figures is the matrix products' alone."""

    def __init__(self, m, k, n):
        self.left, self.right = torch.randn(m, k), torch.randn(k, n)

    def run(self):
        with torch.inference_mode():
            return self.left @ self.right
