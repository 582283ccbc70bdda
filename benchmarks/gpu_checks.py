"""What must hold on a CUDA device before a step time means anything, as checks that name themselves.

    python benchmarks/gpu_checks.py                               on a GPU
    TRITON_INTERPRET=1 python benchmarks/gpu_checks.py --device cpu    what can be tried without: the arithmetic

Each check gives a figure and whether it holds. The exit code is 1 if one does not, 2 where there is no device.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tangential import SGDP, AdamP, Blocks
from tangential.backends import DECISION, fused

RESULTS = Path(__file__).parent / "results"
SHAPES = [(64, 3, 7, 7), (64,), (96, 1, 3, 3), (40, 64), (8, 147), (6, 1000), (4, 4608), (2, 20_001), (1, 300_000), ()]
SMALL = [(8, 3, 3, 3), (5,), (6, 48), (2, 4112), (2, 8208)]
RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamP": lambda p, **kw: AdamP(p, lr=1e-2, weight_decay=0.1, **kw),
    "AdamP nesterov": lambda p, **kw: AdamP(p, lr=1e-2, weight_decay=0.1, nesterov=True, **kw),
    "SGDP": lambda p, **kw: SGDP(p, lr=1e-2, momentum=0.9, weight_decay=0.1, **kw),
}
KINDS: dict[str, Blocks | str | None] = {
    "cosine": "cosine",
    "channel": Blocks(),
    "layer": Blocks(size=None),
    "heads": Blocks(size=2),
    "dim 1": Blocks(dim=1),
    "none": None,
}
Check = dict[str, object]


def check(name: str, figure: float, least: float) -> Check:
    """A figure that must not be above a bound."""
    return dict(check=name, figure=figure, bound=least, holds=bool(figure <= least))


def made(shapes: list[tuple[int, ...]], device: str, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """The same weights every time."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in shapes]


def give(params: list[nn.Parameter], step: int, scale: float = 1.0) -> None:
    """The same gradients for the same step; every other matrix is orthogonal to its own, so that the test fires."""
    generator = torch.Generator().manual_seed(step)
    for i, p in enumerate(params):
        x = torch.randn(p.shape, generator=generator).to(p.device, torch.float64)
        if i % 2 == 0 and p.ndim > 1:
            rows, others = p.detach().double().flatten(1), x.flatten(1)
            x = (others - rows * ((rows * others).sum(1) / (rows * rows).sum(1))[:, None]).view_as(x)
        p.grad = (x * scale).to(p.dtype)


def parity(device: str, shapes: list[tuple[int, ...]], steps: int) -> list[Check]:
    """The kernel against the float64 definition over some steps: error as a part of how far the weights went."""
    found = []
    for rule, make in RULES.items():
        for kind, blocks in KINDS.items():
            some = [s for s in shapes if isinstance(blocks, str | None) or (len(s) > 1 and s[0] % 2 == 0)]
            ours, exact = made(some, device), [nn.Parameter(p.detach().double()) for p in made(some, device)]
            begun = [p.detach().clone() for p in exact]
            kernel, definition = make(ours, blocks=blocks, fused=True), make(exact, blocks=blocks, foreach=False)
            for step in range(steps):
                give(exact, step)
                for p, q in zip(ours, exact, strict=True):
                    assert q.grad is not None
                    p.grad = q.grad.to(p.dtype)
                kernel.step()
                definition.step()
            errors = [_error(p, q, old) for p, q, old in zip(ours, exact, begun, strict=True)]
            found.append(check(f"parity {rule} {kind}, {steps} steps", max(errors), 1e-4))
    return found


def _error(p: Tensor, q: Tensor, begun: Tensor) -> float:
    moved = (q - begun).abs().max().clamp_min(1e-30)
    return float(((p.double() - q).abs().max() / moved).detach())


def half(device: str) -> list[Check]:
    """One step in half precision, in spacings of the dtype: rounded once, or twice after a wrong guess."""
    found = []
    for dtype, spacing in ((torch.bfloat16, 2.0**-7), (torch.float16, 2.0**-10)):
        ours = made(SMALL, device, dtype)
        exact = [nn.Parameter(p.detach().double()) for p in ours]
        kernel, definition = AdamP(ours, lr=1e-2, fused=True), AdamP(exact, lr=1e-2, foreach=False)
        give(ours, 0)
        for p, q in zip(ours, exact, strict=True):
            assert p.grad is not None
            q.grad = p.grad.double()
        kernel.step()
        definition.step()
        gaps = [(p.detach().double() - q.detach()).abs() for p, q in zip(ours, exact, strict=True)]
        errors = [(gap / q.detach().abs().clamp_min(1e-2)).max() for gap, q in zip(gaps, exact, strict=True)]
        # Triton's interpreter cuts bfloat16 off where a device rounds
        found.append(check(f"one step in {dtype}, in spacings", float(max(errors)) / spacing, 2.1))
    return found


def wrong_guesses(device: str) -> list[Check]:
    """Every prediction inverted, against right ones: the same to rounding."""
    found = []
    for inverted in (False, True):
        ours, exact = made(SMALL, device), [nn.Parameter(p.detach().double()) for p in made(SMALL, device)]
        begun = [p.detach().clone() for p in exact]
        kernel, definition = AdamP(ours, lr=1e-2, fused=True), AdamP(exact, lr=1e-2, foreach=False)
        for step in range(5):
            give(exact, step)
            for p, q in zip(ours, exact, strict=True):
                assert q.grad is not None
                p.grad = q.grad.float()
            for own in kernel.state.values() if inverted else ():
                if DECISION in own:
                    own[DECISION].copy_(own[DECISION] != 1)
            kernel.step()
            definition.step()
        errors = [_error(p, q, old) for p, q, old in zip(ours, exact, begun, strict=True)]
        found.append(check("predictions inverted" if inverted else "predictions right", max(errors), 1e-4))
    return found


def scaling(device: str) -> list[Check]:
    """Scaled gradients make the same step; overflown ones none, and the step is not counted."""
    ours, theirs = made(SMALL, device), made(SMALL, device)
    scaled, plain = AdamP(ours, lr=1e-2, fused=True), AdamP(theirs, lr=1e-2, fused=True)
    for step, overflown in enumerate((0.0, 1.0, 0.0)):
        give(ours, step, 1024.0)
        give(theirs, step)
        scaled.grad_scale = torch.tensor(1024.0, device=device)  # pyright: ignore[reportAttributeAccessIssue]
        scaled.found_inf = torch.tensor(overflown, device=device)  # pyright: ignore[reportAttributeAccessIssue]
        scaled.step()
        if not overflown:
            plain.step()
    gap = max(float((p.detach() - q.detach()).abs().max()) for p, q in zip(ours, theirs, strict=True))
    counted = max(abs(float(own["step"]) - 2) for own in scaled.state.values())
    return [check("scaled gradients, one step overflown", gap, 0.0), check("overflown steps counted", counted, 0.0)]


def scaler() -> list[Check]:
    """`GradScaler` leaves it to the kernel."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(16 * 36, 10)
    ).cuda()
    optimizer, scaler = AdamP(net.parameters(), fused=True), torch.amp.GradScaler("cuda", init_scale=2.0**40)
    x = torch.randn(8, 3, 8, 8, device="cuda")
    first = net[0].weight.detach().clone()  # pyright: ignore[reportCallIssue]
    for _ in range(40):  # the scale overflows float16 until it has halved often enough
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = net(x).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    finite = all(p.isfinite().all() for p in net.parameters())
    moved = float((net[0].weight.detach() - first).abs().max())  # pyright: ignore[reportOperatorIssue]
    counted = float(next(iter(optimizer.state.values()))["step"])
    told = getattr(optimizer, "_step_supports_amp_scaling", False)
    return [
        check("GradScaler: finite, moved, skipped some", float(not (finite and moved and 0 < counted < 40 and told)), 0)
    ]


def waiting() -> list[Check]:
    """No step makes the host wait: torch raises at the first synchronisation. New gradients and rates included."""
    params = made(SHAPES, "cuda")
    optimizers = [AdamP(params, fused=True), AdamP(params, fused=True, blocks=None), SGDP(params, momentum=0.9)]
    optimizers.append(AdamP(params, lr=torch.tensor(1e-3, device="cuda"), blocks="sticky", fused=True))
    give(params, 0)
    for optimizer in optimizers:
        optimizer.step()
    torch.cuda.synchronize()
    kept, failures = [p.grad for p in params], []
    for p in params:
        p.grad = torch.randn_like(p)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for optimizer in optimizers:
            if not isinstance(optimizer.param_groups[0]["lr"], Tensor):
                optimizer.param_groups[0]["lr"] *= 0.5
            optimizer.step()
            optimizer.step()
    except RuntimeError as error:
        failures.append(str(error))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    del kept
    return [check(f"host waits {failures}", len(failures), 0)]


def capture() -> list[Check]:
    """A captured step, replayed, is the step; rate and decay on the device are read at every replay."""
    found = []
    for blocks in ("cosine", Blocks(), Blocks(size=None)):
        shapes = [(64, 3, 3, 3), (40, 64), (6, 1000), (2, 20_001)]
        grads = made(shapes, "cuda")
        results = []
        for captured in (True, False):
            params = made(shapes, "cuda")
            for p, g in zip(params, grads, strict=True):
                p.grad = g.detach().clone()
            rate, decay = torch.tensor(1e-3, device="cuda"), torch.tensor(0.1, device="cuda")
            optimizer = AdamP(params, lr=rate, weight_decay=decay, blocks=blocks, fused=True, capturable=True)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                optimizer.step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            if captured:
                with torch.cuda.graph(graph):
                    optimizer.step()
            for i in range(5):
                rate.fill_(1e-3 / (i + 1))
                decay.fill_(0.1 / (i + 1))
                for p, g in zip(params, grads, strict=True):
                    assert p.grad is not None
                    p.grad.copy_(g * (i + 1))
                graph.replay() if captured else optimizer.step()
            results.append([p.detach().clone() for p in params])
        gap = max(float((p - q).abs().max()) for p, q in zip(*results, strict=True))
        found.append(check(f"graph replayed, {blocks}", gap, 0.0))
    return found


def main() -> int:
    """Check, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="fewer rules and shapes, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args()
    on_gpu = wanted.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("no CUDA device: torch.cuda.is_available() is False, so nothing was checked", file=sys.stderr)
        return 2
    if not on_gpu:
        if os.environ.get("TRITON_INTERPRET") != "1":
            parser.error("--device cpu needs TRITON_INTERPRET=1, which makes Triton interpret the kernel")
        fused.CUDA = "cpu"
    if wanted.quick:
        RULES.pop("AdamP nesterov")
    found = parity(wanted.device, SHAPES if on_gpu else SMALL[: 2 if wanted.quick else 4], 20 if on_gpu else 2)
    found += [*half(wanted.device), *wrong_guesses(wanted.device), *scaling(wanted.device)]
    if on_gpu:
        found += [*waiting(), *capture(), *scaler()]
    for one in found:
        print(f"{'ok  ' if one['holds'] else 'FAIL'} {one['check']}: {one['figure']:.3g} (at most {one['bound']:.3g})")
    name = torch.cuda.get_device_name() if on_gpu else "interpreter"
    about = dict(device=name, torch=torch.__version__, checks=found)
    wanted.out.mkdir(parents=True, exist_ok=True)
    file = wanted.out / f"gpu_checks-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    file.write_text(json.dumps(about, indent=1) + "\n")
    print(f"written to {file}")
    return 0 if all(one["holds"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
