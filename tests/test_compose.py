"""The Compose file: each service is watched, and none sees what is another's."""

from __future__ import annotations

from pathlib import Path

import yaml

from balancer.settings import SETTINGS as BALANCER_SETTINGS
from load_tester.settings import SETTINGS as LOAD_TESTER_SETTINGS
from load_tester.settings import load_settings

SERVICES = yaml.safe_load((Path(__file__).parent.parent / "docker-compose.yml").read_text())["services"]


def test_each_has_a_healthcheck_and_only_settings_that_exist() -> None:
    known = {setting.name for setting in (*BALANCER_SETTINGS, *LOAD_TESTER_SETTINGS)}
    for name, service in SERVICES.items():
        assert "/health" in " ".join(service["healthcheck"]["test"]), name
        assert service["environment"].keys() <= known, name


def test_no_two_share_a_volume() -> None:
    volumes = [volume.partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]]
    assert len(volumes) == len(set(volumes))


def test_the_load_tester_stays_on_this_machine_and_knows_no_token_of_the_balancer() -> None:
    service = SERVICES["load-tester"]
    assert service["ports"] == ["127.0.0.1:8088:8088"]
    assert "env_file" not in service and not any(name.startswith("LB_") for name in service["environment"])


def test_what_is_typed_there_leads_to_the_balancer() -> None:
    default = SERVICES["load-tester"]["environment"]["LT_HOST_REWRITES"].partition(":-")[2].removesuffix("}")
    rewrites = dict(load_settings({"LT_HOST_REWRITES": default}).host_rewrites)
    assert rewrites["localhost", 8090] == rewrites["127.0.0.1", 8090] == ("load-balancer", 8090)
