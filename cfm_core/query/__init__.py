"""The predicate language: a text becomes a tree, the tree becomes SQL or a test of stored documents in memory.

Source: CFM wire contract, section 10.
"""

from cfm_core.query.conditions import holds, to_condition
from cfm_core.query.declared import DeclaredPath, IndexKind, index_expression
from cfm_core.query.fields import Column, Fields, Json, JsonArray, Kind
from cfm_core.query.memory import to_test
from cfm_core.query.page import JsonPage, Page
from cfm_core.query.parser import parse, parse_path
from cfm_core.query.sql import to_sql
from cfm_core.query.tree import Everything, Path, Predicate

__all__ = [
    "Column",
    "DeclaredPath",
    "Everything",
    "Fields",
    "IndexKind",
    "Json",
    "JsonArray",
    "JsonPage",
    "Kind",
    "Page",
    "Path",
    "Predicate",
    "holds",
    "index_expression",
    "parse",
    "parse_path",
    "to_condition",
    "to_sql",
    "to_test",
]
