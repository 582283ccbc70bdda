"""A diagnosis in sentences: the verdict, then a section for each question, then the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tangential.experiments.viewers.baseline import WD_RATIO
from tangential.experiments.viewers.diagnosis import TEST_STEPS, Diagnosis

_SHOWN = 3
_MEANINGS = {
    "none": "rescaling them changes the outputs",
    "joint": "invariant only jointly with another parameter",
    "near": "almost invariant, not exactly",
    "dead": "true gradient zero",
    "unused": "no part of the outputs",
    "inconclusive": "this batch cannot tell",
    "rest": "the other rows of these",
    "vectors": "biases, gains and other vectors",
}


@dataclass(frozen=True)
class Section:
    """A heading, and below it sentences and a table whose columns are parameters, blocks, weights, share."""

    heading: str
    sentences: list[str] = field(default_factory=list)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)


def verdict_sentence(diagnosis: Diagnosis) -> str:
    """The answer to "should I use it?"."""
    new, old = diagnosis.baseline.projected_title, diagnosis.baseline.title
    total = sum(each.elements for each in diagnosis.shares)
    part = sum(each.elements for each in diagnosis.shares if each.projected)
    share = f"{100 * diagnosis.share:.1f} % of the weights ({_short(part)} of {_short(total)}) are scale-invariant"
    match diagnosis.verdict:
        case "nothing":
            return f"There is nothing to project: no weight of this model is scale-invariant. Keep {old}."
        case "little":
            return f"Little to gain: only {share}. {new} would be {old} for all the others."
        case "some":
            return f"Worth a comparison: {share}; {new} would project them and be {old} for the others."
        case _:
            return f"Worth a comparison: {share}, so {new} would change most of the training."


def sections(diagnosis: Diagnosis) -> list[Section]:
    """What to print below the verdict; sections without anything to tell are left out."""
    made = [_projected(diagnosis), _growth(diagnosis), _test(diagnosis), _changes(diagnosis), _epsilons(diagnosis)]
    return [section for section in [*made, _hints(diagnosis)] if section.sentences or section.rows]


def code(diagnosis: Diagnosis) -> str:
    """The Python to paste; it runs as it is, in the folder of the user's file if there is one."""
    source, baseline = diagnosis.subject.code, diagnosis.baseline
    imports = [line if " " in line else f"import {line}" for line in source.imports]
    packages = sorted({"import torch", *(line for line in imports if line.startswith("import "))})
    own = [line for line in imports if line.startswith("from ")]
    if diagnosis.verdict == "nothing":
        lines = [*source.lines, f"optimizer = {baseline.call('model.parameters()')}"]
        return "\n".join([*packages, *own, "", *lines])
    find = f"found = find_invariances(model, {source.arguments})"
    names = f"from tangential import {baseline.projected_title}, find_invariances"
    return "\n".join([*packages, *own, names, "", *source.lines, find, f"optimizer = {baseline.projected_call()}"])


def _projected(diagnosis: Diagnosis) -> Section:
    total = sum(each.elements for each in diagnosis.shares) or 1
    rows = [
        (
            str(each.count),
            f"by {each.label}" if each.projected else f"not: {_MEANINGS.get(each.label, each.label)}",
            _short(each.elements),
            f"{100 * each.elements / total:.1f} %",
        )
        for each in diagnosis.shares
    ]
    return Section("What would be projected", rows=rows)


def _test(diagnosis: Diagnosis) -> Section:
    """Where the paper's cosine test and the analysis disagree."""
    heading = f'The paper\'s test (blocks="cosine", the default), {TEST_STEPS} steps on random targets'
    return Section(heading, list(_each_test_result(diagnosis)))


def _each_test_result(diagnosis: Diagnosis) -> Iterator[str]:
    invariant = [each for each in diagnosis.records if each.invariant]
    variant = [each for each in diagnosis.records if not each.invariant]
    decisions = len(invariant) * TEST_STEPS
    missed, wrong = (sum(getattr(e, what) for e in invariant) for what in ("misses", "wrong_view"))
    hits = sum(each.false_hits for each in variant)
    if invariant and not missed and not wrong:
        yield f"It is right about {_matrices(len(invariant), 'invariant')} at every step."
    if missed:
        yield f"It misses {_matrices(len(invariant), 'invariant')} at {missed} of {decisions} steps."
    if wrong:
        yield f"It projects other blocks than the invariant ones at {wrong} of {decisions} steps."
    if hits:
        steps = len(variant) * TEST_STEPS
        yield (
            f"It projects {_matrices(len(variant), 'scale-variant')} at {hits} of {steps} steps, by chance, and each"
            f" time cuts their decay to a tenth."
        )
    elif variant:
        yield f"It leaves {_matrices(len(variant), 'scale-variant')} alone."
    if diagnosis.verdict != "nothing" and (missed or wrong or hits):
        yield "The code below projects what the analysis found, without a test."


def _changes(diagnosis: Diagnosis) -> Section:
    baseline = diagnosis.baseline
    new, old, decay = baseline.projected_title, baseline.title, baseline.decay_per_step
    heading = f"What changes against {baseline.call('...')}"
    if diagnosis.verdict == "nothing":
        return Section(
            heading, [f"Nothing that helps: {new} with blocks=None is {old}, with its default it adds chance."]
        )
    sentences = [
        f"Projected weights lose the part of each step that only lengthens them, so their norms grow less and their"
        f" effective steps shrink less. All others take {old}'s step."
    ]
    if decay:
        sentences.append(
            f"Projected weights decay by {WD_RATIO * decay:.2g} of themselves per step instead of {decay:.2g}:"
            f" weight_decay is multiplied by wd_ratio={WD_RATIO:g}. The others keep {decay:.2g}."
        )
    else:
        sentences.append("No weight decays, as now.")
    if old == "AdamW":
        sentences.append("AdamP's own default is weight_decay=0, torch's AdamW has 0.01: write it down.")
    elif decay:
        sentences.append(
            "SGDP's decay is decoupled: it acts on the weight and not through the momentum. The same weight_decay gives"
            " the same decay in the long run."
        )
    sentences.append("Start from the learning rate you have, and tune both optimizers over the same grid.")
    return Section(heading, sentences)


def _growth(diagnosis: Diagnosis) -> Section:
    growth = diagnosis.growth
    if growth is None:
        return Section("")
    power = 1 if diagnosis.baseline.title == "AdamW" else 2  # effective learning rate: lr / |w| and lr / |w|^2
    sentences = [
        f"{title}: norms of the invariant weights {_change(norm)}, which by itself makes their effective steps"
        f" {norm**-power:.0%} of what they were; measured, gradients included:"
        f" {growth.effective_steps[title]:.0%}."
        for title, norm in growth.norms.items()
    ]
    return Section(f"Over {growth.steps} steps on your data (medians, from the first to the last)", sentences)


def _epsilons(diagnosis: Diagnosis) -> Section:
    heading = "Epsilons"
    if diagnosis.verdict == "nothing":
        return Section(heading)
    if not diagnosis.epsilons:
        return Section(heading, ["None matters at these weights."])
    sentences = [
        f"{each.where} keeps {each.blocks} of {each.of} blocks of {each.weight} from being invariant."
        for each in diagnosis.epsilons[:_SHOWN]
    ]
    if len(diagnosis.epsilons) > _SHOWN:
        sentences.append(f"So do {len(diagnosis.epsilons) - _SHOWN} others; `tangential inspect` lists them.")
    sentences.append(
        "The outputs of these blocks vary so little that the epsilon outweighs them. Larger initial weights or a"
        ' smaller epsilon mend it; found["NAME"] = None leaves a weight alone.'
    )
    return Section(heading, sentences)


def _hints(diagnosis: Diagnosis) -> Section:
    return Section("What would make more of it invariant, or known", list(_each_hint(diagnosis)))


def _each_hint(diagnosis: Diagnosis) -> Iterator[str]:
    if biased := diagnosis.biased:
        yield (
            f"{_matrices(len(biased))} would be invariant without bias, like {biased[0][0]}: {biased[0][1]} is added"
            " before the normalisation. Build the layer with bias=False; the normalisation has a bias of its own."
        )
    if unclear := diagnosis.of_kind("inconclusive"):
        yield (
            f"The batch cannot tell about {_matrices(len(unclear))}, like {unclear[0].name}"
            f"{f' ({unclear[0].reason})' if unclear[0].reason else ''}. A larger or more usual --batch may tell."
        )
    if near := diagnosis.of_kind("near"):
        why = near[0].reason or "see tangential inspect"
        yield f"Almost invariant, so not projected: {_matrices(len(near))}, like {near[0].name}: {why}."


def _matrices(count: int, kind: str = "") -> str:
    return f"{count} {kind} {'matrix' if count == 1 else 'matrices'}".replace("  ", " ")


def _change(factor: float) -> str:
    if abs(factor - 1) < 0.005:
        return "stayed the same"
    return f"{'grew' if factor > 1 else 'shrank'} by {abs(factor - 1):.0%}"


def _short(count: int) -> str:
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
