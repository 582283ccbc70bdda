"""skorch.

A subclass makes the optimizer, since the detector needs the module that skorch has just built.
"""

from pathlib import Path

from problem import demo, images, labels, net
from skorch import NeuralNetClassifier
from torch import nn

from tangential import AdamP, find_invariances, watch


class Net(NeuralNetClassifier):
    def initialize_optimizer(self, *args, **kwargs):
        found = find_invariances(self.module_, images[:8])
        self.optimizer_ = AdamP(found.param_groups(weight_decay=1e-2), lr=self.lr)
        self.telemetry_ = watch(self.optimizer_, every=2)
        return self


def train(folder: Path, epochs: int, resume: bool = False):
    settings = dict(lr=1e-2, batch_size=16, train_split=None, verbose=0, criterion=nn.CrossEntropyLoss)
    classifier = Net(net(), **settings).initialize()
    files = dict(f_params=folder / "params.pt", f_optimizer=folder / "optimizer.pt", f_history=folder / "history.json")
    if resume:
        classifier.load_params(**files)
        classifier.telemetry_.go_on_from(4 * len(classifier.history))  # four batches an epoch
    classifier.partial_fit(images.numpy(), labels.numpy(), epochs=epochs - len(classifier.history))
    classifier.save_params(**files)
    return classifier.module_, classifier.telemetry_


if __name__ == "__main__":
    demo(train)
