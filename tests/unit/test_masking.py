from __future__ import annotations

import json
from typing import Any

import pytest

from cfm_core.masking import (
    is_secret,
    marked_keys,
    masked,
    masked_json,
    masked_pointer,
    masked_text,
)


@pytest.mark.parametrize(
    "key",
    [
        *("password", "PASSWORD", "db.password", "dbPassword", "client-secret", "clientSecret", "client_secrets"),
        *("token", "accessToken", "tokenValue", "apiKey", "api-key", "api_key", "API_KEY", "apikey", "x.apiKey.v1"),
        *("privateKey", "signing.private-key", "accessKeyId", "cfm.oauth.token", "APIKey", "Secret1"),
    ],
)
def test_keys_of_secrets_are_known_by_their_words(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["tokenizer", "secretary", "compassword", "keyApi", "publicKey", "key", "holderPid", "", "monkeyPrivate", "ключ"],
)
def test_other_keys_are_not(key: str) -> None:
    assert not is_secret(key)
    assert is_secret(key, {key})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *(("hunter2", "***"), (12, "***"), (0, "***"), (1.5, "***"), (["a"], "***"), ({"a": "b"}, "***")),
        *((None, None), (True, True), (False, False), ("", ""), ([], []), ({}, {})),
        ("vault:v1/participants#secret", "vault:v1/participants#secret"),
    ],
)
def test_values_of_secrets_are_masked_and_references_shown(value: Any, shown: Any) -> None:
    assert masked({"list": [{"password": value}]}) == {"list": [{"password": shown}]}


def test_what_is_masked_stays_as_it_was_for_whoever_has_it() -> None:
    data = {"outer": {"token": "t", "kept": [1, "two"]}}
    assert masked(data) == {"outer": {"token": "***", "kept": [1, "two"]}}
    assert data["outer"]["token"] == "t"


def test_schemas_mark_properties_at_any_depth() -> None:
    schema = {
        "properties": {
            "pin": {"type": "string", "writeOnly": True},
            "phrase": {"format": "password"},
            "shown": {"writeOnly": False, "format": "uri"},
            "writeOnly": {"type": "boolean"},
            "outer": {"properties": {"inner": {"writeOnly": True}}},
            "list": {"items": {"$ref": "#/$defs/one"}},
            "any": True,
        },
        "$defs": {"one": {"allOf": [{"properties": {"deep": {"writeOnly": True}}}]}},
    }
    marked = set(marked_keys(schema))
    assert marked == {"pin", "phrase", "inner", "deep"}
    assert masked({"pin": "1", "shown": "s", "outer": {"inner": 2}}, marked) == {
        "pin": "***",
        "shown": "s",
        "outer": {"inner": "***"},
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("refused password=hunter2, try again", "refused password=***, try again"),
        ("GET https://x/y?token=abc.def&b=1 failed", "GET https://x/y?token=***&b=1 failed"),
        ('answered {"clientSecret": "a b", "x": 1}', 'answered {"clientSecret": "***", "x": 1}'),
        (r'said "{\"token\":\"abc\"}"', r'said "{\"token\":\"***\"}"'),
        ("config {'apiKey': 'k'}", "config {'apiKey': '***'}"),
        ("password: hunter2", "password: ***"),
        ("password: hunter2; user: ann", "password: ***; user: ann"),
        ("Authorization: Bearer eyJhbGciOi.eyJzdWIi.c2ln was refused", "Authorization: Bearer *** was refused"),
        (
            "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----",
            "-----BEGIN EC PRIVATE KEY-----***-----END EC PRIVATE KEY-----",
        ),
        ("pin=1234", "pin=***"),
        *(
            (text, text)
            for text in (
                "invalid input: /values/password: the value is not a string",
                "cannot fetch the token: connection refused by peer",
                "password=vault:v1/x",
                "tokenizer=5",
                "activity a (t.token): the agent is away",
                "",
            )
        ),
    ],
)
def test_texts_are_shown_without_what_they_say_to_be_a_secret(text: str, shown: str) -> None:
    assert masked_text(text, {"pin"}) == shown


def test_a_document_without_secrets_is_shown_as_it_was_written() -> None:
    text = '{"a": 1e3, "b": "ü"}'
    assert masked_json(text) == text
    assert json.loads(masked_json('[{"token":"ü","b":"ü"}]')) == [{"token": "***", "b": "ü"}]


def test_a_mask_that_is_sent_back_is_found() -> None:
    assert masked_pointer({"a": [{"x/y": {"token": "***"}}]}) == "/a/0/x~1y/token"
    assert masked_pointer({"a": "***", "token": "t"}) is None
    assert masked_pointer({"pin": "***"}, {"pin"}) == "/pin"


def test_a_long_text_is_looked_at_in_no_time() -> None:
    text = "a" * 1_000_000 + " token=" + "b" * 1_000_000
    assert masked_text(text).endswith(" token=***")
    assert masked_text("token-" * 200_000) == "token-" * 200_000
    assert masked_text('"' * 200_000 + "=" * 200_000) == '"' * 200_000 + "=" * 200_000
