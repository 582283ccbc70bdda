"""Language modelling.

The paper trains Transformer-XL on WikiText-103, as it is and with weight normalisation. With LayerNorm after
the residual sum no weight of a Transformer is scale-invariant; weight normalisation makes the directions so. There,
normalisation alone is worse, and with AdamP it is the best of the four (from memory of the text, unverified; the
numbers are those of the public page of January 2021).

The settings are those of the model that its authors call base, from their code: 16 layers of width 410, 10 heads of 41,
2,100 between the linear layers, dropout 0.1, segments and memory of 150 tokens, 60 streams, Adam at 2.5e-4 with a
cosine to zero, 200,000 steps (17.4 passes; 17 here), gradients clipped to a norm of 0.25, a tied
adaptive softmax cut at 20,000, 40,000 and 200,000 words; tested with segments of 64, a memory of 640, and distances
clamped at 400. Their perplexity is 24.03. Which weight decay the paper used is not known: none here, as there, so that
AdamW is Adam and only the projection differs. Two things are ours: each pass begins at a place drawn from the seed, and
no token is left out at the end of the text.

WikiText-103: https://wikitext.smerity.com/wikitext-103-v1.zip, as it is or unpacked into `wikitext-103/` of the folder
of data sets. A run takes 3.5 hours at the very least on one A100, by arithmetic (1.8 billion
tokens of 330 MFLOP each, at 50 TFLOP/s); it was not measured.

Tiny Shakespeare stands in for it where there is no such machine. Its recipes are ours, see docs/language.md.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tangential.experiments.data.text.corpora import WikiText103, tiny_shakespeare
from tangential.experiments.nets.transformer_xl import transformer_xl
from tangential.experiments.recipes.recipe import PROJECTED, Recipe, adam_pair, paper_numbers
from tangential.experiments.tasks.language import Language
from tangential.experiments.training.plan import TrainingOptions
from tangential.experiments.training.schedules import cosine

ADAM_PAIR = {"adamp": PROJECTED["adamp"]}


_table_7 = partial(paper_numbers, "page of January 2021, table 7")


def _normalised(recipe: Recipe, **changes: object) -> Recipe:
    """The same recipe with weight normalisation."""
    task = recipe.task
    assert isinstance(task, Language)
    net = partial(task.net.func, **task.net.keywords, weight_normalised=True)
    return replace(recipe, name=f"{recipe.name}-wn", task=replace(task, net=net), **changes)


wikitext103_txl = Recipe(
    name="wikitext103-txl",
    about="Transformer-XL base on WikiText-103 (table 7 of the paper's page)",
    task=Language(
        data=WikiText103(),
        net=partial(transformer_xl, cutoffs=(20_000, 40_000, 200_000)),
        length=150,
        test_length=64,
        test_streams=10,
        workers=2,
    ),
    optimizers=adam_pair(lr=2.5e-4, betas=(0.9, 0.999), weight_decay=0.0),
    baselines=ADAM_PAIR,
    schedule=partial(cosine, end=0.0),
    epochs=17,
    batch_size=60,
    margin=0.2,
    options=TrainingOptions(clip_norm=0.25),
    seeds=1,
    paper=_table_7(adamw=23.38, adamp=23.26),
)
wikitext103_txl_wn = _normalised(
    wikitext103_txl,
    about="the same with weight normalisation (table 7)",
    paper=_table_7(adamw=23.96, adamp=22.77),
)

shakespeare_txl = Recipe(
    name="shakespeare-txl",
    about="a small Transformer-XL on the characters of tiny Shakespeare",
    task=Language(
        data=tiny_shakespeare(),
        net=partial(
            transformer_xl,
            layers=3,
            width=96,
            heads=4,
            head_width=24,
            inner=288,
            dropout=0.0,
            memory=64,
            test_memory=128,
        ),
        length=64,
        test_length=64,
        test_streams=10,
    ),
    optimizers=adam_pair(lr=2e-3, betas=(0.9, 0.999), weight_decay=1e-2),
    baselines=ADAM_PAIR,
    schedule=partial(cosine, end=0.01),
    epochs=2,
    batch_size=16,
    margin=0.05,
    seeds=3,
)
shakespeare_txl_wn = _normalised(shakespeare_txl, about="the same small Transformer-XL with weight normalisation")

LANGUAGE = (wikitext103_txl, wikitext103_txl_wn, shakespeare_txl, shakespeare_txl_wn)
