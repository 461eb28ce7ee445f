"""Secrets reach the activity that declares them, and nothing that an activity leaves behind."""

from __future__ import annotations

import json
import logging

import pytest

from cfm_core.agent import ActivityContext, ActivityEnvironment, ActivityResult, Complete, Fatal, Retry, activity
from cfm_core.errors import FatalError

VALUE = 'correct "horse" battery'


@activity("unit.with-secret", secrets=["hub"])
class WithSecret:
    def __init__(self, where: str = "") -> None:
        self._where = where

    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        secret = ctx.secrets["hub"]
        assert secret == VALUE
        match self._where:
            case "value":
                ctx.set_value("copy", {"nested": f"x{secret}x"})
            case "error":
                raise ValueError(f"wrong password {secret}")
            case "quoted error":
                raise ValueError(json.dumps({"password": secret}))
            case "other":
                ctx.secrets["not-declared"]
            case "log":
                ctx.log.info("%s", ctx.secrets)
        return Complete()


def environment() -> ActivityEnvironment:
    return ActivityEnvironment(secrets={"hub": VALUE, "not-declared": "something else"})


def test_a_declared_secret_is_given() -> None:
    assert environment().run(WithSecret()) == Complete()


def test_a_secret_that_is_not_declared_is_refused() -> None:
    assert environment().run(WithSecret("other")) == Fatal(
        "activity unit.with-secret does not declare the secret 'not-declared'; name it in secrets=[...]"
    )


def test_a_secret_that_does_not_exist_is_named() -> None:
    assert ActivityEnvironment().run(WithSecret()) == Fatal("no secret 'hub'")


@pytest.mark.parametrize("where", ["error", "quoted error"])
def test_a_secret_in_the_text_of_an_error_is_blacked_out(where: str) -> None:
    result = environment().run(WithSecret(where))
    assert isinstance(result, Retry)
    assert "battery" not in result.reason
    assert "[secret hub]" in result.reason


def test_a_secret_cannot_become_a_value() -> None:
    env = environment()
    assert env.run(WithSecret("value")) == Fatal("value 'copy' holds the secret 'hub'; pass its name on, not its value")
    assert env.values == {}


def test_a_secret_does_not_get_into_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    env = environment()
    env.run(WithSecret("log"))
    result = env.run(WithSecret("error"))
    assert isinstance(result, Retry)
    assert "[secret hub]" in caplog.text
    assert VALUE not in caplog.text


def test_a_secret_does_not_get_into_the_reason() -> None:
    assert environment().run(WithSecret("error")) == Retry("ValueError: wrong password [secret hub]")


@activity("unit.with-references", secrets=["vault:participants/*", "vault:secret/hub#key"])
class WithReferences:
    def deploy(self, ctx: ActivityContext) -> ActivityResult:
        ctx.set_output("length", len(ctx.secrets[ctx.values["credentials"]]))
        return Complete()


@pytest.mark.parametrize("reference", ["vault:participants/acme/dns#password", "vault:secret/hub#key"])
def test_a_reference_among_the_values_is_read_where_it_is_declared(reference: str) -> None:
    env = ActivityEnvironment(values={"credentials": reference}, secrets={reference: VALUE})
    assert env.run(WithReferences()) == Complete()
    assert env.outputs == {"length": len(VALUE)}


@pytest.mark.parametrize(
    "reference",
    [
        "vault:secret/keycloak/admin#content",
        "vault:secret/hub#other",
        "vault:participants/../secret/keycloak#content",
        "vault:participants/*",
        "vault:participants/acme",
        "vault:participants2/acme#a",
        "hub",
    ],
)
def test_a_reference_to_anything_else_is_refused(reference: str) -> None:
    env = ActivityEnvironment(values={"credentials": reference}, secrets={reference: VALUE})
    result = env.run(WithReferences())
    assert isinstance(result, Fatal)
    assert "does not declare the secret" in result.reason


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "vault:*", "vault:/*", "vault:a", "vault:a/b", "vault:a/b*"])
def test_a_name_that_no_store_can_have_cannot_be_declared(name: str) -> None:
    with pytest.raises(FatalError, match="Wrong declares a secret that no store can have"):

        @activity("unit.wrong", secrets=[name])
        class Wrong:
            def deploy(self, ctx: ActivityContext) -> ActivityResult:
                return Complete()
