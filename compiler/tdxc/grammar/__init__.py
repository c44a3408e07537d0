"""The small languages that recipes contain: firewall rules, kernel .config, INI files, sizes.

Each has a lark grammar beside its module, which defines the language and words its errors. Parsers that run on every
compile have a regular expression in front for the plain spellings, so that lark is imported only for unusual or wrong
text; tests hold both to the same answers. INI files, which few commands read, are imported from ``tdxc.grammar.ini``.
"""

from tdxc.grammar.firewall import parse_rule as parse_rule
from tdxc.grammar.firewall import print_rule as print_rule
from tdxc.grammar.kconfig import check_option as check_option
from tdxc.grammar.kconfig import parse_kconfig as parse_kconfig
from tdxc.grammar.kconfig import print_option as print_option
from tdxc.grammar.size import format_size as format_size
from tdxc.grammar.size import parse_size as parse_size
