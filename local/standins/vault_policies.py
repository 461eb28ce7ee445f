"""What the stand-in vault's policies allow: the part of their language that consists of paths and capabilities.

Source: dataspace service contracts, section 10.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CAPABILITIES = frozenset({"create", "read", "update", "patch", "delete", "list", "sudo", "deny"})

_COMMENT = re.compile(r"^\s*(#|//).*$", re.MULTILINE)
_RULE = re.compile(r'\s*path\s+("(?:[^"\\]|\\.)*")\s*\{\s*capabilities\s*=\s*(\[[^\]]*\])\s*\}\s*')
_ALIAS = re.compile(r"\{\{\s*identity\.entity\.aliases\.(?P<accessor>[\w-]+)\.name\s*\}\}")


class PolicyError(Exception):
    """A text is no policy."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``path`` may hold ``+`` for a segment, end with ``*``, and hold the alias of whoever asks."""

    path: str
    capabilities: frozenset[str]


def parsed(text: str) -> tuple[Rule, ...]:
    """Read a policy.

    Raises:
        PolicyError: it is none.
    """
    text = _COMMENT.sub("", text)
    rules, at = [], 0
    while text[at:].strip():
        found = _RULE.match(text, at)
        if found is None:
            raise PolicyError(f"failed to parse policy: At {text[:at].count(chr(10)) + 1}: expected a path")
        try:
            capabilities = json.loads(re.sub(r",\s*\]$", "]", found[2]))
            path = json.loads(found[1])
        except ValueError:
            raise PolicyError(f"failed to parse policy: At {text[:at].count(chr(10)) + 1}: no list") from None
        for one in capabilities:
            if one not in CAPABILITIES:
                raise PolicyError(f'failed to parse policy: path "{path}": invalid capability "{one}"')
        rules.append(Rule(path, frozenset(capabilities)))
        at = found.end()
    return tuple(rules)


def allows(rules: Iterable[Rule], aliases: Mapping[str, str], path: str, capability: str) -> bool:
    """Whether somebody with these rules may do this; the rule that fits most closely decides.

    Args:
        aliases: the names by which each login method, told by its accessor, knows whoever asks.
    """
    fitting: dict[str, set[str]] = {}
    for rule in rules:
        pattern = _filled(rule.path, aliases)
        if pattern is not None and _fits(pattern, path):
            fitting.setdefault(pattern, set()).update(rule.capabilities)
    if not fitting:
        return False
    capabilities = fitting[max(fitting, key=_closeness)]
    return capability in capabilities and "deny" not in capabilities


def _filled(path: str, aliases: Mapping[str, str]) -> str | None:
    for found in _ALIAS.finditer(path):
        if found["accessor"] not in aliases:
            return None
    return _ALIAS.sub(lambda found: aliases[found["accessor"]], path)


def _fits(pattern: str, path: str) -> bool:
    any_end = pattern.endswith("*")
    expression = re.escape(pattern.removesuffix("*")).replace(r"\+", "[^/]+")
    return re.fullmatch(expression + (".*" if any_end else ""), path) is not None


def _closeness(pattern: str) -> tuple[float, bool, int, int, str]:
    wildcard = re.search(r"[+*]", pattern)
    return (
        wildcard.start() if wildcard else float("inf"),
        not pattern.endswith("*"),
        -pattern.count("+"),
        len(pattern),
        pattern,
    )
