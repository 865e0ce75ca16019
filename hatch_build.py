"""The package's build hook: a wheel carries the built editor as `balancer/_webui`, a checkout in `webui/dist`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditorHook(BuildHookInterface[Any]):
    """Builds the editor where its sources are newer than what is built. Takes Node from PyPI where there is none."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs beside the build system."""
        script = self._script()
        is_ready = script["is_fresh"](self._webui) or script["find_node"]() is not None
        return [] if is_ready else [script["NODE_PACKAGE"]]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and put the result into the wheel; an editable one leads to the checkout anyway."""
        script = self._script()
        try:
            script["build"](self._webui)
        except script["BuildError"] as error:
            raise SystemExit(f"llm-balancer: {error}") from None
        if version != "editable":
            build_data["force_include"][str(self._webui / "dist")] = "balancer/_webui"

    @property
    def _webui(self) -> Path:
        return Path(self.root, "webui")

    def _script(self) -> dict[str, Any]:
        return runpy.run_path(str(Path(self.root, "scripts", "webui.py")))
