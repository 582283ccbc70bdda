"""Audio classification with the harmonic CNN: music tags, keyword spotting and sound events.

The paper compares Adam and AdamP (v1, table 5). Its settings for them are from memory of the appendix and unverified: a
learning rate of 1e-4, no weight decay, a cosine schedule, no change of the optimizer on the way. Batches of 16, 200
epochs and windows of 80,000 samples are those of the network's own published code, which starts with Adam and goes on
with SGD. Its baseline is called Adam; without decay AdamW is the same.

Music and sound events are classified in windows of five seconds, at random places in training and at 16 evenly spaced
ones in testing; the second of a spoken word is padded with silence to five, as in the published code
(`task.samples=16128` is a fifth of the work). The PR-AUC that the paper gives for music, 45.61 for Adam and 45.79 for
AdamP, is to be compared with `pr_auc`.

The published code keeps the epoch that is best on the validation part; we report the last. `task.data.test=validation`
tests on that part, to choose settings by.

Where to get the data: docs/audio.md. The digits stand in for it where there is no such machine; their recipe is ours.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tangential.experiments.data.sounds.speech import Fsdd, SpeechCommands
from tangential.experiments.data.sounds.tagged import MagnaTagATune, SoundEvents
from tangential.experiments.nets.harmonic import DIGIT_POOLS, EVENT_POOLS, KEYWORD_POOLS, TAGGING_POOLS, harmonic_net
from tangential.experiments.recipes.recipe import PROJECTED, Recipe, adam_pair, paper_numbers, sgd_pair
from tangential.experiments.tasks.audio import F1, ROC_AUC, Keyword, Tagging
from tangential.experiments.training.schedules import cosine

WINDOW = 80_000

_table_5 = partial(paper_numbers, "v1, table 5")


mtat_harmonic = Recipe(
    name="mtat-harmonic",
    about="a harmonic CNN on MagnaTagATune's 50 tags (table 5 of the paper)",
    task=Tagging(
        data=MagnaTagATune(), net=partial(harmonic_net, pools=TAGGING_POOLS), samples=WINDOW, headline=ROC_AUC
    ),
    optimizers=adam_pair(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0),
    baselines={"adamp": PROJECTED["adamp"]},
    schedule=partial(cosine, end=0.0),
    epochs=200,
    batch_size=16,
    seeds=1,
    paper=_table_5(adamw=91.12, adamp=91.35),
)
speech_commands_harmonic = replace(
    mtat_harmonic,
    name="speech-commands-harmonic",
    about="a harmonic CNN on the 35 words of Speech Commands v2 (table 5)",
    task=Keyword(data=SpeechCommands(), net=partial(harmonic_net, pools=KEYWORD_POOLS), samples=WINDOW),
    paper=_table_5(adamw=96.47, adamp=96.89),
    paper_data=None,
)
dcase_harmonic = replace(
    mtat_harmonic,
    name="dcase-harmonic",
    about="a harmonic CNN on 17 kinds of sound events, DCASE 2017 (table 5)",
    task=Tagging(data=SoundEvents(), net=partial(harmonic_net, pools=EVENT_POOLS), samples=WINDOW, headline=F1),
    paper=_table_5(adamw=55.24, adamp=56.04),
    paper_data=None,
)

_DIGITS = Keyword(
    data=Fsdd(),
    net=partial(harmonic_net, fft=256, per_semitone=1, width=16, pools=DIGIT_POOLS, dropout=0.1),
    samples=6144,
)

fsdd_harmonic = Recipe(
    name="fsdd-harmonic",
    about="a narrow harmonic CNN on 3,000 spoken digits, all speakers known",
    task=_DIGITS,
    optimizers={
        **sgd_pair(lr=0.05, momentum=0.9, weight_decay=1e-4),
        **adam_pair(lr=3e-3, betas=(0.9, 0.999), weight_decay=1e-2),
    },
    baselines=PROJECTED,
    schedule=partial(cosine, end=0.01),
    epochs=12,
    batch_size=32,
    seeds=3,
)
fsdd_harmonic_speaker = replace(
    fsdd_harmonic,
    name="fsdd-harmonic-speaker",
    about="the same, tested on an unseen speaker",
    task=replace(_DIGITS, data=Fsdd(speaker="lucas")),
)

AUDIO = (mtat_harmonic, speech_commands_harmonic, dcase_harmonic, fsdd_harmonic, fsdd_harmonic_speaker)
