"""What installing from source does beyond copying files: it compiles the kernel. `kernels/build.py` tells the rest."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
EVERYWHERE = os.environ.get("TANGENTIAL_KERNELS") == "all"


def _kernels() -> ModuleType:
    """The build module of the package, which cannot be imported through the package yet."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "src" / "tangential" / "kernels" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class KernelHook(BuildHookInterface):
    """Puts the compiled kernel beside its loader, and into the wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """zig, if files for other platforms are asked for or there is no compiler."""
        return ["ziglang>=0.13"] if EVERYWHERE or _kernels().compiler() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a failure is told, and costs speed only, unless a wheel for everyone was asked for."""
        kernels = _kernels()
        try:
            targets = kernels.TARGETS if EVERYWHERE else [kernels.host()]
            made = kernels.build_all(targets, self._command(kernels), strip=version != "editable")
        except (OSError, subprocess.CalledProcessError) as error:
            if EVERYWHERE:
                raise
            self.app.display_warning(f"no kernel was built, steps will be taken in plain torch: {error}")
            return
        build_data["artifacts"] += [str(path.relative_to(ROOT)) for path in made]
        if not EVERYWHERE:
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")

    @staticmethod
    def _command(kernels: ModuleType) -> list[str]:
        return kernels.zig() if EVERYWHERE else kernels.compiler() or kernels.zig()
