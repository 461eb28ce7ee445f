"""The predicate language: a text becomes a tree, the tree becomes SQL or a test of stored documents in memory.

Source: CFM wire contract, section 10.
"""

from cfm_core.query.fields import Column, Fields, Json, JsonArray, Kind
from cfm_core.query.memory import to_test
from cfm_core.query.page import JsonPage, Page
from cfm_core.query.parser import parse
from cfm_core.query.sql import to_sql
from cfm_core.query.tree import Everything, Predicate

__all__ = [
    "Column",
    "Everything",
    "Fields",
    "Json",
    "JsonArray",
    "JsonPage",
    "Kind",
    "Page",
    "Predicate",
    "parse",
    "to_sql",
    "to_test",
]
