"""A small residual network of depthwise-separable convolutions: 32 million
multiply-adds a photo at 128 x 128, 0.45 million weights."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(i: int, o: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if act else nn.Sequential(*layers)


class Block(nn.Module):
    """Two separable convolutions beside a shortcut. The last norm's gain begins
    at 0, so that a fresh block passes its input through."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.a = nn.Sequential(conv(i, i, 3, stride, i, act=False), conv(i, o, 1))
        self.b = nn.Sequential(conv(o, o, 3, 1, o, act=False), conv(o, o, 1, act=False))
        nn.init.zeros_(self.b[1][1].weight)
        self.shortcut = nn.Identity()
        if stride != 1 or i != o:
            pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
            self.shortcut = nn.Sequential(pool, conv(i, o, 1, act=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(self.a(x)) + self.shortcut(x))


class Network(nn.Module):
    """Logits of the labels, and in training those of title words and attributes."""

    def __init__(self, labels: int, words: int, auxiliary: list[int], widths=(24, 48, 96, 192, 320), blocks=(1, 2, 2, 1), dropout=0.2):
        super().__init__()
        layers, i = [conv(3, widths[0], 3, 2)], widths[0]
        for o, n in zip(widths[1:], blocks):
            for k in range(n):
                layers.append(Block(i, o, 2 if k == 0 else 1))
                i = o
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(i, labels)
        self.words = nn.Linear(i, words)
        self.auxiliary = nn.ModuleList(nn.Linear(i, n) for n in auxiliary)

    def forward(self, x: torch.Tensor):
        x = self.body(x).mean((2, 3))
        if not self.training:
            return self.head(x)
        x = self.dropout(x)
        return self.head(x), self.words(x), [head(x) for head in self.auxiliary]
