"""Entities as texts, as both managers give them."""

from __future__ import annotations

from cfm_core.entities import JsonEntity, JsonText, array_of, json_of

__all__ = ["JsonEntity", "JsonText", "array_of", "json_of"]
