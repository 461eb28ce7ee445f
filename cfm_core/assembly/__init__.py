"""The service assembler: composes the runtime of a process from modules that declare what they provide and require."""

from cfm_core.assembly.assembler import AssemblyError, InitContext, ServiceAssembler, ServiceAssembly
from cfm_core.assembly.registry import ServiceRegistry
from cfm_core.assembly.service_type import ServiceType

__all__ = ["AssemblyError", "InitContext", "ServiceAssembler", "ServiceAssembly", "ServiceRegistry", "ServiceType"]
