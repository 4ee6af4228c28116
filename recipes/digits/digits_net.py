"""A LightningModule as anyone writes one. Nothing here knows of mlops_core."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F


class DigitsNet(pl.LightningModule):
    """A small convolutional network for 8 x 8 grey images with values from 0 to 16."""

    def __init__(self, classes: int, channels: int = 32, lr: float = 2e-3):
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(2 * channels * 16, classes),
        )

    def forward(self, x):
        return self.layers(x.unsqueeze(1) / 16)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
