"""Event logs of TDs and TPMs: untrusted bytes parsed, explained, checked against themselves, and written for tests."""

from tdxc_runtime.measure.logs.ccel import CcelTable as CcelTable
from tdxc_runtime.measure.logs.ccel import is_ccel_table as is_ccel_table
from tdxc_runtime.measure.logs.ccel import parse_ccel_table as parse_ccel_table
from tdxc_runtime.measure.logs.ccel import write_ccel_table as write_ccel_table
from tdxc_runtime.measure.logs.consistency import Inconsistency as Inconsistency
from tdxc_runtime.measure.logs.consistency import inconsistencies as inconsistencies
from tdxc_runtime.measure.logs.consistency import is_checkable as is_checkable
from tdxc_runtime.measure.logs.data import EventData as EventData
from tdxc_runtime.measure.logs.data import parse_event_data as parse_event_data
from tdxc_runtime.measure.logs.describe import describe as describe
from tdxc_runtime.measure.logs.device_path import device_path_text as device_path_text
from tdxc_runtime.measure.logs.model import EventLog as EventLog
from tdxc_runtime.measure.logs.model import LogEvent as LogEvent
from tdxc_runtime.measure.logs.model import LogFault as LogFault
from tdxc_runtime.measure.logs.model import LogFormat as LogFormat
from tdxc_runtime.measure.logs.model import LogKind as LogKind
from tdxc_runtime.measure.logs.model import by_register as by_register
from tdxc_runtime.measure.logs.model import index_of as index_of
from tdxc_runtime.measure.logs.model import register_of as register_of
from tdxc_runtime.measure.logs.parse import parse_event_log as parse_event_log
from tdxc_runtime.measure.logs.write import spec_id_data as spec_id_data
from tdxc_runtime.measure.logs.write import write_event_log as write_event_log
from tdxc_runtime.measure.logs.write import write_sha1_log as write_sha1_log
