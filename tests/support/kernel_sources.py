"""Sources of the C kernel that are soon compiled."""

import re


def only_float(sources):
    """Leave the first pair of storage types alone, which is soon compiled."""
    rule, step = sources / "rule.inc", sources / "step.c"
    rule.write_text(rule.read_text().split("#define WEIGHT_T uint16_t")[0])
    text = re.sub(r"(\{PASS\(rule, f32_f32\)).*?\}\n", r"\1}\n", step.read_text(), flags=re.DOTALL)
    assert text != step.read_text()
    step.write_text(text)
