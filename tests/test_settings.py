from __future__ import annotations

import dataclasses
import runpy
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.setting_texts import help_text, overview, read_env_file
from balancer.settings import SETTINGS, Settings, SettingsError, load_settings

ROOT = Path(__file__).resolve().parent.parent
NAMES = [setting.name for setting in SETTINGS]


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return caught.value.problems


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("env") / ".env"


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    script = runpy.run_path(str(ROOT / "scripts" / "configuration_docs.py"))
    return {".env.example": script["env_example"](), "docs/configuration.md": script["configuration_page"]()}


class TestDefaults:
    def test_an_empty_environment_gives_them(self) -> None:
        settings = load_settings({})
        assert settings == Settings()
        assert (settings.host, settings.port) == ("127.0.0.1", 8090)
        assert (settings.admin_token, settings.client_tokens) == ("", ())
        assert settings.database_url == "sqlite+aiosqlite:///./data/load_balancer.db"
        assert (settings.fail_threshold, settings.cooldown_seconds) == (3, 20.0)
        assert settings.default_timeout_seconds == 120.0
        assert (settings.max_connections, settings.max_keepalive) == (500, 200)
        assert (settings.log_level, settings.log_format) == ("INFO", "text")
        assert settings.max_body_bytes == 32 * 1024 * 1024
        assert settings.routing_strategy == "percentage"
        assert (settings.max_retries, settings.retry_budget_percent) == (2, 20.0)
        assert settings.retry_on_timeout is True
        assert (settings.queue_size, settings.queue_timeout_seconds) == (0, 10.0)
        assert (settings.drain_seconds, settings.client_write_timeout_seconds) == (120.0, 60.0)
        assert (settings.stream_ping_seconds, settings.retention_days) == (0.0, 30)
        assert (settings.min_healthy_nodes, settings.trusted_proxies) == (1, ())
        assert (settings.model_sentinels, settings.lm_model, settings.preferred_models) == (("auto", "default"), "", ())
        assert (settings.auto_model_strategy, settings.failure_memory_seconds) == ("any_first", 600.0)

    @pytest.mark.parametrize("blank", ["", "  ", "\t"])
    def test_blank_counts_as_unset(self, blank: str) -> None:
        assert load_settings(dict.fromkeys(NAMES, blank)) == Settings()
        assert load_settings({"LB_PORT": blank, "HTTP_PORT": "9"}).port == 9

    def test_the_placeholder_is_no_admin_token(self) -> None:
        assert load_settings({"LB_ADMIN_TOKEN": "change-me-admin-token"}).admin_token == ""

    def test_written_out_they_are_the_same(self) -> None:
        assert load_settings({setting.name: setting.default for setting in SETTINGS}) == Settings()


class TestValues:
    @pytest.mark.parametrize(
        ("name", "text", "attribute", "value"),
        [
            ("LB_PORT", "0", "port", 0),
            ("LB_PORT", " 65535 ", "port", 65535),
            ("LB_HOST", "::1", "host", "::1"),
            ("LB_LOAD_TESTER_URL", "https://lt.example/", "load_tester_url", "https://lt.example"),
            ("LB_HOST", "lb.example.org", "host", "lb.example.org"),
            ("LB_ADMIN_TOKEN", "s3cret!", "admin_token", "s3cret!"),
            ("LB_CLIENT_TOKENS", " a-1 ,, b-2,a-1,", "client_tokens", ("a-1", "b-2")),
            ("LB_CLIENT_TOKENS", ",", "client_tokens", ()),
            ("LB_FAIL_THRESHOLD", "1", "fail_threshold", 1),
            ("LB_COOLDOWN_SECONDS", "1.5", "cooldown_seconds", 1.5),
            ("LB_STREAM_PING_SECONDS", "0.0", "stream_ping_seconds", 0.0),
            ("LB_STREAM_PING_SECONDS", "15", "stream_ping_seconds", 15.0),
            ("LB_RETRY_BUDGET_PERCENT", "100", "retry_budget_percent", 100.0),
            ("LB_RETRY_ON_TIMEOUT", "No", "retry_on_timeout", False),
            ("LB_RETRY_ON_TIMEOUT", "1", "retry_on_timeout", True),
            ("MODEL_SENTINELS", " auto ;Any,, auto", "model_sentinels", ("auto", "Any")),
            ("MODEL_SENTINELS", ",", "model_sentinels", ()),
            (
                "PREFERRED_MODELS",
                "org/small-3.2,qwen:8b;gpt 4",
                "preferred_models",
                ("org/small-3.2", "qwen:8b", "gpt 4"),
            ),
            ("LM_MODEL", " whatever ", "lm_model", "whatever"),
            ("AUTO_MODEL_STRATEGY", "Intersection_First", "auto_model_strategy", "intersection_first"),
            ("LB_FAILURE_MEMORY_SECONDS", "0", "failure_memory_seconds", 0.0),
            ("LB_LOG_LEVEL", "debug", "log_level", "DEBUG"),
            ("LB_LOG_FORMAT", "JSON", "log_format", "json"),
            ("LB_DATABASE_URL", "postgresql+asyncpg://u:p@h/d", "database_url", "postgresql+asyncpg://u:p@h/d"),
            ("LB_DB_PATH", "/var/my data/lb.db", "database_url", "sqlite+aiosqlite:////var/my data/lb.db"),
            (
                "LB_TRUSTED_PROXIES",
                "10.0.0.0/8, ::1",
                "trusted_proxies",
                (ip_network("10.0.0.0/8"), ip_network("::1/128")),
            ),
        ],
    )
    def test_accepted(self, name: str, text: str, attribute: str, value: object) -> None:
        assert getattr(load_settings({name: text}), attribute) == value

    @pytest.mark.parametrize(
        ("name", "texts"),
        [
            ("LB_PORT", ["65536", "-1", "80.0", "eighty", "8_090", "٨٠", "0x50", "tcp://10.0.0.1:8090"]),
            (
                "LB_LOAD_TESTER_URL",
                ["lt.example", "javascript:alert(1)", "http://u:p@h", "http://h/#/x", "http://h/?a"],
            ),
            ("LB_HOST", ["127.0.0.1:80", "999.1.1.1", "a b", "http://x", "[::1]", "-x"]),
            ("LB_FAIL_THRESHOLD", ["0", "1.5"]),
            ("LB_COOLDOWN_SECONDS", ["0", "0.9", "nan", "inf", "-5", "1e3", "20s"]),
            ("LB_DEFAULT_TIMEOUT_SECONDS", ["4", "601"]),
            ("LB_MAX_CONNECTIONS", ["9"]),
            ("LB_MAX_KEEPALIVE", ["9"]),
            ("LB_MAX_BODY_BYTES", ["0", "32MB"]),
            ("LB_RETENTION_DAYS", ["0"]),
            ("LB_STREAM_PING_SECONDS", ["0.5", "nan", "off"]),
            ("LB_RETRY_BUDGET_PERCENT", ["101", "20%"]),
            ("LB_RETRY_ON_TIMEOUT", ["maybe"]),
            ("MODEL_SENTINELS", ["a\x07"]),
            ("PREFERRED_MODELS", ["fine,not\u2028fine"]),
            ("LM_MODEL", ["a\nb"]),
            ("AUTO_MODEL_STRATEGY", ["best"]),
            ("LB_FAILURE_MEMORY_SECONDS", ["0.5", "-1"]),
            ("LB_LOG_LEVEL", ["CHATTY"]),
            ("LB_LOG_FORMAT", ["xml"]),
            ("LB_TRUSTED_PROXIES", ["*", "10.0.0.1/8", "proxy.local", "10.0.0.1 10.0.0.2"]),
            ("LB_DB_PATH", ["a?b", "a\nb"]),
            ("ROUTING_STRATEGY", ["fastest"]),
        ],
    )
    def test_refused_with_the_value_and_what_was_expected(self, name: str, texts: list[str]) -> None:
        expected = next(setting.kind.expected for setting in SETTINGS if setting.name == name)
        for text in texts:
            assert problems({name: text}) == (f"{name}={text!r}: expected {expected}",)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("LB_ADMIN_TOKEN", "pass phrase"),
            ("LB_CLIENT_TOKENS", "fine,not fine"),
            ("LB_CLIENT_TOKENS", "bell\x07"),
            ("LB_CLIENT_TOKENS", "schlüssel"),
            ("LB_DATABASE_URL", "postgres password@host"),
        ],
    )
    def test_refused_secrets_are_not_shown(self, name: str, text: str) -> None:
        (line,) = problems({name: text})
        assert line.startswith(f"{name}=***: expected ")
        assert text not in line

    @pytest.mark.parametrize(
        ("given_name", "strategy"),
        [
            ("ROUND_ROBIN", "round_robin"),
            ("RANDOM", "random"),
            ("LEAST_LOADED", "least_loaded"),
            ("load_balanced", "least_loaded"),
            ("least_connections", "least_loaded"),
            ("least_conn", "least_loaded"),
            ("failover", "priority"),
            ("Cost_Optimized", "cost"),
            ("latency_optimized", "latency"),
            ("weighted", "weighted"),
            ("percentage", "percentage"),
            ("priority", "priority"),
        ],
    )
    def test_routing_strategies_of_all_systems(self, given_name: str, strategy: str) -> None:
        assert load_settings({"ROUTING_STRATEGY": given_name}).routing_strategy == strategy

    @given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20)))
    def test_any_text_is_a_value_or_a_problem_of_one_line(self, environ: dict[str, str]) -> None:
        try:
            load_settings(environ)
        except SettingsError as error:
            assert 1 <= len(error.problems) <= len(environ)
            assert str(error).splitlines() == list(error.problems)

    def test_long_values_are_cut(self) -> None:
        (line,) = problems({"LB_LOG_LEVEL": "x" * 10_000})
        assert len(line) < 200


class TestNames:
    @pytest.mark.parametrize(
        ("alias", "text", "attribute", "value"),
        [
            ("LOAD_BALANCER_PORT", "8000", "port", 8000),
            ("HTTP_PORT", "8080", "port", 8080),
            ("CIRCUIT_BREAKER_THRESHOLD", "5", "fail_threshold", 5),
            ("CIRCUIT_BREAKER_TTL_SECS", "30", "cooldown_seconds", 30.0),
            ("REQUEST_TIMEOUT_SECS", "60", "default_timeout_seconds", 60.0),
            ("MAX_RETRIES", "0", "max_retries", 0),
            ("FAILURE_PENALTY_TTL_SECS", "30", "failure_memory_seconds", 30.0),
            ("MIN_HEALTHY_NODES", "2", "min_healthy_nodes", 2),
        ],
    )
    def test_older_names_are_read(self, alias: str, text: str, attribute: str, value: object) -> None:
        assert getattr(load_settings({alias: text}), attribute) == value

    def test_an_alias_with_the_same_value_is_no_problem(self) -> None:
        environ = {"LB_COOLDOWN_SECONDS": "30.0", "CIRCUIT_BREAKER_TTL_SECS": "30"}
        assert load_settings(environ).cooldown_seconds == 30.0

    def test_different_values_name_both(self) -> None:
        assert problems({"LB_PORT": "8090", "HTTP_PORT": "8080"}) == (
            "LB_PORT='8090' and HTTP_PORT='8080': names of one setting with different values; keep LB_PORT",
        )
        assert len(problems({"LOAD_BALANCER_PORT": "1", "HTTP_PORT": "2"})) == 1

    def test_a_bad_alias_is_called_by_the_name_given(self) -> None:
        (line,) = problems({"LB_PORT": "80", "HTTP_PORT": "x"})
        assert line.startswith("HTTP_PORT='x': expected")

    def test_all_problems_at_once(self) -> None:
        lines = problems({"LB_PORT": "x", "LB_QUEUE_SIZE": "-1", "LB_MAX_RETRIES": "1", "MAX_RETRIES": "3"})
        assert [line.split("=")[0] for line in lines] == ["LB_PORT", "LB_MAX_RETRIES", "LB_QUEUE_SIZE"]

    def test_unknown_variables_are_told_without_their_values(self) -> None:
        unknown = load_settings({"LB_PROT": "secret", "LB_DEFAULT_POOL": "secret", "PATH": "/bin"}).unknown
        assert unknown == ("LB_DEFAULT_POOL is not a setting", "LB_PROT is not a setting; did you mean LB_PORT?")


def test_settings_are_frozen_and_their_repr_shows_no_secret() -> None:
    settings = load_settings(
        {"LB_ADMIN_TOKEN": "s3cret-a", "LB_CLIENT_TOKENS": "s3cret-b", "LB_DATABASE_URL": "x://u:s3cret-c@h/d"}
    )
    assert "s3cret" not in repr(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]  # what the test is about


class TestOverview:
    def test_it_tells_what_is_in_force_and_where_it_came_from(self) -> None:
        environ = {"HTTP_PORT": "9000", "LB_MAX_RETRIES": "", "LB_LOG_LEVEL": "debug", "LB_COOLDOWN_SECONDS": "30.50"}
        file = {"HTTP_PORT": "9001", "LB_MAX_RETRIES": "7", "LB_FAIL_THRESHOLD": "5", "LB_RETRY_ON_TIMEOUT": "off"}
        shown = {each.name: each for each in overview(load_settings(environ, file))}
        assert list(shown) == NAMES
        found = {name: (each.value, each.source, each.variable) for name, each in shown.items() if each.variable}
        assert found == {
            "LB_PORT": ("9000", "environment", "HTTP_PORT"),
            "LB_LOG_LEVEL": ("DEBUG", "environment", "LB_LOG_LEVEL"),
            "LB_COOLDOWN_SECONDS": ("30.5", "environment", "LB_COOLDOWN_SECONDS"),
            "LB_FAIL_THRESHOLD": ("5", "file", "LB_FAIL_THRESHOLD"),
            "LB_RETRY_ON_TIMEOUT": ("false", "file", "LB_RETRY_ON_TIMEOUT"),
        }
        assert (shown["LB_COOLDOWN_SECONDS"].unit, shown["LB_COOLDOWN_SECONDS"].default) == ("seconds", "20")
        assert shown["LB_LOG_LEVEL"].choices == ["DEBUG", "INFO", "WARNING", "ERROR"]
        assert (shown["LB_MAX_RETRIES"].value, shown["LB_MAX_RETRIES"].source) == ("2", "default")

    def test_defaults_read_as_they_are_documented(self) -> None:
        for each in overview(Settings()):
            if each.name != "LB_ADMIN_TOKEN":
                assert (each.value, each.source) == (each.default, "default"), each.name

    def test_it_holds_no_secret(self) -> None:
        environ = {
            "LB_ADMIN_TOKEN": "s3cret-a",
            "LB_CLIENT_TOKENS": "s3cret-b",
            "LB_DATABASE_URL": "x://u:s3cret-c@h/d",
            "LB_SECRET_KEY": "s3cret-d-is-long-enough",
        }
        secrets = [each for each in overview(load_settings(environ)) if each.secret]
        assert [each.value for each in secrets] == ["***"] * 4
        assert "s3cret" not in repr(secrets)
        generated, *none = [each for each in overview(Settings()) if each.secret]
        assert (generated.value, generated.source) == ("***", "generated")
        assert [each.value for each in none] == ["", "", ""]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("SCAN_HOSTS", "gpu-1:8000,[fd00::1]:8000,fd00::2,10.0.0.1"),
            ("MAXCONN_MAP", "gpu-1:8000=4,[fd00::1]:9=0"),
            ("LB_TRUSTED_PROXIES", "10.0.0.0/8,fd00::/8"),
            ("MODEL_SENTINELS", "auto,any"),
            ("SCAN_PORTS", "1,65535"),
        ],
    )
    def test_lists_read_as_they_can_be_given_again(self, name: str, text: str) -> None:
        settings = load_settings({name: text})
        (shown,) = [each for each in overview(settings) if each.name == name]
        assert shown.value == text
        assert load_settings({name: shown.value}) == settings


class TestEnvFile:
    def test_lines(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text(
            "\ufeff# comment\n"
            "\n"
            "PLAIN=value\r\n"
            "  SPACED = two words  # comment\n"
            "export EXPORTED=1\n"
            "DOUBLE=\"a # b 'c'\"  # comment\n"
            "SINGLE='a \"b\" $c'\n"
            "HASH=a#b\n"
            "EMPTY=\n"
            "COMMENTED= # nothing\n"
            'QUOTED_EMPTY=""\n'
            "URL=postgresql+asyncpg://u:p@h/d?x=1\n"
            "TWICE=1\n"
            "TWICE=2",
            "utf-8",
        )
        assert read_env_file(path) == {
            "PLAIN": "value",
            "SPACED": "two words",
            "EXPORTED": "1",
            "DOUBLE": "a # b 'c'",
            "SINGLE": 'a "b" $c',
            "HASH": "a#b",
            "EMPTY": "",
            "COMMENTED": "",
            "QUOTED_EMPTY": "",
            "URL": "postgresql+asyncpg://u:p@h/d?x=1",
            "TWICE": "2",
        }

    def test_no_file_means_no_variables(self, tmp_path: Path) -> None:
        assert read_env_file(tmp_path / ".env") == {}

    def test_every_bad_line_is_named_without_its_content(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_text('GOOD=1\nsecret\nNAME=\'secret\n1X=secret\nNAME="secret"x\nMY-NAME=secret\n')
        with pytest.raises(SettingsError) as caught:
            read_env_file(path)
        assert caught.value.problems == tuple(f"{path}, line {n}: expected NAME=VALUE" for n in (2, 3, 4, 5, 6))

    def test_what_cannot_be_read_is_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"A=\xff\xfe")
        for path in (tmp_path, tmp_path / "binary"):
            with pytest.raises(SettingsError, match="cannot be read"):
                read_env_file(path)

    @given(values=st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text("ab =#'$\\")))
    def test_double_quotes_keep_anything_else(self, values: dict[str, str], env_file: Path) -> None:
        env_file.write_text("".join(f'{name}="{value}"\n' for name, value in values.items()))
        assert read_env_file(env_file) == values


class TestDocumentation:
    @pytest.mark.parametrize("name", [".env.example", "docs/configuration.md"])
    def test_files_are_as_written_from_the_table(self, written: dict[str, str], name: str) -> None:
        assert (ROOT / name).read_text("utf-8") == written[name], "run python -m scripts.configuration_docs"

    def test_the_example_in_force_is_the_defaults(self, written: dict[str, str], tmp_path: Path) -> None:
        path = tmp_path / ".env"
        lines = written[".env.example"].splitlines()
        path.write_text("\n".join(line[1:] if line[1:].split("=")[0] in NAMES else line for line in lines))
        environ = read_env_file(path)
        assert sorted(environ) == sorted(NAMES)
        assert load_settings(environ) == Settings()

    def test_page_and_help_name_every_setting_alias_and_default(self, written: dict[str, str]) -> None:
        page, text = written["docs/configuration.md"], help_text()
        for setting in SETTINGS:
            assert f"| `{setting.name}` | " in page and setting.help in page
            assert f"  {setting.name} (default: {setting.default or 'empty'})\n" in text
            assert setting.help in " ".join(text.split())
            for alias in setting.aliases:
                assert f"| `{alias}` | `{setting.name}` |" in page and alias in text
        assert max(map(len, text.splitlines())) <= 100
