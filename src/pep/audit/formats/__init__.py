"""
Audit records in the formats of others; each a pure function of a record, one file per format.

Imports the record and what tells its severity.
"""

from __future__ import annotations

from pep.audit.formats.cef import to_cef
from pep.audit.formats.cloudevents import to_cloudevents
from pep.audit.formats.common import to_line
from pep.audit.formats.ecs import to_ecs
from pep.audit.formats.ocsf import to_ocsf

__all__ = ["to_cef", "to_cloudevents", "to_ecs", "to_line", "to_ocsf"]
