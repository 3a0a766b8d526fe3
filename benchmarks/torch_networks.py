"""C2D in PyTorch, written from the paper's Table 1 and the official code's padding, as a contestant."""

import frameworks
import network_weights
import numpy as np

torch = frameworks.load_torch()
nn, F = torch.nn, torch.nn.functional


class C2D:
    """The network as one PyTorch user or another would write it.

    Args:
      mode: "forward" under inference_mode, or "train" for forward and backward to all weights with batch statistics.
      layout: "3d", Conv3d on (B, C, T, H, W); "3d_channels_last", the same in that memory format; "frames", Conv2d on
        (B*T, C, H, W) in channels_last.
      fold: fold the batch norms into the convolutions, for mode "forward".
    """

    def __init__(self, mode, layout, fold=False):
        self.train = mode == "train"
        self.model = Network(frames=layout == "frames")
        for name, weight in self.model.named_weights():
            shape = tuple(weight.shape)
            if name.endswith("kernel"):
                shape = (*shape[2:], *shape[1::-1])  # (O, I, ...) -> (..., I, O)
                shape = (1, *shape) if len(shape) == 4 else shape
            values = torch.from_numpy(network_weights.draw(name, shape))
            if name.endswith("kernel"):
                values = values.movedim((-1, -2), (0, 1)).reshape(weight.shape)
            weight.data.copy_(values)
        self.model.train(self.train)
        clip = torch.from_numpy(network_weights.clip()).movedim(-1, 1)
        if layout == "frames":
            clip = clip[0].transpose(0, 1)  # (1, C, T, H, W) -> (T, C, H, W)
        formats = {"3d": torch.contiguous_format, "3d_channels_last": torch.channels_last_3d}
        memory_format = formats.get(layout, torch.channels_last)
        self.model.to(memory_format=memory_format)
        self.clip = clip.contiguous(memory_format=memory_format)
        if fold:
            self.model.fold()

    def run(self):
        if not self.train:
            with torch.inference_mode():
                return [self.model(self.clip)]
        logits = self.model(self.clip)
        loss = F.cross_entropy(logits, torch.zeros(1, dtype=torch.int64))
        return [logits.detach(), *torch.autograd.grad(loss, list(self.model.parameters()))]

    def results(self):
        """As keras_networks.C2D.results."""
        logits, *gradients = self.run()
        arrays = {"logits": logits.numpy()}
        if gradients:
            weights = list(self.model.parameters())
            names = {weight: name for name, weight in self.model.named_weights()}
            for weight, d in zip(weights, gradients, strict=True):
                d = d.movedim((0, 1), (-1, -2)) if weight.ndim > 1 else d  # (O, I, ...) -> (..., I, O)
                arrays[f"d{names[weight]}"] = d.numpy()
            arrays["parameters"] = np.array(float(sum(weight.numel() for weight in weights)))
        return arrays


class ConvNorm(nn.Module):
    """A convolution over space and its batch norm.

    Args:
      frames: whether time is in the batch.
      channels, filters: in and out.
      size: of the kernel; padded by half of it.
      stride: over space.
    """

    def __init__(self, frames, channels, filters, size, stride=1):
        super().__init__()
        pad = size // 2
        if frames:
            self.conv = nn.Conv2d(channels, filters, size, stride, pad, bias=False)
            self.norm = nn.BatchNorm2d(filters)
        else:
            strides = (1, stride, stride)
            self.conv = nn.Conv3d(channels, filters, (1, size, size), strides, (0, pad, pad), bias=False)
            self.norm = nn.BatchNorm3d(filters)

    def forward(self, x):
        return self.norm(self.conv(x))

    def fold(self):
        self.conv, self.norm = nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, and the shortcut, projected where the shape changes."""

    def __init__(self, frames, channels, filters, stride):
        super().__init__()
        if stride > 1 or channels != 4 * filters:
            self.branch1 = ConvNorm(frames, channels, 4 * filters, 1, stride)
        else:
            self.branch1 = nn.Identity()
        self.branch2a = ConvNorm(frames, channels, filters, 1)
        self.branch2b = ConvNorm(frames, filters, filters, 3, stride)
        self.branch2c = ConvNorm(frames, filters, 4 * filters, 1)

    def forward(self, x):
        y = F.relu_(self.branch2a(x))
        y = F.relu_(self.branch2b(y))
        return F.relu_(self.branch2c(y) + self.branch1(x))


class Network(nn.Module):
    """C2D R50 from a clip to logits.

    Args:
      frames: whether it takes (T, C, H, W), the frames of one clip, rather than (B, C, T, H, W).
    """

    def __init__(self, frames):
        super().__init__()
        self.frames = frames
        self.conv1 = ConvNorm(frames, 3, 64, 7, 2)
        self.stages = nn.ModuleList()
        channels = 64
        for stage, depth in enumerate(network_weights.DEPTHS):
            blocks = []
            for i in range(depth):
                blocks.append(Bottleneck(frames, channels, 64 * 2**stage, 2 if i == 0 and stage > 0 else 1))
                channels = 256 * 2**stage
            self.stages.append(nn.Sequential(*blocks))
        self.pred = nn.Linear(channels, network_weights.CLASSES)

    def forward(self, x):
        x = F.relu_(self.conv1(x))
        x = F.max_pool2d(x, 3, 2) if self.frames else F.max_pool3d(x, (1, 3, 3), (1, 2, 2))
        x = self.stages[0](x)
        # pool2 halves time.
        x = torch.maximum(x[::2], x[1::2]) if self.frames else F.max_pool3d(x, (2, 1, 1))
        for stage in self.stages[1:]:
            x = stage(x)
        x = x.mean((0, 2, 3))[None] if self.frames else x.mean((2, 3, 4))
        return self.pred(x)

    def fold(self):
        for module in list(self.modules()):
            if isinstance(module, ConvNorm):
                module.fold()

    def named_weights(self):
        """(name as in Keras, tensor) of all weights and moving statistics."""
        found = [("conv1", self.conv1)]
        for stage, blocks in enumerate(self.stages):
            for i, block in enumerate(blocks):
                prefix = f"res{stage + 2}_{i}_"
                found += [(prefix + name, part) for name, part in block.named_children() if isinstance(part, ConvNorm)]
        for name, part in found:
            yield f"{name}/kernel", part.conv.weight
            yield f"{name}_bn/gamma", part.norm.weight
            yield f"{name}_bn/beta", part.norm.bias
            yield f"{name}_bn/moving_mean", part.norm.running_mean
            yield f"{name}_bn/moving_variance", part.norm.running_var
        yield "pred/kernel", self.pred.weight
        yield "pred/bias", self.pred.bias
