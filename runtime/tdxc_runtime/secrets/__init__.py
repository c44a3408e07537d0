"""Sending secrets to a guest that has proven what it is."""

from tdxc_runtime.secrets.client import GuestConnection as GuestConnection
from tdxc_runtime.secrets.client import as_line as as_line
from tdxc_runtime.secrets.client import as_list as as_list
from tdxc_runtime.secrets.client import connect as connect
from tdxc_runtime.secrets.proof import QuoteAnswer as QuoteAnswer
from tdxc_runtime.secrets.proof import expected_report_data as expected_report_data
from tdxc_runtime.secrets.proof import prove as prove
