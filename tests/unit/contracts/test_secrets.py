from __future__ import annotations

import pytest

from cfm_core.contracts.secrets import SecretReference
from cfm_core.errors import ValidationError


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("vault:secret/a#content", SecretReference("secret", "a")),
        ("vault:participants/a/b c#x#y", SecretReference("participants", "a/b c", "x#y")),
    ],
)
def test_a_reference_is_read_and_written(text: str, reference: SecretReference) -> None:
    assert SecretReference.parse(text) == reference
    assert str(reference) == text


@pytest.mark.parametrize("text", ["", "a/b#c", "vault:a#c", "vault:/b#c", "vault:a//b#c", "vault:a/b", "vault:a/b/#c"])
def test_what_is_none_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ValidationError, match="is no"):
        SecretReference.parse(text)


def test_a_name_without_mount_is_a_path_of_the_given_one() -> None:
    assert SecretReference.named("a/b", "mine") == SecretReference("mine", "a/b", "content")
    assert SecretReference.named("vault:other/a#f", "mine") == SecretReference("other", "a", "f")
