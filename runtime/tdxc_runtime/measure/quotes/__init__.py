"""TD quotes and TD reports: parsed from untrusted bytes, verified offline, written for tests."""

from tdxc_runtime.measure.quotes.body import TdBody as TdBody
from tdxc_runtime.measure.quotes.collateral import Collateral as Collateral
from tdxc_runtime.measure.quotes.collateral import parse_collateral as parse_collateral
from tdxc_runtime.measure.quotes.quote import Quote as Quote
from tdxc_runtime.measure.quotes.quote import parse_quote as parse_quote
from tdxc_runtime.measure.quotes.quote import write_quote as write_quote
from tdxc_runtime.measure.quotes.report import TdReport as TdReport
from tdxc_runtime.measure.quotes.report import check_td_report as check_td_report
from tdxc_runtime.measure.quotes.report import is_td_report as is_td_report
from tdxc_runtime.measure.quotes.report import parse_td_report as parse_td_report
from tdxc_runtime.measure.quotes.report import write_td_report as write_td_report
from tdxc_runtime.measure.quotes.tcb import TcbStatus as TcbStatus
from tdxc_runtime.measure.quotes.verify import QuoteVerification as QuoteVerification
from tdxc_runtime.measure.quotes.verify import verify_quote as verify_quote
