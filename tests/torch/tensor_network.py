"""A small network in plain torch whose layer gives tensors, or the same numbers as NumPy arrays."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from shardcam.engine.types import LayerInfo

CLASSES = 5
torch.set_num_threads(1)  # more would spin where cores are few


class TorchNetwork:
    """One explained layer, `relu`, behind a convolution; see `engine.protocols.Network`.

    The head is global average pooling and a dense layer if it is `closed`; else it has a
    second convolution, max-pooling, SiLU and a dense layer.
    """

    buffers = 1
    head_rows = network_rows = 4

    def __init__(self, channels=6, kernel=(3, 3), size=(9, 11), closed=False, device="cpu",
                 tensors=True):  # fmt: skip
        torch.manual_seed(3)
        height, width = size[0] - kernel[0] + 1, size[1] - kernel[1] + 1
        self.backbone = nn.Conv2d(3, channels, kernel)
        if closed:
            head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
        else:
            flat = nn.Linear(4 * (height + 2) * (width + 2), CLASSES)
            head = [nn.Conv2d(channels, 4, 1, padding=1), nn.SiLU(), nn.Flatten(), flat]
        self.head = nn.Sequential(*head)
        self.backbone.to(device), self.head.to(device)
        self.closed_form = self.piecewise_linear = closed
        self.tensors, self.device = tensors, device
        self.layers = (LayerInfo("relu", (channels, height, width), closed),)
        self.on_pass = lambda: None

    def forward(self, images):
        return Pass(self, images)

    def given(self, values):
        values = values.detach()
        return values.contiguous() if self.tensors else values.cpu().numpy()

    def taken(self, values):
        return torch.as_tensor(values, device=self.device)


class Head:
    """The head run on activations; see `engine.protocols.HeadView`."""

    def __init__(self, network, activation):
        self.network = network
        self.taken = network.taken(activation).detach().requires_grad_()
        self.output = network.head(self.taken)

    @property
    def logits(self):
        return self.output.detach().cpu().numpy()

    def gradient(self, direction):
        score = (self.output * self.network.taken(direction)).sum()
        (gradient,) = torch.autograd.grad(score, self.taken, retain_graph=True)
        if self.network.closed_form:
            gradient = gradient.mean(dim=(2, 3), keepdim=True)
        return self.network.given(gradient)


class View(Head):
    """The layer in a pass; see `engine.protocols.LayerView`."""

    def __init__(self, network, images):
        with torch.no_grad():
            super().__init__(network, torch.relu(network.backbone(network.taken(images))))
        self.output = network.head(self.taken)
        self.images = images if isinstance(images, np.ndarray) else images.cpu().numpy()
        self.closed_form, self.piecewise_linear = network.closed_form, network.piecewise_linear
        self.head_rows, self.network_rows = network.head_rows, network.network_rows
        self.classes = CLASSES

    @functools.cached_property
    def activation(self):
        return self.network.given(self.taken)

    def class_weights(self, targets):
        return self.network.given(self.network.head[2].weight[self.network.taken(targets).long()])

    def at(self, activation, image, differentiable=False):
        assert len(activation) == len(image) <= self.head_rows
        return Head(self.network, activation)

    def of(self, images):
        assert len(images) <= self.network_rows
        return View(self.network, images)

    def bias_terms(self, direction):
        image = self.network.taken(self.images).requires_grad_()
        before = self.network.backbone(image)
        score = (self.network.head(torch.relu(before)) * self.network.taken(direction)).sum()
        into_image, into_layer = torch.autograd.grad(score, (image, before))
        bias = self.network.backbone.bias[:, None, None]
        for part in (slice(0, 1), slice(1, None)):
            yield part, self.network.given((image * into_image)[part])
            yield part, self.network.given((bias * into_layer)[part])


class Pass:
    """See `engine.protocols.ForwardPass`."""

    def __init__(self, network, images):
        self.view, self.images = View(network, images), images
        self.logits = self.view.logits

    def layer(self, name):
        assert name == "relu"
        return self.view

    def activation(self, name):
        return self.layer(name).activation
