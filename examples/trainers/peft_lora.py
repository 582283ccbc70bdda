"""peft: LoRA, and DoRA with `use_dora=True`.

The detector sees the adapters as they are trained; frozen weights are left out of the groups.
"""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from problem import demo, images, loader, net
from torch.nn.functional import cross_entropy

from tangential import AdamP, find_invariances, watch


def train(folder: Path, epochs: int, resume: bool = False, **settings):
    model = get_peft_model(net(), LoraConfig(r=4, target_modules=["3"], modules_to_save=["1", "4", "7"], **settings))
    found = find_invariances(model, images[:8])
    optimizer = AdamP(found.param_groups(weight_decay=1e-2), lr=1e-2)
    telemetry = watch(optimizer, every=2)
    start = 0
    if resume:
        saved = torch.load(folder / "adapter.pt")
        start = saved["epoch"]
        set_peft_model_state_dict(model, saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        telemetry.load_state_dict(saved["telemetry"])
    for _ in range(start, epochs):
        for x, y in loader():
            cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    states = {"optimizer": optimizer.state_dict(), "telemetry": telemetry.state_dict()}
    torch.save({"epoch": epochs, "model": get_peft_model_state_dict(model), **states}, folder / "adapter.pt")
    return model, telemetry


if __name__ == "__main__":
    demo(train)
