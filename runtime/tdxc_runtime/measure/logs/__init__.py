"""Event logs of TDs and TPMs: untrusted bytes parsed, explained, checked against themselves, and written for tests."""

from .ccel import CcelTable as CcelTable
from .ccel import is_ccel_table as is_ccel_table
from .ccel import parse_ccel_table as parse_ccel_table
from .ccel import write_ccel_table as write_ccel_table
from .consistency import Inconsistency as Inconsistency
from .consistency import inconsistencies as inconsistencies
from .consistency import is_checkable as is_checkable
from .data import EventData as EventData
from .data import parse_event_data as parse_event_data
from .describe import describe as describe
from .device_path import device_path_text as device_path_text
from .model import EventLog as EventLog
from .model import LogEvent as LogEvent
from .model import LogFault as LogFault
from .model import LogFormat as LogFormat
from .model import LogKind as LogKind
from .model import index_of as index_of
from .model import register_of as register_of
from .parse import parse_event_log as parse_event_log
from .write import spec_id_data as spec_id_data
from .write import write_event_log as write_event_log
from .write import write_sha1_log as write_sha1_log
