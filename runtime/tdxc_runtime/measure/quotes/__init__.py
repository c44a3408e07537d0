"""TD quotes and TD reports: parsed from untrusted bytes, verified offline, written for tests."""

from .body import TdBody as TdBody
from .collateral import Collateral as Collateral
from .collateral import parse_collateral as parse_collateral
from .quote import Quote as Quote
from .quote import parse_quote as parse_quote
from .quote import write_quote as write_quote
from .report import TdReport as TdReport
from .report import check_td_report as check_td_report
from .report import parse_td_report as parse_td_report
from .report import write_td_report as write_td_report
from .tcb import TcbStatus as TcbStatus
from .verify import QuoteVerification as QuoteVerification
from .verify import verify_quote as verify_quote
