"""Language modelling as the training loop sees it: texts, streams, scores, and its recipes."""

import copy
import io
import math
import re
import zipfile
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from tangential.experiments.data.text.corpora import TextFile, WikiText103, tiny_shakespeare
from tangential.experiments.data.text.streams import IGNORED, Streams, in_turn
from tangential.experiments.data.text.synthetic import SyntheticText
from tangential.experiments.data.text.tokenizers import Characters, Subwords, Words
from tangential.experiments.nets.transformer_xl import transformer_xl
from tangential.experiments.recipes import RECIPES
from tangential.experiments.settings.overrides import override
from tangential.experiments.tasks.language import Language
from tangential.experiments.training.loop import Training

NET = partial(transformer_xl, layers=2, width=16, heads=2, head_width=8, inner=32, dropout=0.0)
SMALL = Language(data=SyntheticText(count=101), net=NET, length=16, test_length=16, test_streams=4)


# streams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1, 17])
@pytest.mark.parametrize(("count", "streams", "length"), [(26, 5, 3), (25, 5, 3), (29, 5, 2), (6, 5, 9), (20, 1, 19)])
def test_streams_cover_the_text_exactly_once_and_in_order(count, streams, length, offset):
    text = torch.arange(count)
    cut = Streams(text, streams=streams, length=length)
    parts = [cut[(index, offset)] for index in range(len(cut))]
    tokens, targets = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("tokens", "targets"))
    there = targets != IGNORED
    turned = text.roll(-offset)
    assert torch.equal(targets[there].sort().values, turned[1:].sort().values)
    assert torch.equal(targets[there], (tokens[there] + 1) % count)
    assert all(torch.equal(row[1:], following[:-1]) for row, following in zip(tokens, targets, strict=True))
    assert not (~there[:, :-1]).any()  # at most the last place of a stream is left over
    assert [part.first for part in parts] == [True] + [False] * (len(parts) - 1)
    assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(part.tokens.shape[1] == length for part in parts[:-1])


def test_text_too_short_for_its_streams_is_refused():
    with pytest.raises(ValueError, match="5 tokens are too few for 5 streams"):
        Streams(torch.arange(5), streams=5, length=3)
    with pytest.raises(ValueError, match="length=0"):
        Streams(torch.arange(5), streams=1, length=0)


def passes(seed, count=2, workers=0):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = in_turn(torch.arange(40), streams=3, length=5, generator=generator, workers=workers)
    return [torch.cat([part.tokens for part in batches], dim=1) for _ in range(count)]


def test_seed_draws_where_each_pass_begins_and_nothing_else():
    one, two = passes(1)
    assert not torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(passes(1), (one, two), strict=True))
    still, again = passes(None)
    assert torch.equal(still, again) and still[0, 0] == 0
    assert torch.equal((one - one[0, 0]) % 40, still)


def test_workers_change_nothing():
    assert all(torch.equal(a, b) for a, b in zip(passes(1), passes(1, workers=2), strict=True))


# texts ----------------------------------------------------------------------------------------------------------------

TEXT = "".join(f"To be, or not to be: number {number}\nthat is the question\n" for number in range(40))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT)
    return tmp_path


def splits_of(data):
    return [replace(data, train=part).load("train") for part in ("train", "val", "test")]


def test_characters_of_the_parts_are_the_text(root):
    data = TextFile(root=str(root), places=("mine.txt",))
    parts = splits_of(data)
    known = sorted(set(TEXT))
    assert "".join(known[token] for token in torch.cat(parts)) == TEXT
    assert len(data.lengths()) == len(known)
    for part, share in zip(parts, (0.9, 0.05, 0.05), strict=True):
        assert abs(len(part) - share * len(TEXT)) <= 1
    assert torch.equal(data.load("test"), parts[2])
    assert torch.equal(replace(data, test="val").load("test"), parts[1])


@pytest.mark.parametrize(
    "tokenizer", [Characters(), Words(least=1), Subwords(count=60)], ids=lambda tokenizer: type(tokenizer).__name__
)
def test_tokens_stand_for_all_characters(root, tokenizer):
    data = TextFile(root=str(root), places=("mine.txt",), tokenizer=tokenizer)
    text = TEXT
    if isinstance(tokenizer, Words):  # the last numbers are not in the training split
        known = set(" ".join(data._corpus()._lines("train")).split())
        text = re.sub(r"\S+", lambda word: word[0] if word[0] in known else "<unk>", TEXT)
    assert sum(int(data.lengths()[part].sum()) for part in splits_of(data)) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "the cat sat\non a mat\n" * 50,
        "the cat sat\r\non a mat\r\n" * 50,
        " the  cat sat \n\n on a\tmat \n" * 50,
        "the cat sat\n\n\non a mat\n" * 50,
        "the cat sat on a mat " * 100,
    ],
    ids=["single", "crlf", "more", "blank", "one line"],
)
def test_characters_of_words_add_up_to_the_text_that_is_tested_on(root, text):
    (root / "mine.txt").write_bytes(text.encode())
    data = TextFile(root=str(root), places=("mine.txt",), tokenizer=Words(least=1), shares=(0.5, 0.25, 0.25))
    for split in ("train", "val", "test"):
        data = replace(data, test=split)
        whole = "".join(data._corpus()._lines(split))
        assert float(data.lengths()[data.load("test").long()].sum()) == pytest.approx(len(whole), abs=1e-6)


def test_words_are_numbered_by_their_frequency_and_rare_ones_are_unknown(root):
    data = TextFile(root=str(root), places=("mine.txt",), tokenizer=Words(least=2))
    train, val, test = splits_of(data)
    counts = train.bincount(minlength=len(data.lengths()))
    assert (counts.diff() <= 0).all()
    words = Words(least=2).learn(lambda split: io.StringIO(TEXT)).split("\n")
    assert {"<eos>", "<unk>", "question"} <= set(words) and "17" not in words
    assert sum(map(len, (train, val, test))) == sum(len(line.split()) + 1 for line in TEXT.splitlines())
    ends = words.index("<eos>")
    assert train[-1] == val[-1] == test[-1] == ends  # cut at the ends of lines


def test_pieces_are_longer_than_characters_and_lose_nothing(root):
    tokenizers = pytest.importorskip("tokenizers")
    data = TextFile(root=str(root), places=("mine.txt",), tokenizer=Subwords(count=60))
    tokens = torch.cat(splits_of(data))
    assert len(data.lengths()) == 60 and len(tokens) < len(TEXT) / 2
    learned = Subwords(count=60).learn(lambda split: io.StringIO(TEXT))
    numbers = Subwords(count=60).encode(learned, io.StringIO(TEXT))
    tokenizer = tokenizers.Tokenizer.from_str(learned)
    assert "".join(tokenizer.id_to_token(number) for number in numbers.tolist()) == TEXT
    with pytest.raises(ValueError, match=r"count=5: the text has .* characters"):
        Subwords(count=5).learn(lambda split: [TEXT])


def test_what_was_learned_is_kept_until_the_file_changes(root, monkeypatch):
    data = TextFile(root=str(root), places=("mine.txt",), tokenizer=Words())
    before = data.load("train")
    with monkeypatch.context() as patch:
        patch.setattr(Words, "learn", lambda *_: pytest.fail("learned again"))
        assert torch.equal(data.load("train"), before)
        assert len(data.lengths()) > 10
    (root / "mine.txt").write_text(TEXT[: len(TEXT) // 2])
    assert len(data.load("train")) < len(before)


def test_texts_of_other_alphabets_and_line_ends_are_read_as_they_are(root):
    text = "Привет, мир\r\n你好\u2028世界 🙂\r\n" * 20
    (root / "mine.txt").write_bytes(text.encode())
    data = TextFile(root=str(root), places=("mine.txt",))
    assert sum(map(len, splits_of(data))) == len(text)
    words = replace(data, tokenizer=Words(least=1))
    assert sum(map(len, splits_of(words))) == 40 + 2 * 20 + 3 * 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: TextFile(places=("a",), shares=(0.5, 0.5, 0.5)), "must be positive and add up to 1"),
        (
            lambda root: TextFile(places=("a",), test="valid"),
            "'valid' is no split of a text; there are train, val, test",
        ),
        (lambda root: WikiText103(train="all"), "'all' is no split"),
        (lambda root: Words(least=0), "least=0"),
        (lambda root: Subwords(count=0), "count=0"),
        (lambda root: SyntheticText(count=1), "count=1"),
        (lambda root: tiny_shakespeare(root).load("train"), r"get it from https://.*karpathy"),
        (lambda root: WikiText103(root=root).lengths(), "no wikitext-103 in .*190 MB"),
        (lambda root: TextFile(root=root, places=("latin.txt",)).load("train"), "latin.txt is not text in UTF-8"),
        (lambda root: TextFile(root=root, places=("short.txt",)).load("test"), "split test of .*short.txt is empty"),
    ],
)
def test_bad_input_is_one_clear_line(root, make, message):
    (root / "latin.txt").write_bytes("naïve".encode("latin-1") * 20)
    (root / "short.txt").write_text("abc")
    with pytest.raises(ValueError, match=message):
        make(str(root))


@pytest.mark.parametrize("packed", [False, True])
def test_wikitext_is_read_as_transformer_xl_reads_it(tmp_path, packed):
    files = {
        "train": " \n = A title = \n \n the cat saw the <unk> . \n",
        "valid": " the dog . \n",
        "test": " a cat \n",
    }
    if packed:
        with zipfile.ZipFile(tmp_path / "wikitext-103-v1.zip", "w") as file:
            for name, text in files.items():
                file.writestr(f"wikitext-103/wiki.{name}.tokens", text)
    else:
        (tmp_path / "wikitext-103").mkdir()
        for name, text in files.items():
            (tmp_path / "wikitext-103" / f"wiki.{name}.tokens").write_text(text)
    data = WikiText103(root=str(tmp_path))
    train, val, test = splits_of(data)
    # <eos> 4 times, then = and the twice each, then the rest by name
    assert train.tolist() == [0, 1, 5, 8, 1, 0, 0, 2, 6, 7, 2, 4, 3, 0]
    assert val.tolist() == [2, 4, 3, 0] and test.tolist() == [4, 6, 0]
    assert data.lengths().tolist() == [2, 2, 4, 2, 6, 2, 4, 4, 6]


def test_wikitext_with_a_file_missing_names_it(tmp_path):
    (tmp_path / "wikitext-103").mkdir()
    with pytest.raises(ValueError, match=r"no wiki\.train\.tokens in .*wikitext-103; get it from"):
        WikiText103(root=str(tmp_path)).load("train")


# the task -------------------------------------------------------------------------------------------------------------


def far(**changes):
    """A task whose model remembers all there is."""
    net = partial(NET, memory=128, test_memory=128, same_length=False, clamp=None)
    return replace(SMALL, net=net, **changes)


@torch.no_grad()
@pytest.mark.parametrize("test_length", [1, 7, 100])
def test_perplexity_is_the_exponential_of_the_mean_cross_entropy(test_length):
    task = far(test_length=test_length, test_streams=1)
    model = task.model().double().eval()
    text = task.data.load("test").long()
    states, _ = model.body(text[None, :-1])
    logits = states[0] @ model.head.weight.T + model.head.bias
    expected = float(cross_entropy(logits, text[1:]))
    score = task.score(model, task.batches("test", batch_size=8))
    assert score["loss"] == pytest.approx(expected, rel=1e-9)
    assert score["perplexity"] == pytest.approx(math.exp(expected), rel=1e-9)
    assert score["bits_per_character"] == pytest.approx(expected / math.log(2), rel=1e-9)


@torch.no_grad()
def test_score_repeats_whatever_the_batch_size_and_what_was_read_before():
    model = SMALL.model().eval()
    one = SMALL.score(model, SMALL.batches("test", batch_size=4))
    next(iter(SMALL.batches("test", batch_size=4)))
    model(*next(iter(SMALL.batches("train", batch_size=7))))
    assert SMALL.score(model, SMALL.batches("test", batch_size=8)) == one


def test_bits_per_character_counts_the_characters_of_words(root):
    task = far(data=TextFile(root=str(root), places=("mine.txt",), tokenizer=Words(least=1)))
    model = task.model().eval()
    with torch.no_grad():
        score = task.score(model, task.batches("test", batch_size=4))
    text = task.data.load("test").long()
    characters = int(task.data.lengths()[text[1:]].sum())
    assert score["bits_per_character"] == pytest.approx(score["loss"] / math.log(2) * (len(text) - 1) / characters)


class Sure(torch.nn.Module):
    def forward(self, tokens, targets, first, last):
        return torch.full(targets.shape, 1000.0)


def test_perplexity_beyond_all_numbers_is_infinite():
    assert SMALL.score(Sure(), SMALL.batches("test", batch_size=4))["perplexity"] == math.inf


@pytest.mark.parametrize("weight_normalised", [False, True])
def test_perplexity_of_a_memorised_text_goes_to_one(weight_normalised):
    task = far(data=SyntheticText(count=41))
    task = replace(task, net=partial(task.net, width=32, inner=64, weight_normalised=weight_normalised))
    model = task.model()
    whole, in_parts = (list(in_turn(task.data.load("train"), streams=1, length=length)) for length in (40, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(model, whole[0]).backward()
        optimizer.step()
    with torch.no_grad():  # only with its memory does it know, in each part, where in the text it is
        assert 1 <= task.score(model.eval(), in_parts)["perplexity"] < 1.02
        alone = [part._replace(first=True) for part in in_parts]
        assert task.score(model, alone)["perplexity"] > 1.1


def test_loss_is_the_mean_over_what_is_there():
    model = SMALL.model()
    *_, last = in_turn(SMALL.data.load("train"), streams=7, length=16)
    assert (last.targets == IGNORED).any()
    found = model(last.tokens, last.targets)
    assert float(SMALL.loss(model, last._replace(first=True)).detach()) == pytest.approx(
        float(found[last.targets != IGNORED].mean().detach()), rel=1e-5
    )


def test_resumed_run_has_the_same_bits():
    recipe = RECIPES["shakespeare-txl-wn"].smoke()
    recipe = override(override(recipe, "task.net.dropout=0.2"), "epochs=3")
    plan = recipe.plan("adamp", 0)
    whole = Training(plan)  # one training at a time: all draw from torch's global generator
    whole.run_epoch()
    state = copy.deepcopy(whole.state_dict())
    losses = [whole.run_epoch()["train_loss"] for _ in range(2)]
    torch.manual_seed(99)
    resumed = Training(plan)
    resumed.load_state_dict(state)
    assert [resumed.run_epoch()["train_loss"] for _ in range(2)] == losses
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_smoke_takes_two_steps_on_generated_text():
    for name in ("wikitext103-txl", "shakespeare-txl-wn"):
        recipe = RECIPES[name].smoke()
        assert isinstance(recipe.task.data, SyntheticText)
        assert len(recipe.task.batches("train", batch_size=recipe.batch_size)) == 2
        assert recipe.task.net.keywords.get("weight_normalised", False) is name.endswith("-wn")
        assert bool(recipe.task.net.keywords.get("cutoffs")) is name.startswith("wikitext")


@pytest.mark.parametrize("name", ["length", "test_length", "test_streams"])
def test_lengths_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        replace(SMALL, **{name: 0})


def test_recipes_state_the_papers_numbers():
    numbers = {
        name: [RECIPES[name].paper[each].value for each in ("adamw", "adamp")]
        for name in ("wikitext103-txl", "wikitext103-txl-wn")
    }
    assert numbers == {"wikitext103-txl": [23.38, 23.26], "wikitext103-txl-wn": [23.96, 22.77]}
    assert not RECIPES["wikitext103-txl"].task.headline.higher_is_better
