"""The network of IRN and of ReCAM, written from their description over torchvision's ResNet-50."""

import torch
import torchvision
from torch import nn


class IrnNet(nn.Module):
    """Its modules are held three times, as in the checkpoints that people have."""

    def __init__(self, classes=20, stride=16):
        super().__init__()
        self.resnet50 = net = torchvision.models.resnet50(weights=None)
        del net.fc
        keep_resolution(net.layer4, dilation=1 if stride == 16 else 2)
        if stride == 8:
            keep_resolution(net.layer3, dilation=2)
        self.stage1 = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
        self.stage2, self.stage3, self.stage4 = map(
            nn.Sequential, (net.layer2, net.layer3, net.layer4)
        )
        self.classifier = nn.Conv2d(2048, classes, 1, bias=False)
        self.backbone = nn.ModuleList([self.stage1, self.stage2, self.stage3, self.stage4])
        self.newly_added = nn.ModuleList([self.classifier])

    def features(self, images):
        for stage in self.backbone:
            images = stage(images)
        return images

    def forward(self, images):
        pooled = self.features(images).mean((2, 3), keepdim=True)
        return self.classifier(pooled).flatten(1)

    def cam(self, images):
        """(N,classes,h,w), rectified."""
        return torch.relu(self.classifier(self.features(images)))


class ConvolutionFirst(IrnNet):
    """As PSA has it: scores of positions, and their mean."""

    def forward(self, images):
        return self.classifier(self.features(images)).mean((2, 3))


def keep_resolution(layer, dilation):
    layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
    for block in layer[1:]:
        block.conv2.dilation = block.conv2.padding = (dilation, dilation)


def with_statistics(network, seed=0):
    """Random weights whose activations stay of one size, through all of its layers."""
    torch.manual_seed(seed)
    network.train()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.2, 0.4)
                module.bias.uniform_(0.1, 0.5)
        network(torch.randn(2, 3, 96, 96))
    return network.eval()
