import pytest
import torch
from torch import nn

from tangential.experiments.data.images.digits import Digits, Images
from tangential.experiments.nets.small import conv_net
from tangential.experiments.tasks.classification import Classification

small = Classification(data=Digits(limit=64))


def test_digits_are_all_there_once():
    train, test = Digits().load("train"), Digits().load("test")
    assert (len(train), len(test)) == (1200, 597)
    everything = torch.cat([train.images, test.images])
    assert everything.shape == (1797, 1, 8, 8)
    assert len(everything.unique(dim=0)) == 1797
    assert (everything.min(), everything.max()) == (0.0, 1.0)


def test_both_splits_hold_the_same_share_of_each_digit():
    train, test = Digits().load("train").classes.bincount(), Digits().load("test").classes.bincount()
    # a share may differ by one image
    assert torch.allclose(train / 1200, test / 597, rtol=0, atol=1 / 597)


def test_split_does_not_depend_on_the_seed():
    before = Digits().load("train").images
    torch.manual_seed(99)
    assert torch.equal(Digits().load("train").images, before)


def test_limit_keeps_the_first_images():
    assert torch.equal(Digits(limit=7).load("test").images, Digits().load("test").images[:7])


def test_empty_data_are_refused():
    with pytest.raises(ValueError, match="limit=0: must be at least 1"):
        Digits(limit=0)


def test_loader_gives_the_images_that_single_access_gives():
    images = small.data.load("train")
    loaded = [batch for batch in small.batches("train", batch_size=24)]
    assert [len(classes) for _, classes in loaded] == [24, 24, 16]
    assert torch.equal(torch.cat([pixels for pixels, _ in loaded]), torch.stack([images[i][0] for i in range(64)]))
    assert torch.equal(torch.cat([classes for _, classes in loaded]), torch.stack([images[i][1] for i in range(64)]))


def test_order_shuffles_and_repeats_with_its_seed():
    def order(seed):
        draw = torch.Generator().manual_seed(seed)
        return torch.cat([classes for _, classes in small.batches("train", batch_size=8, generator=draw)])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))
    assert torch.equal(order(1).sort().values, small.data.load("train").classes.sort().values)


def test_loss_falls_when_the_net_learns():
    model = small.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = next(iter(small.batches("train", batch_size=64)))
    losses = []
    for _ in range(40):
        losses.append(small.loss(model, batch))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


class Oracle(nn.Module):
    """Knows the first `known` of ten images' classes and is wrong on the others."""

    def __init__(self, known: int):
        super().__init__()
        self.known = known

    def forward(self, images):
        classes = torch.arange(10)
        return 100 * nn.functional.one_hot(torch.where(classes < self.known, classes, (classes + 1) % 10), 10).float()


def test_score_is_the_share_of_right_answers_and_the_mean_loss_over_images():
    images, classes = torch.zeros(10, 1, 8, 8), torch.arange(10)
    assert small.score(Oracle(10), [(images, classes)]) == {"loss": 0.0, "accuracy": 1.0}
    assert small.score(Oracle(7), [(images, classes)]) == {"loss": 30.0, "accuracy": 0.7}


@torch.no_grad()
def test_score_does_not_depend_on_the_batch_size():
    model = small.model().eval()
    one = small.score(model, small.batches("test", batch_size=64))
    other = small.score(model, small.batches("test", batch_size=10))
    assert one["accuracy"] == other["accuracy"]
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)  # float32 sums in another order


def test_every_convolution_is_scale_invariant_in_training():
    model = conv_net(channels=1, classes=10).double()
    images = torch.randn(16, 1, 8, 8, dtype=torch.float64)
    before = model(images)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is None
                module.weight *= 3.0
    # BatchNorm's eps, 1e-5 beside variances of about 0.1, is all that feels the length
    assert torch.allclose(model(images), before, rtol=0, atol=1e-3)


def test_width_sets_the_channels_of_every_convolution():
    shapes = [tuple(w.shape[:2]) for w in conv_net(channels=3, classes=5, width=4).parameters() if w.ndim == 4]
    assert shapes == [(4, 3), (8, 4), (16, 8)]


@pytest.mark.parametrize("name", ["channels", "classes", "width"])
def test_net_without_size_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        conv_net(**{"channels": 1, "classes": 10, "width": 8, name: 0})


def test_smoke_is_the_same_task_on_few_images():
    assert small.smoke().data == Digits(limit=16)
    assert small.smoke().net is small.net
    assert isinstance(small.smoke().data.load("test"), Images)
