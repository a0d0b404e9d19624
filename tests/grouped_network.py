"""A small network with a grouped convolution, as a user's own file has it."""

import torch
from torch import nn


class Net(nn.Module):
    """Two convolutions with batch norms, the second one in two groups, and a linear layer: 3 x 16 x 16 to 5."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20)
        self.conv2, self.bn2 = nn.Conv2d(20, 24, 3, padding=1, groups=2), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def make():
    return Net()
